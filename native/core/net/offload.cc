#include "net/offload.h"

#include <algorithm>
#include <cstring>

namespace hv::net {
namespace {

using Bytes = std::span<std::uint8_t>;

constexpr std::uint16_t kIpv4 = 0x0800, kIpv6 = 0x86dd, kVlan = 0x8100, kServiceVlan = 0x88a8;
constexpr std::uint8_t kTcp = 6;
// RFC 9293, "Header Format": flags in byte 13. RFC 3168: CWR.
constexpr std::uint8_t kFin = 0x01, kPush = 0x08, kCongestionReduced = 0x80;
constexpr std::size_t kMostHeaders = 256;

std::uint16_t get16(std::span<const std::uint8_t> from, std::size_t at) {
  return static_cast<std::uint16_t>(from[at] << 8 | from[at + 1]);
}
std::uint32_t get32(std::span<const std::uint8_t> from, std::size_t at) {
  return std::uint32_t{get16(from, at)} << 16 | get16(from, at + 2);
}
void put16(Bytes to, std::size_t at, std::size_t value) {
  to[at] = static_cast<std::uint8_t>(value >> 8);
  to[at + 1] = static_cast<std::uint8_t>(value);
}
void put32(Bytes to, std::size_t at, std::uint32_t value) {
  put16(to, at, value >> 16);
  put16(to, at + 2, value);
}

// Where the headers of a TCP segment are.
struct Layout {
  bool six = false;
  std::size_t ip = 0, tcp = 0, payload = 0;
};

bool find_network(std::span<const std::uint8_t> frame, std::uint16_t& type, std::size_t& at) {
  at = kEthernet;
  if (frame.size() < at) return false;
  type = get16(frame, at - 2);
  for (int tags = 0; type == kVlan || type == kServiceVlan; ++tags) {
    if (tags == 2 || frame.size() < at + 4) return false;
    type = get16(frame, at + 2);
    at += 4;
  }
  return true;
}

// `transport`: where the guest says that TCP begins; IPv6 extension headers are then no matter.
bool find_headers(std::span<const std::uint8_t> frame, std::size_t transport, Layout& out) {
  std::uint16_t type = 0;
  if (!find_network(frame, type, out.ip)) return false;
  out.six = type == kIpv6;
  if (!out.six && type != kIpv4) return false;
  const std::size_t least = out.ip + (out.six ? 40 : 20);
  if (transport < least || frame.size() < transport + 20) return false;
  if (!out.six) {
    const std::size_t length = std::size_t{4} * (frame[out.ip] & 15u);
    if (out.ip + length != transport || frame[out.ip + 9] != kTcp) return false;
  }
  out.tcp = transport;
  const std::size_t length = std::size_t{4} * (frame[out.tcp + 12] >> 4);
  out.payload = out.tcp + length;
  return length >= 20 && out.payload <= frame.size() && out.payload <= kMostHeaders;
}

std::uint16_t complement(std::uint16_t sum) { return static_cast<std::uint16_t>(~sum); }

// RFC 9293 and RFC 8200, pseudo-headers: addresses, length, protocol.
std::uint32_t pseudo(std::span<const std::uint8_t> head, const Layout& at, std::size_t length) {
  const auto addresses = at.six ? head.subspan(at.ip + 8, 32) : head.subspan(at.ip + 12, 8);
  return add_checksum(addresses, static_cast<std::uint32_t>(length) + kTcp);
}

struct Segment {
  std::size_t index, offset, length;
  bool last;
};

void finish_ip(Bytes head, const Layout& at, const Segment& segment) {
  const std::size_t length = at.payload + segment.length - at.ip;
  if (at.six) {
    put16(head, at.ip + 4, length - 40);
    return;
  }
  put16(head, at.ip + 2, length);
  put16(head, at.ip + 4, get16(head, at.ip + 4) + segment.index);
  put16(head, at.ip + 10, 0);
  put16(head, at.ip + 10, complement(add_checksum(head.subspan(at.ip, at.tcp - at.ip), 0)));
}

void finish_tcp(Bytes head, const Layout& at, const Segment& segment, Bytes payload) {
  std::uint8_t& flags = head[at.tcp + 13];
  if (!segment.last) flags &= static_cast<std::uint8_t>(~(kFin | kPush));
  if (segment.index > 0) flags &= static_cast<std::uint8_t>(~kCongestionReduced);
  const auto sequence = get32(head, at.tcp + 4) + static_cast<std::uint32_t>(segment.offset);
  put32(head, at.tcp + 4, sequence);
  put16(head, at.tcp + 16, 0);
  std::uint32_t sum = pseudo(head, at, at.payload - at.tcp + segment.length);
  sum = add_checksum(head.subspan(at.tcp, at.payload - at.tcp), sum);
  put16(head, at.tcp + 16, complement(add_checksum(payload, sum)));
}

// VIRTIO 1.2, "Device Requirements: Packet Transmission": a large segment has its checksum left to do.
bool find_segment(const Header& header, std::span<const std::uint8_t> frame, Layout& at) {
  if (header.gso_size == 0 || !(header.flags & kNeedsChecksum)) return false;
  const bool six = (header.gso_type & ~kGsoEcn) == kGsoTcp6;
  return find_headers(frame, header.csum_start, at) && at.six == six;
}

bool cut(const Header& header, Bytes frame, const Emit& emit) {
  Layout at;
  if (!find_segment(header, frame, at)) return false;
  std::array<std::uint8_t, kMostHeaders> original{};
  std::copy_n(frame.begin(), at.payload, original.begin());
  const std::size_t all = frame.size() - at.payload;
  for (std::size_t offset = 0, index = 0; offset < all || index == 0; ++index) {
    const std::size_t length = std::min<std::size_t>(header.gso_size, all - offset);
    const Segment segment{index, offset, length, offset + length == all};
    // The headers go right before their payload, over bytes that have been given out already.
    Bytes whole = frame.subspan(offset, at.payload + length);
    std::copy_n(original.begin(), at.payload, whole.begin());
    finish_ip(whole, at, segment);
    finish_tcp(whole, at, segment, whole.subspan(at.payload));
    emit(whole);
    offset += length;
    if (length == 0) break;
  }
  return true;
}

bool has_sum(const Header& header, std::size_t frame) {
  const std::size_t from = header.csum_start, at = from + header.csum_offset;
  return from < frame && at + 2 <= frame;
}

bool sum_up(const Header& header, Bytes frame) {
  const std::size_t from = header.csum_start, at = from + header.csum_offset;
  if (!has_sum(header, frame.size())) return false;
  // The field holds the pseudo-header's sum, so that it is part of what is added up.
  std::uint16_t sum = complement(add_checksum(frame.subspan(from), 0));
  put16(frame, at, sum == 0 ? 0xffff : sum);  // RFC 768: 0 says that there is none
  return true;
}

}  // namespace

std::uint16_t add_checksum(std::span<const std::uint8_t> bytes, std::uint32_t start) {
  // Sums of native words are sums of swapped ones, swapped (RFC 1071, 2(B)); carries are added last.
  std::uint64_t sum = 0;
  std::size_t at = 0;
  for (; at + 8 <= bytes.size(); at += 8) {
    std::uint32_t words[2];
    std::memcpy(words, bytes.data() + at, 8);
    sum += std::uint64_t{words[0]} + words[1];
  }
  for (; at + 2 <= bytes.size(); at += 2) {
    std::uint16_t word = 0;
    std::memcpy(&word, bytes.data() + at, 2);
    sum += word;
  }
  if (at < bytes.size()) sum += bytes[at];
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum >> 8 | sum << 8) & 0xffff;  // little-endian hosts
  sum += start;
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<std::uint16_t>(sum);
}

std::optional<unsigned> needs(const Header& header, std::span<const std::uint8_t> frame) {
  unsigned out = 0;
  if (header.flags & kNeedsChecksum) {
    if (!has_sum(header, frame.size())) return std::nullopt;
    out |= kChecksum;
  }
  if (header.gso_type == kGsoNone) return out;
  const int kind = header.gso_type & ~kGsoEcn;
  Layout at;
  if ((kind != kGsoTcp4 && kind != kGsoTcp6) || !find_segment(header, frame, at))
    return std::nullopt;
  return out | (at.six ? kTcp6 : kTcp4) | (header.gso_type & kGsoEcn ? kEcn : 0u);
}

bool finish(const Header& header, std::span<std::uint8_t> frame, const Emit& emit) {
  switch (header.gso_type & ~kGsoEcn) {
    case kGsoNone:
      if (header.flags & kNeedsChecksum && !sum_up(header, frame)) return false;
      emit(frame);
      return true;
    case kGsoTcp4:
    case kGsoTcp6:
      return cut(header, frame, emit);
    default:
      return false;
  }
}

}  // namespace hv::net

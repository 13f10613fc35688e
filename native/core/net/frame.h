// A frame on its way between a guest and the host, and the header that says what is still to be done
// to it: VIRTIO 1.2, "Network Device", "Device Operation".
#pragma once
#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace hv::net {

// struct virtio_net_hdr. Hosts are little-endian, as the header is.
struct Header {
  std::uint8_t flags = 0;
  std::uint8_t gso_type = 0;
  std::uint16_t hdr_len = 0;
  std::uint16_t gso_size = 0;
  std::uint16_t csum_start = 0;
  std::uint16_t csum_offset = 0;
  std::uint16_t num_buffers = 0;  // absent in the 10 bytes of the legacy interface
};
static_assert(sizeof(Header) == 12);

inline constexpr std::uint8_t kNeedsChecksum = 1, kDataValid = 2;                      // flags
inline constexpr std::uint8_t kGsoNone = 0, kGsoTcp4 = 1, kGsoUdp = 3, kGsoTcp6 = 4;  // gso_type
inline constexpr std::uint8_t kGsoEcn = 0x80;

// What one side accepts of the other: a checksum left to do, and frames to be cut up.
enum Offload : unsigned {
  kChecksum = 1,
  kTcp4 = 2,
  kTcp6 = 4,
  kEcn = 8,
  kUdp = 16,
};
inline constexpr unsigned kSoftwareOffloads = kChecksum | kTcp4 | kTcp6 | kEcn;

inline constexpr std::size_t kEthernet = 14;
inline constexpr std::size_t kMacBytes = 6;
using Mac = std::array<std::uint8_t, kMacBytes>;
// An Ethernet header with one tag, and the largest IP packet.
inline constexpr std::size_t kMostFrame = kEthernet + 4 + 65535;
// IOV_MAX of Linux and macOS, less the header's.
inline constexpr std::size_t kMostPieces = 1023;

// Copies bytes [from, from + out.size()) of scattered ones; how many there were.
std::size_t gather(std::span<const iovec> pieces, std::size_t from, std::span<std::uint8_t> out);
// Copies into scattered room; how many fitted.
std::size_t scatter(std::span<const std::uint8_t> bytes, std::span<const iovec> room);
std::size_t total(std::span<const iovec> pieces);

}  // namespace hv::net

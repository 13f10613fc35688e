#include "net/capture.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

namespace hv::net {
namespace {

constexpr std::uint32_t kSection = 0x0a0d0d0a, kInterface = 1, kPacket = 6;
constexpr std::uint32_t kByteOrder = 0x1a2b3c4d, kVersion = 1;
constexpr std::uint32_t kLinkEthernet = 1;
constexpr std::uint32_t kOptionName = 2, kOptionResolution = 9, kOptionFlags = 2;
constexpr std::uint8_t kNanoseconds = 9;
constexpr std::size_t kFlushAt = 64 * 1024;
constexpr std::size_t kPacketOverhead = 44;

constexpr std::uint32_t padded(std::size_t length) {
  return static_cast<std::uint32_t>((length + 3) & ~std::size_t{3});
}

}  // namespace

Capture::Capture(int fd, const std::string& name, std::uint64_t limit, std::uint32_t snap)
    : fd_{fd}, limit_{limit}, snap_{snap} {
  for (const std::uint32_t word : {kSection, 28u, kByteOrder, kVersion, ~0u, ~0u, 28u}) put32(word);
  const std::uint32_t length = 36 + padded(name.size());
  for (const std::uint32_t word : {kInterface, length, kLinkEthernet, snap_}) put32(word);
  put32(kOptionName | static_cast<std::uint32_t>(name.size()) << 16);
  buffer_.insert(buffer_.end(), name.begin(), name.end());
  pad();
  for (const std::uint32_t word : {kOptionResolution | 1u << 16, std::uint32_t{kNanoseconds}, 0u})
    put32(word);
  put32(length);
}

Capture::~Capture() {
  flush();
  ::close(fd_);
}

void Capture::put32(std::uint32_t value) {
  const auto* const bytes = reinterpret_cast<const std::uint8_t*>(&value);
  buffer_.insert(buffer_.end(), bytes, bytes + sizeof(value));
}

void Capture::pad() { buffer_.resize(padded(buffer_.size())); }

void Capture::end(std::string why) {
  if (ended_.empty()) ended_ = std::move(why);
  buffer_.clear();
}

void Capture::frame(Way way, std::span<const iovec> frame, std::size_t length) {
  if (!ended_.empty()) return;
  const std::size_t kept = std::min<std::size_t>(length, snap_);
  const std::uint32_t block = padded(kept) + kPacketOverhead;
  if (bytes() + block > limit_) {
    flush();
    return end("its limit is reached");
  }
  const auto since = std::chrono::system_clock::now().time_since_epoch();
  const auto now = static_cast<std::uint64_t>(std::chrono::nanoseconds{since}.count());
  for (const std::uint32_t word :
       {kPacket, block, 0u, static_cast<std::uint32_t>(now >> 32), static_cast<std::uint32_t>(now),
        static_cast<std::uint32_t>(kept), static_cast<std::uint32_t>(length)})
    put32(word);
  const std::size_t at = buffer_.size();
  buffer_.resize(at + kept);
  gather(frame, 0, std::span{buffer_}.subspan(at));
  pad();
  for (const std::uint32_t word :
       {kOptionFlags | 4u << 16, static_cast<std::uint32_t>(way), 0u, block})
    put32(word);
  ++frames_;
  if (buffer_.size() >= kFlushAt) flush();
}

void Capture::flush() {
  std::size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t part = ::write(fd_, buffer_.data() + done, buffer_.size() - done);
    if (part < 0 && errno == EINTR) continue;
    if (part <= 0) return end(std::string{"it cannot be written: "} + std::strerror(errno));
    done += static_cast<std::size_t>(part);
  }
  written_ += done;
  buffer_.clear();
}

}  // namespace hv::net

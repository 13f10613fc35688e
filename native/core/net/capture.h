// A file of the frames that pass, for Wireshark and its like: pcapng (IETF draft-ietf-opsawg-pcapng),
// one interface, nanoseconds of the host's clock.
#pragma once
#include <string>
#include <vector>

#include "net/frame.h"

namespace hv::net {

class Capture {
 public:
  enum class Way : std::uint32_t { kIn = 1, kOut = 2 };  // epb_flags: inbound, outbound

  // Takes the descriptor over. At most `limit` bytes, and of each frame at most `snap`.
  Capture(int fd, const std::string& name, std::uint64_t limit, std::uint32_t snap);
  ~Capture();
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  void frame(Way way, std::span<const iovec> frame, std::size_t length);
  void flush();
  std::uint64_t bytes() const { return written_ + buffer_.size(); }
  std::uint64_t frames() const { return frames_; }
  // Why it has ended before its time: the limit, or an errno's text; empty while it goes on.
  const std::string& ended() const { return ended_; }

 private:
  void put32(std::uint32_t value);
  void pad();
  void end(std::string why);

  const int fd_;
  const std::uint64_t limit_;
  const std::uint32_t snap_;
  std::uint64_t written_ = 0, frames_ = 0;
  std::vector<std::uint8_t> buffer_;
  std::string ended_;
};

}  // namespace hv::net

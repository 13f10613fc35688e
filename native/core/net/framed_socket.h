// Messages over a Unix stream socket, each after its length in 4 big-endian bytes: what passt,
// socket_vmnet and QEMU's stream backend speak, and the links of our switch.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace hv::net {

class FramedSocket {
 public:
  enum class State : std::uint8_t { kMessage, kNone, kClosed, kWrong };

  // Not blocking, and closed at the end. `most`: bytes of a message. SIGPIPE is ignored in a process
  // that uses it (Node sees to that).
  FramedSocket(int fd, std::size_t most);
  ~FramedSocket();
  FramedSocket(const FramedSocket&) = delete;
  FramedSocket& operator=(const FramedSocket&) = delete;

  int fd() const { return fd_; }

  // Room for a message of this size; what was put is kept until the other end takes it.
  bool has_room(std::size_t bytes) const;
  // A message of this size, to be filled in at once.
  std::span<std::uint8_t> put(std::size_t bytes);
  // False: the connection is broken. waiting() tells whether all of it has gone.
  bool flush();
  bool waiting() const { return !out_.empty(); }

  // The next message, good until the next call.
  State next(std::span<const std::uint8_t>& message);

 private:
  bool whole() const;
  State fill();

  const int fd_;
  const std::size_t most_;
  std::vector<std::uint8_t> in_, out_;
  std::size_t begin_ = 0, end_ = 0;  // of what is in `in_`
  std::size_t sent_ = 0;
};

}  // namespace hv::net

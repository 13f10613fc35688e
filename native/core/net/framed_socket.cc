#include "net/framed_socket.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace hv::net {
namespace {

constexpr std::size_t kPrefix = 4;
constexpr std::size_t kMostIn = 256 * 1024, kMostOut = 1024 * 1024;

std::size_t length_at(const std::uint8_t* at) {
  return std::size_t{at[0]} << 24 | std::size_t{at[1]} << 16 | std::size_t{at[2]} << 8 | at[3];
}

}  // namespace

FramedSocket::FramedSocket(int fd, std::size_t most) : fd_{fd}, most_{most}, in_(kMostIn) {
}

FramedSocket::~FramedSocket() { ::close(fd_); }

bool FramedSocket::has_room(std::size_t bytes) const {
  return out_.size() - sent_ + kPrefix + bytes <= kMostOut;
}

std::span<std::uint8_t> FramedSocket::put(std::size_t bytes) {
  const std::size_t at = out_.size();
  out_.resize(at + kPrefix + bytes);
  for (std::size_t i = 0; i < kPrefix; ++i)
    out_[at + i] = static_cast<std::uint8_t>(bytes >> (8 * (kPrefix - 1 - i)));
  return std::span{out_}.subspan(at + kPrefix);
}

bool FramedSocket::flush() {
  while (sent_ < out_.size()) {
    const ssize_t done = ::send(fd_, out_.data() + sent_, out_.size() - sent_, 0);
    if (done >= 0) {
      sent_ += static_cast<std::size_t>(done);
    } else if (errno == EAGAIN || errno == ENOBUFS) {
      break;
    } else if (errno != EINTR) {
      return false;
    }
  }
  if (sent_ == out_.size() || sent_ > kMostOut / 2) {
    out_.erase(out_.begin(), out_.begin() + static_cast<std::ptrdiff_t>(sent_));
    sent_ = 0;
  }
  return true;
}

bool FramedSocket::whole() const {
  const std::size_t have = end_ - begin_;
  return have >= kPrefix && have - kPrefix >= length_at(in_.data() + begin_);
}

FramedSocket::State FramedSocket::fill() {
  if (begin_ != 0) {
    std::memmove(in_.data(), in_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  for (;;) {
    const ssize_t got = ::recv(fd_, in_.data() + end_, in_.size() - end_, 0);
    if (got > 0) {
      end_ += static_cast<std::size_t>(got);
      return State::kMessage;
    }
    if (got == 0) return State::kClosed;
    if (errno == EAGAIN) return State::kNone;
    if (errno != EINTR) return State::kClosed;
  }
}

FramedSocket::State FramedSocket::next(std::span<const std::uint8_t>& message) {
  while (!whole()) {
    if (end_ - begin_ >= kPrefix && length_at(in_.data() + begin_) > most_) return State::kWrong;
    const State filled = fill();
    if (filled != State::kMessage) return filled;
  }
  const std::size_t length = length_at(in_.data() + begin_);
  if (length > most_) return State::kWrong;
  message = {in_.data() + begin_ + kPrefix, length};
  begin_ += kPrefix + length;
  return State::kMessage;
}

}  // namespace hv::net

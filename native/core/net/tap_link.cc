#include "net/tap_link.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "net/offload.h"

namespace hv::net {

TapLink::~TapLink() { ::close(tap_.fd); }

unsigned TapLink::offloads() const { return tap_.headers ? tap_.offloads : kSoftwareOffloads; }

void TapLink::accept(unsigned offloads) {
  if (tap_.headers) host::set_offloads(tap_.fd, offloads & tap_.offloads);
}

Result TapLink::write(std::span<const iovec> pieces) {
  for (;;) {
    if (::writev(tap_.fd, pieces.data(), static_cast<int>(pieces.size())) >= 0)
      return Result::kDone;
    if (errno == EINTR) continue;
    if (errno == EAGAIN) return Result::kBusy;
    if (host::tap_is_gone(errno)) return down("the interface is gone");
    return Result::kDropped;  // EIO: the interface is down; EINVAL: a header that contradicts its frame
  }
}

Result TapLink::send(const Header& header, std::span<const iovec> frame) {
  if (!tap_.headers) return send_finished(header, frame);
  Header copy = header;
  pieces_.assign(1, {&copy, sizeof(copy)});
  pieces_.insert(pieces_.end(), frame.begin(), frame.end());
  return write(pieces_);
}

Result TapLink::send_finished(const Header& header, std::span<const iovec> frame) {
  if (header.gso_type == kGsoNone && !(header.flags & kNeedsChecksum)) return write(frame);
  whole_.resize(total(frame));
  gather(frame, 0, whole_);
  Result result = Result::kDone;
  const bool good = finish(header, whole_, [&](std::span<const std::uint8_t> part) {
    const iovec piece{const_cast<std::uint8_t*>(part.data()), part.size()};
    // What a full queue takes no part of is lost on the way, as on any cable.
    if (write({&piece, 1}) == Result::kDown) result = Result::kDown;
  });
  return good ? result : Result::kDropped;
}

Result TapLink::receive(Header& header, std::span<const iovec> room, std::size_t& length) {
  header = {};
  pieces_.clear();
  if (tap_.headers) pieces_.push_back({&header, sizeof(header)});
  pieces_.insert(pieces_.end(), room.begin(), room.end());
  for (;;) {
    const ssize_t got = ::readv(tap_.fd, pieces_.data(), static_cast<int>(pieces_.size()));
    const std::size_t before = tap_.headers ? sizeof(header) : 0;
    if (got >= 0 && static_cast<std::size_t>(got) >= before + kEthernet) {
      length = static_cast<std::size_t>(got) - before;
      return Result::kDone;
    }
    if (got > 0 || (got < 0 && errno == EINTR)) continue;  // no whole frame
    if (got == 0) return down("its other end is closed");
    if (errno == EAGAIN) return Result::kBusy;
    return down(std::string{"it cannot be read: "} + std::strerror(errno));
  }
}

}  // namespace hv::net

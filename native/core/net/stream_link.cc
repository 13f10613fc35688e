#include "net/stream_link.h"

#include <algorithm>

#include "net/offload.h"

namespace hv::net {

Result StreamLink::send(const Header& header, std::span<const iovec> frame) {
  if (!fault().empty()) return Result::kDown;
  const std::size_t length = total(frame);
  // A large segment becomes up to twice its size where the guest chose tiny pieces.
  if (!socket_.has_room(2 * length)) return Result::kBusy;
  if (header.gso_type != kGsoNone || header.flags & kNeedsChecksum)
    return send_finished(header, frame);
  gather(frame, 0, socket_.put(length));
  return Result::kDone;
}

Result StreamLink::send_finished(const Header& header, std::span<const iovec> frame) {
  whole_.resize(total(frame));
  gather(frame, 0, whole_);
  const bool good = finish(header, whole_, [this](std::span<const std::uint8_t> part) {
    if (socket_.has_room(part.size())) std::ranges::copy(part, socket_.put(part.size()).begin());
  });
  return good ? Result::kDone : Result::kDropped;
}

bool StreamLink::flush() {
  if (!socket_.flush()) down("its other end is closed");
  return fault().empty() && socket_.waiting();
}

Result StreamLink::receive(Header& header, std::span<const iovec> room, std::size_t& length) {
  header = {};
  std::span<const std::uint8_t> frame;
  switch (socket_.next(frame)) {
    case FramedSocket::State::kNone:
      return Result::kBusy;
    case FramedSocket::State::kClosed:
      return down("its other end is closed");
    case FramedSocket::State::kWrong:
      return down("its other end does not send frames after their lengths");
    case FramedSocket::State::kMessage:
      break;
  }
  if (frame.size() < kEthernet) return Result::kDropped;
  length = frame.size();
  scatter(frame, room);
  return Result::kDone;
}

}  // namespace hv::net

// The host's end of a network card's cable: frames go in and come out, and nothing ever waits. One
// thread calls everything. The kinds: tap_link.h, stream_link.h, switch_link.h, vmnet_link.h.
#pragma once
#include <string>

#include "net/frame.h"

namespace hv::net {

enum class Result : std::uint8_t {
  kDone,
  kBusy,     // send: no room now, the descriptor will be writable; receive: there is no frame
  kDropped,  // send: the frame cannot be sent, and will not be later; receive: one was no frame
  kAgain,    // receive: nothing for the guest came of this call, look again
  kDown,     // the other end is gone for good: fault() says why
};

class Link {
 public:
  Link() = default;
  virtual ~Link() = default;
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  // For poll(2): readable when receive() may have a frame, writable when send() may have room.
  virtual int descriptor() const = 0;
  // Offloads that a guest may leave to this link, and that it may leave to the guest.
  virtual unsigned offloads() const = 0;
  // Which of them the guest takes of what it receives.
  virtual void accept(unsigned offloads) { (void)offloads; }

  virtual Result send(const Header& header, std::span<const iovec> frame) = 0;
  // What send() gathered goes out. True: some of it waits until the descriptor is writable.
  virtual bool flush() { return false; }
  // One frame into `room`; `length` is the whole frame's, of which room's size was stored at most.
  virtual Result receive(Header& header, std::span<const iovec> room, std::size_t& length) = 0;

  const std::string& fault() const { return fault_; }

 protected:
  Result down(std::string why) {
    if (fault_.empty()) fault_ = std::move(why);
    return Result::kDown;
  }

 private:
  std::string fault_;
};

}  // namespace hv::net

// A descriptor that gives and takes one frame a call: a tap, /dev/tapN, a datagram socket.
#pragma once
#include <vector>

#include "net/host.h"
#include "net/link.h"

namespace hv::net {

class TapLink final : public Link {
 public:
  explicit TapLink(const host::Tap& tap) : tap_{tap} {}  // closes it
  ~TapLink() override;

  int descriptor() const override { return tap_.fd; }
  unsigned offloads() const override;
  void accept(unsigned offloads) override;
  Result send(const Header& header, std::span<const iovec> frame) override;
  Result receive(Header& header, std::span<const iovec> room, std::size_t& length) override;

 private:
  Result send_finished(const Header& header, std::span<const iovec> frame);
  Result write(std::span<const iovec> pieces);

  const host::Tap tap_;
  std::vector<iovec> pieces_;
  std::vector<std::uint8_t> whole_;
};

}  // namespace hv::net

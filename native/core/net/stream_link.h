// Plain frames over a Unix stream socket: passt, socket_vmnet.
#pragma once
#include <vector>

#include "net/framed_socket.h"
#include "net/link.h"

namespace hv::net {

class StreamLink final : public Link {
 public:
  explicit StreamLink(int fd) : socket_{fd, kMostFrame} {}

  int descriptor() const override { return socket_.fd(); }
  unsigned offloads() const override { return kSoftwareOffloads; }
  Result send(const Header& header, std::span<const iovec> frame) override;
  bool flush() override;
  Result receive(Header& header, std::span<const iovec> room, std::size_t& length) override;

 private:
  Result send_finished(const Header& header, std::span<const iovec> frame);

  FramedSocket socket_;
  std::vector<std::uint8_t> whole_;
};

}  // namespace hv::net

// A virtual switch without a switch: every card of a network has a Unix socket in the network's
// folder and one connection to each other card, learns behind which connection an address is, and
// sends what it does not know to all. Nobody serves, so nobody's death is felt by others.
//
//   join, under the folder's lock: connect to all that are there already, then bind and listen
//   a socket's name: the card's address, as 12 hexadecimal digits
//   a message: its length (framed_socket.h), a kind, then
//     hello: version, what the card accepts unfinished
//     frame: struct virtio_net_hdr, the frame
//
// Who leaves a frame unfinished (checksum, large segment) does so only where the receiver takes that;
// for others it is finished here.
#pragma once
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "net/framed_socket.h"
#include "net/host.h"
#include "net/link.h"

namespace hv::net {

class SwitchLink final : public Link {
 public:
  // `folder`: exists, and is the user's own. nullptr and an errno value where it cannot be joined;
  // EADDRINUSE: a card with this address is on the network.
  static std::unique_ptr<SwitchLink> join(const std::string& folder, const Mac& mac, int& error);
  ~SwitchLink() override;

  int descriptor() const override { return poller_->descriptor(); }
  unsigned offloads() const override { return kSoftwareOffloads; }
  void accept(unsigned offloads) override;
  Result send(const Header& header, std::span<const iovec> frame) override;
  bool flush() override;
  Result receive(Header& header, std::span<const iovec> room, std::size_t& length) override;

 private:
  struct Peer {
    explicit Peer(int fd);
    FramedSocket socket;
    bool greeted = false;
    unsigned accepts = 0;
    std::size_t learned = 0;
    bool unsent = false;
    bool hello_due = false;
  };
  using Peers = std::map<int, std::unique_ptr<Peer>>;  // by descriptor

  explicit SwitchLink(const Mac& mac) : mac_{mac} {}
  int open(const std::string& folder);
  int connect_all(const std::string& folder);
  int listen(const std::string& folder);
  void add(int fd);
  void drop(int fd);
  void accept_new();
  void hello(Peer& peer);
  void heard_hello(Peer& peer, std::span<const std::uint8_t> message);
  void learn(Peer& peer, int fd, std::span<const std::uint8_t> frame);
  void give(Peer& peer, const Header& header, unsigned needed);
  void put(Peer& peer, const Header& header, std::span<const std::uint8_t> frame);
  Result next_of(int fd, Header& header, std::span<const std::uint8_t>& frame);
  Result heard_frame(std::span<const std::uint8_t> message, Header& header,
                     std::span<const std::uint8_t>& frame) const;

  const Mac mac_;
  unsigned accepts_ = 0;
  std::unique_ptr<host::Poller> poller_;
  int listener_ = -1;
  std::string path_;
  Peers peers_;
  std::unordered_map<std::uint64_t, int> where_;
  std::vector<int> ready_;
  std::vector<std::uint8_t> whole_, finished_;
};

}  // namespace hv::net

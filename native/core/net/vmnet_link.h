// Frames through vmnet.framework, or what looks like it: whole packets, many a call, and a callback on
// another thread that says that there are some.
#pragma once
#include <memory>
#include <vector>

#include "net/link.h"

namespace hv::net {

// struct vmpktdesc's part of a packet.
struct VmnetPacket {
  std::vector<iovec> pieces;
  std::size_t size = 0;
};

// vmnet's calls; vmnet_darwin.cc has the real ones. False: the interface is of no use any more.
class VmnetInterface {
 public:
  virtual ~VmnetInterface() = default;
  virtual std::size_t most_bytes() const = 0;
  virtual std::size_t most_packets() const = 0;
  // Fills the first packets, with their sizes; `count` of them.
  virtual bool read(std::vector<VmnetPacket>& packets, std::size_t& count) = 0;
  // `count` of them went out.
  virtual bool write(const std::vector<VmnetPacket>& packets, std::size_t& count) = 0;
};

class VmnetLink final : public Link {
 public:
  // `wake`: readable when packets are there; closed at the end, as `wake_end` is, which the callback
  // writes a byte to.
  VmnetLink(std::unique_ptr<VmnetInterface> vmnet, int wake, int wake_end);
  ~VmnetLink() override;

  int descriptor() const override { return wake_; }
  unsigned offloads() const override { return kSoftwareOffloads; }
  Result send(const Header& header, std::span<const iovec> frame) override;
  bool flush() override;
  Result receive(Header& header, std::span<const iovec> room, std::size_t& length) override;

 private:
  void gather_packet(std::span<const std::uint8_t> frame);
  bool refill();

  std::unique_ptr<VmnetInterface> vmnet_;
  const int wake_, wake_end_;
  std::vector<VmnetPacket> in_, out_;
  std::vector<std::vector<std::uint8_t>> in_bytes_, out_bytes_;
  std::size_t next_ = 0, filled_ = 0;
  std::vector<std::uint8_t> whole_;
};

}  // namespace hv::net

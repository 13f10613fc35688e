// Which frames a card takes off its cable: VIRTIO 1.2, "Control Virtqueue".
#pragma once
#include <cstdint>
#include <set>
#include <vector>

#include "net/frame.h"

namespace hv::net {

struct Filter {
  // "Packet Receive Filtering". A card whose driver has no control queue takes everything.
  enum Mode : unsigned {
    kPromiscuous = 1,
    kAllMulticast = 2,
    kAllUnicast = 4,
    kNoMulticast = 8,
    kNoUnicast = 16,
    kNoBroadcast = 32,
  };
  unsigned mode = kPromiscuous;
  Mac mac{};
  std::set<Mac> addresses;  // "Setting MAC Address Filtering", both kinds
  // "VLAN Filtering": a bit for each identifier; empty: all pass.
  std::vector<bool> vlans;

  // `head`: the frame's first bytes, 18 where it has so many.
  bool passes(std::span<const std::uint8_t> head) const;
};

}  // namespace hv::net

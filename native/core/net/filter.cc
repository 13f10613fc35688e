#include "net/filter.h"

#include <algorithm>

namespace hv::net {
namespace {

constexpr std::size_t kTypeAt = 12, kTagEnd = 18;
constexpr std::uint16_t kVlan = 0x8100, kVlanMask = 0x0fff;
constexpr Mac kBroadcast{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

}  // namespace

bool Filter::passes(std::span<const std::uint8_t> head) const {
  if (head.size() < kEthernet) return false;
  const auto word = [head](std::size_t at) {
    return static_cast<std::uint16_t>(head[at] << 8 | head[at + 1]);
  };
  if (!vlans.empty() && word(kTypeAt) == kVlan && head.size() >= kTagEnd &&
      !vlans[word(kTypeAt + 2) & kVlanMask])
    return false;
  if (mode & kPromiscuous) return true;
  Mac to;
  std::copy_n(head.begin(), kMacBytes, to.begin());
  if (to == kBroadcast) return !(mode & kNoBroadcast);
  const bool multicast = (to[0] & 1) != 0;
  if (mode & (multicast ? kNoMulticast : kNoUnicast)) return false;
  if (mode & (multicast ? kAllMulticast : kAllUnicast)) return true;
  return (!multicast && to == mac) || addresses.contains(to);
}

}  // namespace hv::net

// macOS's vmnet.framework: addresses, NAT and DHCP by the system. vmnet_darwin.cc opens it; other
// hosts have none. Its packet path is vmnet_link.h.
#pragma once
#include <memory>
#include <string>

#include "net/link.h"

namespace hv::net {

struct VmnetOptions {
  enum class Mode : std::uint8_t { kShared, kHost, kBridged };
  Mode mode = Mode::kShared;
  std::string interface_id;  // a UUID: the same one gets the same MAC address again
  std::string bridge_to;     // kBridged: the host's interface
};

struct Vmnet {
  std::unique_ptr<Link> link;
  Mac mac{};
};

// What is wrong, in words; empty where `out` is open.
std::string open_vmnet(const VmnetOptions& options, Vmnet& out);

}  // namespace hv::net

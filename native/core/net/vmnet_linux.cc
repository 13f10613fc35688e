#include "net/vmnet.h"

namespace hv::net {

std::string open_vmnet(const VmnetOptions&, Vmnet&) {
  return "this host has no vmnet.framework: it is macOS's";
}

}  // namespace hv::net

#include <cstdio>

#include "accel/hvf/accelerator.h"
#include "accel/hvf/host.h"
#include "accel/hvf/machine.h"

namespace hv {
namespace hvf {
namespace {

class HvfAccelerator final : public Accelerator {
 public:
  std::string_view name() const override { return "hvf"; }
  std::optional<std::string> unavailable() const override {
    const std::string& why = host().unusable;
    return why.empty() ? std::nullopt : std::optional{why};
  }
  std::unique_ptr<Machine> create_machine(GuestMemory& memory) const override {
    std::string error;
    auto machine = HvfMachine::create(memory, error);
    if (machine == nullptr) std::fprintf(stderr, "hvf: %s\n", error.c_str());
    return machine;
  }
  bool one_vm_a_process() const override { return true; }
};

}  // namespace

const Accelerator& accelerator() {
  static const HvfAccelerator only;
  return only;
}

}  // namespace hvf
}  // namespace hv

// The accelerators of a Linux host on x86-64, beside the software CPU.
#include <array>
#include <cstdio>

#include "accel/hardware.h"
#include "accel/kvm/api.h"
#include "accel/kvm/machine.h"

namespace hv {
namespace {

class KvmAccelerator final : public Accelerator {
 public:
  std::string_view name() const override { return "kvm"; }
  std::optional<std::string> unavailable() const override {
    const std::string& why = kvm::host().unusable;
    return why.empty() ? std::nullopt : std::optional{why};
  }
  std::unique_ptr<Machine> create_machine(GuestMemory& memory) const override {
    std::string error;
    auto machine = kvm::KvmMachine::create(memory, error);
    if (machine == nullptr) std::fprintf(stderr, "kvm: %s\n", error.c_str());
    return machine;
  }
};

}  // namespace

std::span<const Accelerator* const> hardware_accelerators() {
  static const KvmAccelerator kvm;
  static const std::array<const Accelerator*, 1> all = {&kvm};
  return all;
}

}  // namespace hv

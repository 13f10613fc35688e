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
  // `with_host_cpu`: itself where its own guests see the host's CPU.
  explicit KvmAccelerator(const KvmAccelerator* with_host_cpu) : with_host_cpu_{with_host_cpu} {}

  std::string_view name() const override { return "kvm"; }
  std::optional<std::string> unavailable() const override {
    const std::string& why = kvm::host().unusable;
    return why.empty() ? std::nullopt : std::optional{why};
  }
  std::unique_ptr<Machine> create_machine(GuestMemory& memory) const override {
    std::string error;
    auto machine = kvm::KvmMachine::create(memory, with_host_cpu_ == this, error);
    if (machine == nullptr) std::fprintf(stderr, "kvm: %s\n", error.c_str());
    return machine;
  }
  const Accelerator* with_host_cpu() const override { return with_host_cpu_; }

 private:
  const KvmAccelerator* const with_host_cpu_;
};

}  // namespace

std::span<const Accelerator* const> hardware_accelerators() {
  static const KvmAccelerator with_host_cpu{&with_host_cpu}, kvm{&with_host_cpu};
  static const std::array<const Accelerator*, 1> all = {&kvm};
  return all;
}

}  // namespace hv

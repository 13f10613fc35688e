// The software CPU as an accelerator: it runs anywhere.
#include <vector>

#include "accel/accelerator.h"
#include "accel/hardware.h"
#include "softcpu/cpu.h"

namespace hv {

namespace {

class SoftMachine final : public Machine {
 public:
  explicit SoftMachine(GuestMemory& memory) : memory_(memory) {}
  std::unique_ptr<Vcpu> create_vcpu(const VcpuWiring& wiring) override {
    return std::make_unique<softcpu::Cpu>(wiring, memory_);
  }

 private:
  GuestMemory& memory_;
};

class SoftAccelerator final : public Accelerator {
 public:
  std::string_view name() const override { return "soft"; }
  std::optional<std::string> unavailable() const override { return std::nullopt; }
  std::unique_ptr<Machine> create_machine(GuestMemory& memory) const override {
    return std::make_unique<SoftMachine>(memory);
  }
};

}  // namespace

std::span<const Accelerator* const> accelerators() {
  static const SoftAccelerator soft;
  static const std::vector<const Accelerator*> all = [] {
    const auto hardware = hardware_accelerators();
    std::vector<const Accelerator*> list{hardware.begin(), hardware.end()};
    list.push_back(&soft);
    return list;
  }();
  return all;
}

}  // namespace hv

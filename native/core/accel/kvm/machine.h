// A VM of KVM's: memory slots over the guest mapping, the kernel's local APICs where they are
// the faster (split_irqchip.h), and
// the time-stamp counter that its vCPUs share.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "accel/accelerator.h"
#include "accel/host_counter.h"
#include "accel/kvm/api.h"
#include "accel/kvm/bells.h"
#include "accel/kvm/clock.h"
#include "accel/kvm/split_irqchip.h"

namespace hv::kvm {

class KvmMachine final : public Machine {
 public:
  // nullptr and `error`, a sentence. `host_cpu`: its guests see this host's CPU.
  static std::unique_ptr<KvmMachine> create(GuestMemory& memory, bool host_cpu, std::string& error);

  std::unique_ptr<Vcpu> create_vcpu(const VcpuWiring& wiring) override;

  std::string refused_state(const CpuState& state) const override;
  std::vector<CpuidLeaf> own_cpuid(std::uint32_t count) const override;
  KernelBells* bells() override { return bells_.get(); }
  ParavirtualClock* clock() override { return clock_.get(); }
  KernelApics* use_kernel_apics() override;
  // nullptr: the local APICs are ours.
  SplitIrqchip* split_irqchip() { return split_.get(); }

  const Handle& vm() const { return vm_; }
  bool host_cpu() const { return host_cpu_; }
  // Its guests see a CPU of AMD's.
  bool amd_cpu() const;
  std::size_t run_length() const { return run_length_; }

  CounterOffset& counter() { return counter_; }

 private:
  enum class Apics : std::uint8_t { kFaster, kOurs, kKernels };

  // A slot of the kernel's: a contiguous part of the guest's RAM.
  struct Slot {
    std::uint32_t number;
    Gpa at;
    std::uint64_t size;
  };

  KvmMachine(GuestMemory& memory, bool host_cpu, Handle vm)
      : Machine{memory}, host_cpu_{host_cpu}, vm_{std::move(vm)} {}
  std::string configure();
  std::array<Slot, 2> slots() const;
  bool map(const Slot& slot, bool logged);
  bool log_hardware_writes(bool on) override;
  bool gather_hardware_writes() override;
  bool gather(const Slot& slot);
  bool enable(std::uint32_t capability, std::uint64_t argument);
  bool divert_msrs();

  const bool host_cpu_;
  const Handle vm_;
  std::size_t run_length_ = 0;
  CounterOffset counter_;
  std::unique_ptr<Ioeventfds> bells_;  // nullptr: none here
  std::unique_ptr<KvmClock> clock_;    // the same
  Apics choice_ = Apics::kFaster;
  std::unique_ptr<SplitIrqchip> split_;
};

}  // namespace hv::kvm

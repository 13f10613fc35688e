// Local APICs of the kernel's beside an IO-APIC and 8259 pair of ours (api.rst,
// KVM_CAP_SPLIT_IRQCHIP). Messages go there by KVM_SIGNAL_MSI; the table of KVM_SET_GSI_ROUTING says
// which vectors' EOIs the IO-APIC must hear of, which come by KVM_EXIT_IOAPIC_EOI.
#pragma once
#include <array>
#include <memory>
#include <span>

#include "accel/kvm/api.h"
#include "base/types.h"
#include "irq/kernel_apics.h"

namespace hv::kvm {

class KvmVcpu;

class SplitIrqchip final : public KernelApics {
 public:
  // nullptr where the local APICs stay ours. `vm` has no vCPU yet, and outlives it.
  static std::unique_ptr<SplitIrqchip> create(const Handle& vm);

  // On the vCPU's thread, before the VM first runs.
  void add(VcpuIndex index, KvmVcpu& vcpu) { vcpus_[index] = &vcpu; }

  std::string flaw() const override;
  void deliver(const InterruptMessage& message) override;
  void watch(std::span<const PinMessage> messages) override;
  void settle(VcpuIndex vcpu) override;
  void give(VcpuIndex vcpu, const LentLapic& apic) override;
  LentLapic take(VcpuIndex vcpu) override;

 private:
  explicit SplitIrqchip(const Handle& vm) : vm_{vm} {}

  const Handle& vm_;
  std::array<KvmVcpu*, kMaxVcpus> vcpus_{};
};

}  // namespace hv::kvm

// One vCPU of KVM's on its own thread. What the guest meets outside itself is answered from inside
// run(), through Platform, as for every accelerator.
//
// State lies in the kernel, except the MSRs that only keep a value (accel/msr_policy.h), the
// activity, and what CpuState has beside these: they are in `kept_`.
//
// Kicks: the kick signal is blocked but inside KVM_RUN, so that one that comes between the last
// look at the signals and the entry still ends the stay (api.rst, KVM_SET_SIGNAL_MASK).
#pragma once
#include <optional>

#include "accel/accelerator.h"
#include "accel/kvm/api.h"
#include "accel/kvm/machine.h"
#include "accel/msr_policy.h"
#include "irq/lapic.h"

namespace hv::kvm {

class KvmVcpu final : public Vcpu {
 public:
  KvmVcpu(KvmMachine& machine, const VcpuWiring& wiring);
  ~KvmVcpu() override;

  Exit run() override;
  CpuState state() const override;
  void set_state(const CpuState& state) override;
  VcpuCounters counters() const override;

  // With the kernel's local APIC (apic_linux_x64.cc; irq/kernel_apics.h).
  void settle_apic();
  void give_apic(const LentLapic& apic);
  LentLapic take_apic();

 private:
  // Between two stays in the guest. nullopt: go on.
  std::optional<Exit> look_at_signals();
  bool wakes();
  void offer_nmi();
  void offer_interrupt(std::uint32_t pending);
  Exit leave(Exit exit);
  void take_back_nmi();

  // KVM_RUN; false where it was interrupted and nothing is to be answered.
  bool enter(std::uint32_t seen);
  bool enter_kernel();
  void open_vcpu();
  void set_cpuid();
  void publish_kick();
  void turn_back_at_entry();
  void drain_kicks();
  void finish_access();
  void follow_cr8();

  // The exits (exits_linux_x64.cc).
  std::optional<Exit> answer();
  void answer_port();
  void answer_memory();
  void answer_rdmsr();
  void answer_wrmsr();
  std::optional<std::uint64_t> read_msr(std::uint32_t index);
  bool write_msr(std::uint32_t index, std::uint64_t value);
  void pass_on(std::uint32_t index, std::uint64_t value);
  bool write_apic_msr(std::uint32_t index, std::uint64_t value);
  void write_clock_msr(std::uint32_t index, std::uint64_t value);
  void run_one_in_software();

  void inject(std::uint8_t vector);
  bool has_kernel_apic() const { return machine_.split_irqchip() != nullptr; }
  Activity kernel_activity() const;
  void set_kernel_activity(Activity activity);
  std::uint64_t kernel_msr(std::uint32_t index) const;
  void notice_timer();
  void give_deadline(std::uint64_t platform_deadline);
  std::uint64_t take_deadline();
  std::uint64_t to_platform(std::uint64_t deadline);

  void set_apic_base(kvm_sregs& out);
  void set_msrs();
  void get_msrs(CpuState& s) const;
  void load_pdptes(CpuState& s) const;
  void sync_tsc();
  void set_tsc_offset(std::uint64_t value);
  void set_system_time();
  void set_msr(std::uint32_t index, std::uint64_t value);
  std::uint64_t guest_tsc() const {
    return host_tsc() + (counter_can_be_offset() ? tsc_offset_ + kept_.tsc_adjust : 0);
  }
  void must(int result, const char* what);

  KvmMachine& machine_;
  const VcpuWiring wiring_;
  Platform& platform_;
  VcpuSignals& signals_;
  Handle vcpu_;
  kvm_run* run_ = nullptr;
  CpuState kept_;
  std::uint64_t tsc_hz_ = 0;
  std::uint64_t tsc_offset_ = 0, tsc_round_ = ~0ull;
  std::uint64_t system_time_ = 0;  // MSR_KVM_SYSTEM_TIME_NEW as the kernel has it
  // IA32_TSC_DEADLINE as the guest wrote it, and what Platform was told.
  std::uint64_t deadline_ = 0, platform_deadline_ = 0;
  LapicState given_apic_;  // to the kernel's APIC, the last time
  std::uint32_t noted_count_ = 0;  // of its timer, when the vCPU last left the guest
  bool nmi_offered_ = false;    // since the kernel was last asked for its NMIs
  bool access_open_ = false;    // a port, memory or MSR access waits to be finished
  bool broken_ = false;
  VcpuCounters count_;
};

}  // namespace hv::kvm

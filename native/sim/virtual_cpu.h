// One logical processor in VMX operation, played by the software CPU: run() is a VM entry, guest
// code in VMX non-root operation, and the VM exit that ends it (SDM Vol. 3, chapters "VM Entries",
// "VMX Non-Root Operation", "VM Exits").
//
// The guest state lies in the software CPU while the guest runs and is copied to the VMCS when it
// is left; what was written to the VMCS meanwhile is taken over at the next entry. TLBs are kept
// over both, as with VPIDs: whoever changes the guest's translations from outside must say so.
#pragma once
#include <atomic>
#include <cstdint>
#include <span>
#include <thread>

#include "accel/platform.h"
#include "accel/xsave_area.h"
#include "softcpu/cpu.h"
#include "softcpu/overseer.h"
#include "space.h"
#include "vmcs.h"

namespace hv::sim {

// What a guest meets where nothing makes it exit: the host's time-stamp counter with the offset of
// the VMCS, the host's CR8, and ports that nobody answers.
class HostPlatform final : public Platform {
 public:
  explicit HostPlatform(const Vmcs& vmcs) : vmcs_{vmcs} {}

  std::uint32_t in(VcpuIndex, std::uint16_t, unsigned) override { return ~0u; }
  void out(VcpuIndex, std::uint16_t, unsigned, std::uint32_t) override {}
  std::uint64_t read(VcpuIndex, Gpa, unsigned) override { return ~0ull; }
  void write(VcpuIndex, Gpa, unsigned, std::uint64_t) override {}
  std::optional<std::uint64_t> read_apic_msr(VcpuIndex, std::uint32_t) override { return {}; }
  bool write_apic_msr(VcpuIndex, std::uint32_t, std::uint64_t) override { return false; }
  std::uint8_t cr8(VcpuIndex) override { return cr8_; }
  void set_cr8(VcpuIndex, std::uint8_t value) override { cr8_ = value; }
  std::optional<std::uint8_t> acknowledge_interrupt(VcpuIndex) override;
  std::uint64_t tsc() override;
  std::uint64_t tsc_frequency() const override { return 1'000'000'000; }
  std::uint64_t a20_mask() const override { return ~0ull; }
  void spin_hint(VcpuIndex) override {}

  class VirtualCpu* cpu = nullptr;

 private:
  const Vmcs& vmcs_;
  std::uint8_t cr8_ = 0;
};

class VirtualCpu final : public softcpu::Overseer {
 private:
  Space& space_;
  HostPlatform platform_{vmcs};

 public:
  static constexpr std::uint64_t kForever = ~0ull;

  // `number` tells the processors of a VM apart; `all` are their signals, the own ones at
  // `number`.
  VirtualCpu(Space& space, unsigned number, std::span<VcpuSignals* const> all);

  // False: VM entry failed for its controls (SDM: VMfailValid 7), or the vCPU's thread is another.
  bool run(std::uint64_t deadline);
  // Any thread. Lost where the vCPU is not in run().
  void interrupt();
  // Any thread: leaves for the preemption timer once `now` has reached the deadline.
  void tick(std::uint64_t now);

  bool owned() const { return owner_ == std::this_thread::get_id(); }
  bool give_msr(std::uint32_t index, bool given);
  bool read_msr(std::uint32_t index, std::uint64_t& value) const;
  bool write_msr(std::uint32_t index, std::uint64_t value);
  void read_fpu(XsaveArea& out) const;
  void write_fpu(const XsaveArea& in);
  void invalidate_tlb() { cpu.flush_tlb(false); }

  Vmcs vmcs;
  softcpu::Cpu cpu;

  // ---- for the instructions that may exit (intercepts.cc)
  [[noreturn]] void exit(hvf::Reason reason, std::uint64_t qualification = 0,
                         unsigned length = 0);
  [[noreturn]] void interrupt_window() { exit(hvf::Reason::kInterruptWindow); }
  bool primary(std::uint32_t control) const {
    return (vmcs.get32(Field::kPrimaryControls) & control) != 0;
  }
  bool secondary(std::uint32_t control) const {
    return primary(hvf::kSecondaryActive) &&
           (vmcs.get32(Field::kSecondaryControls) & control) != 0;
  }
  bool gives(std::uint32_t msr) const;
  void note_event(std::uint32_t information, std::uint32_t error) {
    left_.event = information;
    left_.event_error = error;
  }
  void note_linear(std::uint64_t linear) { left_.linear = linear; }

 private:
  // Why the guest was left.
  struct Left {
    bool known = false;
    std::uint32_t reason = 0, length = 0, event = 0, event_error = 0, vectoring = 0,
                  vectoring_error = 0;
    std::uint64_t qualification = 0, physical = 0, linear = 0;
  };

  // Overseer (intercepts.cc)
  softcpu::Handler bind(const softcpu::Insn& insn, softcpu::Handler handler) override;
  unsigned rights(Gpa at) override { return space_.rights(at); }
  bool logs_writes() override { return false; }
  void refuse(softcpu::Cpu& on, Gpa at, std::uint64_t linear, softcpu::AccessKind kind,
              bool walk) override;
  void before_exception(softcpu::Cpu& on, const softcpu::Cpu::Pending& pending) override;
  void before_nmi(softcpu::Cpu& on) override;
  void before_task_switch(softcpu::Cpu& on, std::uint16_t selector, unsigned reason) override;

  // ---- guest state (guest_state.cc)
  void load_guest();
  void load_segments();
  bool load_modes();
  void load_events();
  void save_guest();
  void save_segments();

  void inject();
  void ask_for_windows();
  Exit run_guest();
  void explain(Exit exit);
  void report();
  std::uint32_t vectoring() const;

  VcpuSignals& signals_;
  const std::thread::id owner_ = std::this_thread::get_id();
  Left left_;
  std::uint64_t space_version_ = 0;
  std::uint64_t given_ = 0;  // bit n: the guest has the n-th MSR that the framework can give
  std::atomic<bool> inside_{false}, interrupted_{false}, expired_{false};
  std::atomic<std::uint64_t> deadline_{kForever};
};

}  // namespace hv::sim

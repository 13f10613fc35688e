// One vCPU of Hypervisor.framework on its own thread. What the guest meets outside itself is
// answered from inside run(), through Platform, as for every accelerator.
//
// The state lies in the VMCS and in the framework's registers, except the MSRs that only keep a
// value, the activity, and what CpuState has beside these: they are in `kept_`. An exit that asks
// for more than a register or two is answered by the interpreter of the software CPU, which runs
// the one instruction on the vCPU's state: so every exit that an instruction causes has an answer,
// and MMIO knows every instruction.
//
// Kicks: hv_vcpu_interrupt() may come just before the vCPU enters the guest, and whether the
// framework then remembers it is not written down. So no stay in the guest is longer than
// kLongestStay.
#pragma once
#include <memory>
#include <optional>

#include "accel/accelerator.h"
#include "accel/hvf/guest_platform.h"
#include "accel/hvf/handle.h"
#include "accel/hvf/host.h"
#include "accel/hvf/machine.h"

namespace hv::softcpu {
class Cpu;
}

namespace hv::hvf {

// An event to inject at the next entry: by the format of the VM-entry fields.
struct Event {
  std::uint32_t information = 0;  // 0: none
  std::uint32_t error = 0;

  explicit operator bool() const { return information != 0; }
  EventType type() const {
    return static_cast<EventType>((information & kEventTypeMask) >> kEventTypeShift);
  }
  std::uint8_t vector() const { return static_cast<std::uint8_t>(information); }
  // INT n and its like: RIP is still at the instruction, which makes the event again.
  bool by_instruction() const { return type() >= EventType::kSoftwareInterrupt; }
  static Event of(EventType type, std::uint8_t vector) {
    return {kEventValid | static_cast<std::uint32_t>(type) << kEventTypeShift | vector};
  }
};

class HvfVcpu final : public Vcpu {
 public:
  HvfVcpu(HvfMachine& machine, const VcpuWiring& wiring);
  ~HvfVcpu() override;

  Exit run() override;
  CpuState state() const override;
  void set_state(const CpuState& state) override;
  VcpuCounters counters() const override;

 private:
  static constexpr unsigned kLongestStay = 10;  // milliseconds

  // ---- between two stays in the guest (vcpu_darwin_x64.cc)
  void set_up();
  void give_msrs();
  std::optional<Exit> look_at_signals();
  bool wakes();
  std::uint32_t choose_event();
  bool offer_nmi(std::uint64_t blocked);
  void offer_interrupt(std::uint64_t blocked);
  void ask_for_windows(bool interrupt, bool nmi);
  bool must_interpret() const;
  bool injectable() const;
  bool enter(std::uint32_t known);
  bool enter_guest();
  void collect_events();
  Exit leave(Exit exit);
  void sync_tsc();

  // ---- exits (exits_darwin_x64.cc)
  std::optional<Exit> answer();
  bool cannot_enter(std::uint32_t reason);
  void answer_exception();
  void answer_cpuid();
  void answer_halt();
  void answer_io();
  void answer_rdmsr();
  void answer_wrmsr();
  void answer_control_register();
  void answer_pause();
  void answer_ept_violation();
  void answer_task_switch();
  void answer_instruction();
  void refuse_exit();
  // Behind the instruction that made the exit, as if it had retired in the guest.
  void skip();
  void interpret();
  // Delivers `event_` where the hardware cannot: into MMIO, through a task gate, from a state that
  // VM entry refuses.
  void deliver_in_software();
  softcpu::Cpu& interpreter();
  template <class Step>
  void in_software(Step&& step);

  // ---- state (state_darwin_x64.cc). Writes go where the value differs from `before`, everywhere
  // where that is nullptr.
  void read_state(CpuState& out) const;
  void write_state(const CpuState& now, const CpuState* before);
  void write_segments(const CpuState& now, const CpuState* before);
  void write_modes(const CpuState& now, const CpuState* before);
  void write_msrs(const CpuState& now, const CpuState* before);
  void write_events(const CpuState& now);
  void read_events(CpuState& out) const;

  // Bits of CR0 and CR4 that the guest changes without an exit. Every other one changes how memory
  // is translated, or is held otherwise than the guest sees it.
  static constexpr std::uint64_t kGuestCr0 = 1u << 1 | 1u << 2 | 1u << 3 | 1u << 16 |
                                             1u << 18;  // MP EM TS WP AM
  static constexpr std::uint64_t kGuestCr4 = 1u << 2 | 1u << 3 | 1u << 7 | 1u << 9 |
                                             1u << 10;  // TSD DE PGE OSFXSR OSXMMEXCPT
  static constexpr std::uint64_t cr0_mask() { return ~kGuestCr0; }
  static constexpr std::uint64_t cr4_mask() { return ~kGuestCr4; }

  HvfMachine& machine_;
  const VcpuWiring wiring_;
  const Controls& controls_;
  Platform& platform_;
  VcpuSignals& signals_;
  Handle handle_;
  GuestPlatform guest_;
  CpuState kept_;
  Event event_;
  std::uint32_t own_primary_ = 0;  // the primary controls without windows
  std::uint32_t primary_ = 0;      // and as they are in the VMCS
  std::uint64_t tsc_round_ = ~0ull, tsc_offset_ = 0;
  bool has_tsc_aux_ = false;    // the hardware holds it; else it is in `kept_`
  bool refused_ = false;        // an entry that the hardware refused was told of
  std::unique_ptr<softcpu::Cpu> interpreter_;
  VcpuCounters count_;
};

}  // namespace hv::hvf

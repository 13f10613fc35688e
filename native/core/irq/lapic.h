// The local APIC of one vCPU, xAPIC and x2APIC. SDM Vol. 3, chapter "Advanced Programmable
// Interrupt Controller (APIC)".
//
// Threads. Registers (read, write, MSRs, CR8, acknowledge) belong to the vCPU's own thread;
// accept(), set_lint() and the timer's callback come from any thread. One mutex guards the state.
// It is held for some dozen instructions and never while another component is called, except
// the timer service and the signals, which are leaves (order: irq/interrupt_fabric.h).
// What matching a destination needs is published in atomics, so that a sender locks only the
// APICs that take the interrupt.
//
// INTR: Signal::kInterrupt is set exactly while acknowledge() would return a vector.
//
// IA32_APIC_BASE may move the registers: decodes() says where they are. RAM wins over a base that
// lies in it.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string_view>

#include "accel/signals.h"
#include "base/types.h"
#include "irq/message.h"
#include "time/guest_clock.h"
#include "time/ticks.h"
#include "time/timer_service.h"

namespace hv {

// Who carries what a local APIC sends. Called without the APIC's lock.
class ApicBus {
 public:
  virtual ~ApicBus() = default;
  virtual void deliver(const InterruptMessage& message) = 0;
  // Shorthands "all including self" (no exception) and "all excluding self".
  virtual void deliver_all(const InterruptMessage& message, std::optional<VcpuIndex> except) = 0;
  // A level-triggered vector is about to be ended by this vCPU: what it posted to devices before
  // must have lowered their lines first.
  virtual void before_level_eoi(VcpuIndex vcpu) = 0;
  virtual void broadcast_eoi(std::uint8_t vector) = 0;
  // INTA to the 8259 pair.
  virtual std::uint8_t acknowledge_pic() = 0;
};

using ApicBits = std::array<std::uint32_t, 8>;  // 256 vectors, as ISR, TMR and IRR show them

// The local vector table in the order of its offsets from 0x320 on; CMCI (0x2F0) is last.
enum LvtIndex : std::uint8_t {
  kLvtTimer,
  kLvtThermal,
  kLvtPerformance,
  kLvtLint0,
  kLvtLint1,
  kLvtError,
  kLvtCmci,
  kLvtCount
};

struct LapicState {
  static constexpr std::string_view kName = "lapic";
  static constexpr std::uint32_t kVersion = 1;
  std::uint64_t base = 0;
  std::uint32_t id = 0, ldr = 0, dfr = 0, tpr = 0, svr = 0;
  std::uint32_t esr = 0, esr_pending = 0;  // as last written, and gathered since
  std::uint64_t icr = 0;
  std::array<std::uint32_t, kLvtCount> lvt{};
  ApicBits isr{}, tmr{}, irr{};
  std::uint32_t initial_count = 0, divide = 0;
  GuestNs count_start = 0;  // when initial_count was loaded
  bool counting = false;
  TickPacer ticks;
  std::uint64_t tsc_deadline = 0;
  std::uint8_t lint = 0;        // levels of LINT0 and LINT1
  bool ext_int = false;         // an ExtINT message is pending
  bool lint_remote_irr = false;

  template <class Visit>
  void fields(Visit&& visit) {
    visit("base", base);
    visit("id", id);
    visit("ldr", ldr);
    visit("dfr", dfr);
    visit("tpr", tpr);
    visit("svr", svr);
    visit("esr", esr);
    visit("esrPending", esr_pending);
    visit("icr", icr);
    visit("lvt", lvt);
    visit("isr", isr);
    visit("tmr", tmr);
    visit("irr", irr);
    visit("initialCount", initial_count);
    visit("divide", divide);
    visit("countStart", count_start);
    visit("counting", counting);
    visit("ticks", ticks);
    visit("tscDeadline", tsc_deadline);
    visit("lint", lint);
    visit("extInt", ext_int);
    visit("lintRemoteIrr", lint_remote_irr);
  }
};

// On its way to or from a chip in the host's kernel, which counts by itself: `count_start` says
// nothing here.
struct LentLapic {
  LapicState state;
  std::uint32_t current_count = 0;
};

class Lapic {
 public:
  static constexpr std::uint64_t kAddress = 0xfee00000;
  static constexpr std::uint64_t kLength = 0x1000;

  Lapic(ApicBus& bus, TimerService& timers, VcpuSignals& signals, VcpuIndex index);

  // Power-on, then virtual wire mode on vCPU 0 as firmware leaves it (MultiProcessor
  // Specification 1.4 §3.6.2.2): LINT0 is ExtINT, LINT1 is NMI, the APIC is enabled.
  void reset();
  LapicState state() const;
  void set_state(const LapicState& state);

  // --- the vCPU's thread ---
  // The register page in xAPIC mode. Bytes outside the registers read 0 and swallow writes.
  bool decodes(Gpa at) const noexcept;
  std::uint64_t read(std::uint64_t offset, unsigned size);
  void write(std::uint64_t offset, unsigned size, std::uint64_t value);
  // IA32_APIC_BASE (0x1B), IA32_TSC_DEADLINE (0x6E0), 0x800 to 0x8FF; else and on nullopt or
  // false #GP(0). A TSC deadline is in terms of GuestClock::tsc(): without IA32_TSC_ADJUST.
  std::optional<std::uint64_t> read_msr(std::uint32_t index);
  bool write_msr(std::uint32_t index, std::uint64_t value);
  std::uint8_t cr8();
  void set_cr8(std::uint8_t value);
  std::optional<std::uint8_t> acknowledge();

  // --- any thread ---
  bool matches(const InterruptMessage& message) const noexcept;
  // Whether it takes part in lowest-priority arbitration, and its priority there.
  bool arbitrates() const noexcept { return arbitrates_.load(std::memory_order_relaxed); }
  std::uint8_t priority() const noexcept { return priority_.load(std::memory_order_relaxed); }
  void accept(const InterruptMessage& message);
  // The local interrupt pins: 0 is the 8259 pair's INT, 1 is NMI.
  void set_lint(unsigned pin, bool level);

  // To the host's kernel (irq/kernel_apics.h), and back. Meanwhile this one decodes nothing, is sent
  // nothing and counts nothing; INTR is what LINT0 says of the 8259 pair, LINT1 is NMI.
  LentLapic lend();
  void take_back(const LentLapic& lent);

  VcpuIndex index() const noexcept { return index_; }

 private:
  enum class Mode : std::uint8_t { kDisabled, kInvalid, kXapic, kX2apic };

  // What a write asks for once the lock is gone.
  struct Effects {
    std::optional<std::uint8_t> eoi = {};  // broadcast for this vector
    std::optional<std::uint64_t> icr = {}; // send
  };

  Mode mode() const;
  bool enabled() const;
  void power_on();
  void init();
  std::uint32_t id_register() const;
  std::uint32_t ldr_register() const;
  std::uint32_t read_register(unsigned at) const;
  void write_register(unsigned at, std::uint32_t value, Effects& effects);
  std::optional<std::uint64_t> read_x2apic(std::uint32_t index);
  bool write_x2apic(std::uint32_t index, std::uint64_t value);
  bool write_base(std::uint64_t value);
  bool ends_level_interrupt() const;
  void wait_before_eoi();
  std::uint32_t arbitration_priority() const;
  void perform(const Effects& effects);
  void send(std::uint64_t icr);
  void write_svr(std::uint32_t value);
  void write_lvt(unsigned lvt, std::uint32_t value);
  void end_of_interrupt(Effects& effects);

  void accept_locked(const InterruptMessage& message);
  void set_requested(std::uint8_t vector, bool level);
  void set_lint_locked(unsigned pin, bool level);
  void request_by_level();
  void error(std::uint32_t bit);
  void local_interrupt(unsigned lvt);
  std::uint8_t processor_priority() const;
  int deliverable() const;
  bool ext_int_wanted() const;
  // Recomputes INTR and what is published from state; the one place that does.
  void update();

  std::uint32_t timer_mode() const;
  std::uint64_t timer_ticks(GuestNs now) const;
  std::uint32_t current_count(GuestNs now) const;
  std::uint32_t divider() const;
  void start_count(std::uint32_t initial);
  // Delivers what has come due, under the settings that held until now; then arm_timer().
  void settle_timer(GuestNs now);
  void arm_timer(GuestNs now);
  void rebase_count(GuestNs now, std::uint32_t divide);
  void write_deadline(std::uint64_t value);
  void on_timer();

  ApicBus& bus_;
  TimerService& timers_;
  VcpuSignals& signals_;
  const VcpuIndex index_;

  mutable std::mutex mutex_;
  LapicState state_;
  bool lent_ = false;

  // Published by update() for senders; relaxed, since a guest that changes them while interrupts
  // are under way is not told which setting wins.
  std::atomic<std::uint64_t> identity_{0};  // mode 63:62, flat model 40, logical id 39:32, id 31:0
  std::atomic<std::uint64_t> base_{0};
  std::atomic<bool> arbitrates_{false};
  std::atomic<std::uint8_t> priority_{0};

  Timer timer_;  // last: its callback uses all of the above
};

}  // namespace hv

#include "accel/hvf/vcpu.h"

#include <iterator>

#include "base/thread.h"
#include "softcpu/cpu.h"

namespace hv::hvf {
namespace {

constexpr std::uint64_t kInterruptFlag = 1u << 9;
constexpr std::uint64_t kProtection = 1u << 0, kPaging = 1ull << 31;
constexpr std::uint32_t bit(Signal signal) { return static_cast<std::uint32_t>(signal); }

// SDM Vol. 3, "PAUSE-Loop Exiting": PAUSEs at most this many ticks apart are one loop, which
// leaves the guest after so many ticks.
constexpr std::uint64_t kPauseGapTicks = 128, kPauseWindowTicks = 4096;

// The MSRs that a guest's kernel uses all the time, and that every processor has.
constexpr std::uint32_t kGivenMsrs[] = {0x174,       0x175,       0x176,       0xc000'0081,
                                        0xc000'0082, 0xc000'0083, 0xc000'0084, 0xc000'0100,
                                        0xc000'0101, 0xc000'0102};
constexpr std::uint32_t kTscAux = 0xc000'0103;

// A vCPU that is no more is an error of the framework's, and nobody's loss.
void kick_vcpu(std::uint64_t handle) noexcept {
  auto id = static_cast<hv_vcpuid_t>(handle);
  hv_vcpu_interrupt(&id, 1);
}

void add(std::uint64_t& counter) { __atomic_store_n(&counter, counter + 1, __ATOMIC_RELAXED); }

}  // namespace

HvfVcpu::HvfVcpu(HvfMachine& machine, const VcpuWiring& wiring)
    : machine_{machine},
      wiring_{wiring},
      controls_{host().controls},
      platform_{wiring.platform},
      signals_{wiring.signals},
      handle_{wiring.index},
      guest_{wiring.platform, host().tsc_hz} {
  set_up();
  set_state(reset_state(wiring.index == 0));
  signals_.set_kick(kick_vcpu, handle_.id());
}

HvfVcpu::~HvfVcpu() = default;

void HvfVcpu::set_up() {
  own_primary_ = controls_.primary;
  const bool crowded = wiring_.count > host::usable_cores();
  if (crowded && !controls_.pause_loops() && controls_.pause_exits) own_primary_ |= kPauseExiting;
  primary_ = own_primary_;
  const std::pair<Field, std::uint64_t> fields[] = {
      {Field::kPinControls, controls_.pin},
      {Field::kPrimaryControls, primary_},
      {Field::kSecondaryControls, controls_.secondary},
      {Field::kExitControls, controls_.exit},
      {Field::kEntryControls, controls_.entry},
      {Field::kExceptionBitmap, 0},
      {Field::kPageFaultMask, 0},
      {Field::kPageFaultMatch, 0},
      {Field::kCr3TargetCount, 0},
      {Field::kEntryEvent, 0},
      {Field::kTprThreshold, 0},
      {Field::kLinkPointer, ~0ull},  // "VMCS link pointer": there is no shadow VMCS
      {Field::kGuestDebugctl, 0},
      {Field::kCr0Mask, cr0_mask()},
      {Field::kCr4Mask, cr4_mask()},
  };
  for (const auto& [field, value] : fields) handle_.write(field, value);
  if (controls_.pause_loops()) {
    handle_.write(Field::kPauseGap, kPauseGapTicks);
    handle_.write(Field::kPauseWindow, kPauseWindowTicks);
  }
  give_msrs();
}

// A WRMSR or RDMSR of what is not given is answered by the interpreter: slower, not otherwise.
void HvfVcpu::give_msrs() {
  for (const std::uint32_t index : kGivenMsrs) (void)handle_.give_msr(index);
  has_tsc_aux_ = controls_.rdtscp() && handle_.give_msr(kTscAux);
}

VcpuCounters HvfVcpu::counters() const { return count_.snapshot(); }

Exit HvfVcpu::run() {
  sync_tsc();
  for (;;) {
    if (handle_.failed()) return Exit::kTripleFault;
    if (const auto exit = look_at_signals()) return leave(*exit);
    const std::uint32_t known = choose_event();
    if (must_interpret()) {
      event_ ? deliver_in_software() : interpret();
      continue;
    }
    if (event_ && !injectable()) {
      deliver_in_software();
      continue;
    }
    if (!enter(known)) continue;
    if (const auto exit = answer()) return leave(*exit);
  }
}

std::optional<Exit> HvfVcpu::look_at_signals() {
  // The TLB is the hardware's, which knows of no A20 gate; code that it runs was decoded by nobody.
  signals_.clear(Signal::kFlushTlb);
  signals_.clear(Signal::kProtectCode);
  if (signals_.has(Signal::kInit)) return Exit::kInit;
  if (signals_.has(Signal::kExit)) {
    signals_.clear(Signal::kExit);
    return Exit::kKicked;
  }
  if (kept_.activity == Activity::kShutdown) return Exit::kTripleFault;
  if (kept_.activity != Activity::kRunning && !wakes()) return Exit::kHalted;
  kept_.activity = Activity::kRunning;
  return std::nullopt;
}

bool HvfVcpu::wakes() {
  if (kept_.activity != Activity::kHalted) return false;
  if (event_) return true;
  if (signals_.has(Signal::kNmi) &&
      (handle_.read(Field::kGuestInterruptibility) & kBlockedByNmi) == 0)
    return true;
  if (!signals_.has(Signal::kInterrupt)) return false;
  return (handle_.read(Field::kGuestRflags) & kInterruptFlag) != 0;
}

// What the next entry injects, and which windows it waits for. One event an entry. Returns the
// signals that the guest may be entered with: it leaves when it can take them.
std::uint32_t HvfVcpu::choose_event() {
  constexpr std::uint32_t kEvents = bit(Signal::kNmi) | bit(Signal::kInterrupt);
  if ((signals_.pending() & kEvents) != 0 && !event_) {
    const std::uint64_t blocked = handle_.read(Field::kGuestInterruptibility);
    if (!offer_nmi(blocked)) offer_interrupt(blocked);
  }
  const std::uint32_t left = signals_.pending() & kEvents;
  ask_for_windows((left & bit(Signal::kInterrupt)) != 0, (left & bit(Signal::kNmi)) != 0);
  // A start-up IPI means nothing to a CPU that runs.
  return left | bit(Signal::kSipi);
}

bool HvfVcpu::offer_nmi(std::uint64_t blocked) {
  constexpr std::uint64_t kAny = kBlockedBySti | kBlockedByMovSs | kBlockedByNmi;
  if (!signals_.has(Signal::kNmi) || (blocked & kAny) != 0) return false;
  signals_.clear(Signal::kNmi);
  add(count_.interrupts);
  event_ = Event::of(EventType::kNmi, 2);
  return true;
}

void HvfVcpu::offer_interrupt(std::uint64_t blocked) {
  if (!signals_.has(Signal::kInterrupt) || (blocked & (kBlockedBySti | kBlockedByMovSs)) != 0)
    return;
  if ((handle_.read(Field::kGuestRflags) & kInterruptFlag) == 0) return;
  const auto vector = platform_.acknowledge_interrupt(wiring_.index);
  if (!vector) return;
  add(count_.interrupts);
  event_ = Event::of(EventType::kExternal, *vector);
}

void HvfVcpu::ask_for_windows(bool interrupt, bool nmi) {
  constexpr std::uint32_t kWindows = kInterruptWindowExiting | kNmiWindowExiting;
  const std::uint32_t wanted = (own_primary_ & ~kWindows) |
                               (interrupt ? kInterruptWindowExiting : 0u) |
                               (nmi ? kNmiWindowExiting : 0u);
  if (wanted == primary_) return;
  primary_ = wanted;
  handle_.write(Field::kPrimaryControls, wanted);
}

// The hardware has no A20 gate, and without "unrestricted guest" none of the modes of a machine
// that starts.
bool HvfVcpu::must_interpret() const {
  if (platform_.a20_mask() != ~0ull) return true;
  if (controls_.unrestricted()) return false;
  constexpr std::uint64_t kBoth = kProtection | kPaging;
  return (handle_.read(Field::kCr0Shadow) & kBoth) != kBoth;
}

// SDM Vol. 3, "Checks on Guest RIP, RFLAGS" and "Checks on Guest Non-Register State": what an
// entry that injects demands of the state.
bool HvfVcpu::injectable() const {
  if (event_.type() == EventType::kException) return true;
  const std::uint64_t blocked = handle_.read(Field::kGuestInterruptibility);
  if ((blocked & (kBlockedBySti | kBlockedByMovSs)) != 0) return false;
  if (event_.type() == EventType::kNmi) return (blocked & kBlockedByNmi) == 0;
  return (handle_.read(Field::kGuestRflags) & kInterruptFlag) != 0;
}

// False: a signal came meanwhile, or there is nothing to answer.
bool HvfVcpu::enter(std::uint32_t known) {
  signals_.enter();
  const bool quiet = (signals_.pending() & ~known) == 0;
  const bool ran = quiet && enter_guest();
  (void)signals_.leave();
  return ran;
}

bool HvfVcpu::enter_guest() {
  if (event_) {
    handle_.write(Field::kEntryEvent, event_.information);
    if ((event_.information & kEventHasError) != 0)
      handle_.write(Field::kEntryEventError, event_.error);
  }
  if (!handle_.run(kLongestStay)) return false;
  collect_events();
  return true;
}

// What became of the event that was to be injected, and what was being delivered when the guest
// was left (SDM Vol. 3, "Information for VM Exits That Occur During Event Delivery").
void HvfVcpu::collect_events() {
  if (event_) {
    const bool entered = (handle_.read(Field::kEntryEvent) & kEventValid) == 0;
    handle_.write(Field::kEntryEvent, 0);
    if (!entered) return;
    event_ = {};
  }
  const auto vectoring = static_cast<std::uint32_t>(handle_.read(Field::kVectoringEvent));
  if ((vectoring & kEventValid) == 0) return;
  event_.information = vectoring & ~kNmiUnblockedByIret;
  if ((vectoring & kEventHasError) != 0)
    event_.error = static_cast<std::uint32_t>(handle_.read(Field::kVectoringEventError));
  if (event_.type() == EventType::kNmi) {
    const std::uint64_t blocked = handle_.read(Field::kGuestInterruptibility);
    handle_.write(Field::kGuestInterruptibility, blocked & ~std::uint64_t{kBlockedByNmi});
  }
  if (event_.by_instruction()) event_ = {};
}

// An NMI that was not delivered is a signal again, where it is saved and seen. An interrupt stays
// accepted. A fault comes again with its instruction.
Exit HvfVcpu::leave(Exit exit) {
  if (event_ && event_.type() == EventType::kNmi) {
    event_ = {};
    signals_.raise(Signal::kNmi);
  }
  return exit;
}

// The counter runs on in the hardware while the guest's clock stands: at each round it is set to
// where the clock is.
void HvfVcpu::sync_tsc() {
  const std::uint64_t round = platform_.clock_rounds();
  if (round == tsc_round_) return;
  tsc_round_ = round;
  tsc_offset_ = machine_.counter().offset(platform_, host().tsc_hz);
  guest_.set_tsc_offset(tsc_offset_);
  handle_.write(Field::kTscOffset, tsc_offset_ + kept_.tsc_adjust);
}

}  // namespace hv::hvf

// Registers, modes and MSRs of the local APIC.
#include "irq/lapic.h"

#include "accel/frequencies.h"
#include "irq/lapic_bits.h"
#include "irq/lapic_registers.h"

namespace hv {

namespace {

using namespace lapic;

// "Local APIC Version Register": integrated (0x14), the last LVT entry is number 6, EOI broadcast
// can be suppressed.
constexpr std::uint32_t kVersionValue = 0x01060014;
constexpr std::uint32_t kMsrBase = 0x1b, kMsrDeadline = 0x6e0, kMsrX2apic = 0x800;
constexpr std::uint64_t kBaseAddress = 0xffffffffff000;  // as wide as addresses can be, 52 bits

constexpr bool only_zero(unsigned at) { return at == kEoi || at == kEsr; }

int lvt_at(unsigned at) {
  if (at == kLvtCmciAt) return kLvtCmci;
  if (at < kLvtFirst || at > kLvtLast) return -1;
  return static_cast<int>((at - kLvtFirst) / 16);
}

}  // namespace

Lapic::Lapic(ApicBus& bus, TimerService& timers, VcpuSignals& signals, VcpuIndex index)
    : bus_{bus},
      timers_{timers},
      signals_{signals},
      index_{index},
      timer_{timers, [this](std::uint64_t) { on_timer(); }} {
  reset();
}

void Lapic::reset() {
  std::scoped_lock hold(mutex_);
  power_on();
  state_.base = kAddress | kBaseEnable | (index_ == 0 ? kBaseBsp : 0);
  if (index_ == 0) {
    state_.svr |= kSvrEnable;
    state_.lvt[kLvtLint0] = static_cast<std::uint32_t>(DeliveryMode::kExtInt) << 8;
    state_.lvt[kLvtLint1] = static_cast<std::uint32_t>(DeliveryMode::kNmi) << 8;
  }
  update();
}

// "Local APIC State After Power-Up or Reset"; the pins' levels are not the APIC's.
void Lapic::power_on() {
  LapicState fresh;
  fresh.base = state_.base;
  fresh.lint = state_.lint;
  fresh.id = index_;
  fresh.dfr = 0xffffffff;
  fresh.svr = 0xff;
  fresh.lvt.fill(kLvtMasked);
  state_ = fresh;
  timer_.cancel();
}

// "Local APIC State After an INIT Reset": as power-up, except that ID and IA32_APIC_BASE stay.
void Lapic::init() { power_on(); }

LapicState Lapic::state() const {
  std::scoped_lock hold(mutex_);
  return state_;
}

void Lapic::set_state(const LapicState& state) {
  std::scoped_lock hold(mutex_);
  state_ = state;
  state_.divide &= 0xb;
  state_.id = index_;
  if (state_.initial_count == 0) state_.counting = false;
  arm_timer(timers_.clock().now());
  update();
}

Lapic::Mode Lapic::mode() const {
  if ((state_.base & kBaseEnable) == 0) return Mode::kDisabled;
  return (state_.base & kBaseX2apic) != 0 ? Mode::kX2apic : Mode::kXapic;
}

bool Lapic::enabled() const {
  return mode() != Mode::kDisabled && (state_.svr & kSvrEnable) != 0;
}

bool Lapic::decodes(Gpa at) const noexcept {
  return (raw(at) & ~std::uint64_t{0xfff}) == base_.load(std::memory_order_relaxed);
}

std::uint64_t Lapic::read(std::uint64_t offset, unsigned size) {
  std::scoped_lock hold(mutex_);
  const unsigned at = static_cast<unsigned>(offset & 0xff0);
  const unsigned lane = static_cast<unsigned>(offset & 0xf);
  std::uint64_t value = 0;
  if (at < 0x400 && readable(kByIndex[at / 16].xapic))
    value = read_register(at);
  else if (at >= 0x400 || kByIndex[at / 16].xapic == Access::kNone)
    error(kIllegalRegister);
  update();
  value = lane < 4 ? value >> (8 * lane) : 0;
  return size >= 8 ? value : value & ((1ull << (8 * size)) - 1);
}

// Only aligned writes reach a register ("must be accessed using 128-bit aligned 32-bit loads or
// stores"; what else happens is model-specific); a narrower one is extended with zeros.
void Lapic::write(std::uint64_t offset, unsigned, std::uint64_t value) {
  if (offset % 16 != 0) return;
  const unsigned at = static_cast<unsigned>(offset & 0xff0);
  Effects effects;
  if (at == kEoi) wait_before_eoi();
  {
    std::scoped_lock hold(mutex_);
    const Register& r = kByIndex[at / 16 % 64];
    if (at < 0x400 && writable(r.xapic))
      write_register(at, static_cast<std::uint32_t>(value) & r.writable, effects);
    else if (at >= 0x400 || r.xapic == Access::kNone)
      error(kIllegalRegister);
    update();
  }
  perform(effects);
}

std::uint32_t Lapic::id_register() const {
  return mode() == Mode::kX2apic ? state_.id : state_.id << 24;
}

// "Logical x2APIC ID": cluster in 31:16, one bit in 15:0.
std::uint32_t Lapic::ldr_register() const {
  if (mode() != Mode::kX2apic) return state_.ldr;
  return (state_.id >> 4 << 16) | 1u << (state_.id & 0xf);
}

std::uint32_t Lapic::read_register(unsigned at) const {
  const unsigned word = at / 16 % 8;
  if (at >= kIsr && at < kTmr) return state_.isr[word];
  if (at >= kTmr && at < kIrr) return state_.tmr[word];
  if (at >= kIrr && at < kEsr) return state_.irr[word];
  if (const int lvt = lvt_at(at); lvt >= 0) {
    const bool waits = lvt == kLvtLint0 && state_.lint_remote_irr;
    return state_.lvt[static_cast<unsigned>(lvt)] | (waits ? kLvtRemoteIrr : 0);
  }
  switch (at) {
    case kId: return id_register();
    case kVersion: return kVersionValue;
    case kTpr: return state_.tpr;
    case kApr: return arbitration_priority();
    case kPpr: return processor_priority();
    case kLdr: return ldr_register();
    case kDfr: return state_.dfr;
    case kSvr: return state_.svr;
    case kEsr: return state_.esr;
    case kIcr: return static_cast<std::uint32_t>(state_.icr);
    case kIcrHigh: return static_cast<std::uint32_t>(state_.icr >> 32);
    case kInitialCount: return timer_mode() == kTscDeadline ? 0 : state_.initial_count;
    case kCurrentCount: return current_count(timers_.clock().now());
    case kDivide: return state_.divide;
    default: return 0;
  }
}

// `value` has only writable bits.
void Lapic::write_register(unsigned at, std::uint32_t value, Effects& effects) {
  if (const int lvt = lvt_at(at); lvt >= 0) return write_lvt(static_cast<unsigned>(lvt), value);
  switch (at) {
    case kTpr: state_.tpr = value; break;
    case kEoi: end_of_interrupt(effects); break;
    case kLdr: state_.ldr = value; break;
    case kDfr: state_.dfr = value | 0x0fffffff; break;
    case kSvr: write_svr(value); break;
    case kEsr:
      // "a write must be done to update the register before attempting to read it".
      state_.esr = state_.esr_pending;
      state_.esr_pending = 0;
      break;
    case kIcr:
      state_.icr = (state_.icr & ~0xffffffffull) | value;
      effects.icr = state_.icr;
      break;
    case kIcrHigh: state_.icr = (state_.icr & 0xffffffff) | std::uint64_t{value} << 32; break;
    case kInitialCount: start_count(value); break;
    case kDivide: {
      const GuestNs now = timers_.clock().now();
      settle_timer(now);
      rebase_count(now, value);
      arm_timer(now);
      break;
    }
    default: break;
  }
}

// "Spurious Interrupt": disabling sets the masks of the whole LVT, and they cannot be cleared
// until it is enabled again.
void Lapic::write_svr(std::uint32_t value) {
  state_.svr = value;
  if ((value & kSvrEnable) != 0) return;
  settle_timer(timers_.clock().now());
  for (std::uint32_t& entry : state_.lvt) entry |= kLvtMasked;
  timer_.cancel();
}

void Lapic::write_lvt(unsigned lvt, std::uint32_t value) {
  if ((state_.svr & kSvrEnable) == 0) value |= kLvtMasked;
  if (lvt != kLvtTimer) {
    state_.lvt[lvt] = value;
    if (lvt == kLvtLint0 || lvt == kLvtLint1) request_by_level();
    return;
  }
  const GuestNs now = timers_.clock().now();
  settle_timer(now);
  const std::uint32_t before = timer_mode();
  const std::uint32_t count = current_count(now);
  state_.lvt[lvt] = value;
  // "Transitioning between TSC-deadline mode and other timer modes also disarms the timer";
  // between the other two the count goes on.
  if ((before > kPeriodic) != (timer_mode() > kPeriodic)) {
    state_.counting = false;
    state_.tsc_deadline = 0;
  } else if (before != timer_mode() && state_.counting) {
    state_.count_start = now - time_of(std::uint64_t{state_.initial_count - count} * divider(),
                                       kCrystalHz);
    state_.ticks = {};
  }
  arm_timer(now);
}

// --- MSRs ---

std::optional<std::uint64_t> Lapic::read_msr(std::uint32_t index) {
  std::scoped_lock hold(mutex_);
  if (index == kMsrBase) return state_.base;
  if (index == kMsrDeadline) {
    settle_timer(timers_.clock().now());
    update();
    return state_.tsc_deadline;
  }
  return read_x2apic(index);
}

std::optional<std::uint64_t> Lapic::read_x2apic(std::uint32_t index) {
  const std::uint32_t n = index - kMsrX2apic;
  if (mode() != Mode::kX2apic || n >= kByIndex.size() || !readable(kByIndex[n].x2apic))
    return std::nullopt;
  if (n * 16 == kIcr) return state_.icr;
  return read_register(n * 16);
}

bool Lapic::write_msr(std::uint32_t index, std::uint64_t value) {
  if (index == kMsrX2apic + kEoi / 16 && value == 0) wait_before_eoi();
  const bool x2apic = index >= kMsrX2apic && index < kMsrX2apic + kByIndex.size();
  if (x2apic) return write_x2apic(index, value);
  std::scoped_lock hold(mutex_);
  bool known = true;
  if (index == kMsrBase)
    known = write_base(value);
  else if (index == kMsrDeadline)
    write_deadline(value);
  else
    known = false;
  update();
  return known;
}

// "Reserved bits" of x2APIC registers fault; so does everything in another mode.
bool Lapic::write_x2apic(std::uint32_t index, std::uint64_t value) {
  const unsigned n = index - kMsrX2apic;
  const Register& r = kByIndex[n];
  const std::uint64_t low = value & 0xffffffff;
  Effects effects;
  {
    std::scoped_lock hold(mutex_);
    if (mode() != Mode::kX2apic || !writable(r.x2apic)) return false;
    if (only_zero(r.at) && value != 0) return false;
    if (r.at != kIcr && value != low) return false;
    if ((low & ~std::uint64_t{r.writable | r.ignored}) != 0) return false;
    const auto kept = static_cast<std::uint32_t>(low & r.writable);
    if (r.at == kIcr) {
      state_.icr = (value & ~0xffffffffull) | kept;
      effects.icr = state_.icr;
    } else if (r.at == kSelfIpi) {
      constexpr std::uint64_t kToSelf = 1u << 18;
      effects.icr = kToSelf | kept;
    } else {
      write_register(r.at, kept, effects);
    }
    update();
  }
  perform(effects);
  return true;
}

// "x2APIC State Transitions": enabling both at once, or falling back from x2APIC to xAPIC, faults.
bool Lapic::write_base(std::uint64_t value) {
  constexpr std::uint64_t kKnown = kBaseAddress | kBaseBsp | kBaseX2apic | kBaseEnable;
  const bool enable = (value & kBaseEnable) != 0, x2apic = (value & kBaseX2apic) != 0;
  const Mode before = mode();
  if ((value & ~kKnown) != 0 || (x2apic && !enable)) return false;
  if (before == Mode::kX2apic && enable && !x2apic) return false;
  if (before == Mode::kDisabled && x2apic) return false;
  state_.base = (value & ~kBaseBsp) | (state_.base & kBaseBsp);
  // "Once disabled, the APIC may lose its state": ours starts afresh.
  if (before != Mode::kDisabled && !enable) power_on();
  if (before != Mode::kX2apic && x2apic) state_.icr &= 0xffffffff;
  return true;
}

std::uint8_t Lapic::cr8() {
  std::scoped_lock hold(mutex_);
  return static_cast<std::uint8_t>(state_.tpr >> 4);
}

void Lapic::set_cr8(std::uint8_t value) {
  std::scoped_lock hold(mutex_);
  state_.tpr = (value & 0xfu) << 4;
  update();
}

}  // namespace hv

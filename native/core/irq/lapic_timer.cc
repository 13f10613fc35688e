// The timer of the local APIC: one-shot and periodic at the crystal's frequency, TSC deadline.
// SDM Vol. 3, "APIC Timer".
//
// Nothing counts: the current count follows from when the initial count was written. The timer
// service is armed only while the LVT entry lets the interrupt through.
#include "accel/frequencies.h"
#include "irq/lapic.h"
#include "irq/lapic_bits.h"

namespace hv {

namespace {

using namespace lapic;

// The first nanosecond at which GuestClock::tsc() reaches `tsc`.
constexpr GuestNs time_of_tsc(std::uint64_t tsc) {
  static_assert(kTscHz * 2 == kNsPerSecond * 5, "the ratio below");
  return tsc / 5 * 2 + (tsc % 5 * 2 + 4) / 5;
}

}  // namespace

std::uint32_t Lapic::timer_mode() const { return state_.lvt[kLvtTimer] >> 17 & 3; }

// "Divide Configuration Register": bits 3, 1 and 0 are n; the clock is divided by 2^(n+1), and by
// 1 where n is 7.
std::uint32_t Lapic::divider() const {
  const std::uint32_t n = (state_.divide >> 1 & 4) | (state_.divide & 3);
  return 1u << ((n + 1) & 7);
}

std::uint64_t Lapic::timer_ticks(GuestNs now) const {
  return ticks_at(now - state_.count_start, kCrystalHz) / divider();
}

std::uint32_t Lapic::current_count(GuestNs now) const {
  if (!state_.counting || timer_mode() > kPeriodic) return 0;
  const std::uint64_t ticks = timer_ticks(now);
  if (timer_mode() == kPeriodic)
    return state_.initial_count - static_cast<std::uint32_t>(ticks % state_.initial_count);
  return ticks >= state_.initial_count ? 0
                                       : state_.initial_count - static_cast<std::uint32_t>(ticks);
}

// "In TSC-deadline mode, writes to the initial-count register are ignored"; 0 stops the timer.
void Lapic::start_count(std::uint32_t initial) {
  if (timer_mode() > kPeriodic) return;
  const GuestNs now = timers_.clock().now();
  state_.initial_count = initial;
  state_.count_start = now;
  state_.counting = initial != 0;
  state_.ticks = {};
  arm_timer(now);
}

// Another divider from now on, with the count as far as it has come.
void Lapic::rebase_count(GuestNs now, std::uint32_t divide) {
  const std::uint64_t passed = state_.initial_count - current_count(now);
  state_.divide = divide;
  if (!state_.counting) return;
  state_.count_start = now - time_of(passed * divider(), kCrystalHz);
  state_.ticks = {};
}

void Lapic::settle_timer(GuestNs now) {
  const bool heard = (state_.lvt[kLvtTimer] & kLvtMasked) == 0;
  bool fire = false;
  if (timer_mode() == kTscDeadline) {
    fire = state_.tsc_deadline != 0 && now >= time_of_tsc(state_.tsc_deadline);
    if (fire) state_.tsc_deadline = 0;
  } else if (state_.counting && timer_mode() == kOneShot) {
    fire = timer_ticks(now) >= state_.initial_count;
    if (fire) state_.counting = false;
  } else if (state_.counting && timer_mode() == kPeriodic) {
    const std::uint64_t due = timer_ticks(now) / state_.initial_count;
    if (heard)
      fire = state_.ticks.take(due);
    else
      state_.ticks.given = due;  // the ticks of a masked timer are nobody's
  }
  if (fire && heard) local_interrupt(kLvtTimer);
}

void Lapic::arm_timer(GuestNs now) {
  const bool heard = (state_.lvt[kLvtTimer] & kLvtMasked) == 0;
  const std::uint32_t mode = timer_mode();
  if (heard && mode == kTscDeadline && state_.tsc_deadline != 0) {
    timer_.arm(time_of_tsc(state_.tsc_deadline));
  } else if (heard && mode <= kPeriodic && state_.counting) {
    const std::uint64_t period = std::uint64_t{state_.initial_count} * divider();
    const std::uint64_t due = mode == kPeriodic ? timer_ticks(now) / state_.initial_count : 0;
    const GuestNs regular = state_.count_start + time_of((due + 1) * period, kCrystalHz);
    timer_.arm(mode == kOneShot
                   ? regular
                   : state_.ticks.next(due, now, regular, time_of(period, kCrystalHz)));
  } else {
    timer_.cancel();
  }
}

// "TSC-Deadline Mode": outside it the register reads 0 and writes are ignored; 0 disarms.
void Lapic::write_deadline(std::uint64_t value) {
  if (timer_mode() != kTscDeadline) return;
  const GuestNs now = timers_.clock().now();
  settle_timer(now);
  state_.tsc_deadline = value;
  settle_timer(now);
  arm_timer(now);
}

void Lapic::on_timer() {
  std::scoped_lock hold(mutex_);
  const GuestNs now = timers_.clock().now();
  settle_timer(now);
  arm_timer(now);
  update();
}

}  // namespace hv

// The local APIC's state on its way to the host's kernel and back (irq/kernel_apics.h).
#include "accel/frequencies.h"
#include "irq/lapic.h"

namespace hv {

LentLapic Lapic::lend() {
  std::scoped_lock hold(mutex_);
  const GuestNs now = timers_.clock().now();
  settle_timer(now);
  timer_.cancel();
  lent_ = true;
  update();
  return {state_, current_count(now)};
}

// What the kernel's has no register for stays as it was: the pins, and what only a guest's own
// accesses could have changed here.
void Lapic::take_back(const LentLapic& lent) {
  std::scoped_lock hold(mutex_);
  const GuestNs now = timers_.clock().now();
  LapicState back = lent.state;
  back.id = index_;
  back.esr_pending = state_.esr_pending;
  back.lint = state_.lint;
  back.ext_int = state_.ext_int;
  back.lint_remote_irr = state_.lint_remote_irr;
  state_ = back;
  lent_ = false;
  const std::uint64_t counted = std::uint64_t{back.initial_count} - lent.current_count;
  // A count that began before the guest's clock did cannot be: a frequency that differs by less
  // than rounding could make one.
  const GuestNs since = time_of(counted * divider(), kCrystalHz);
  state_.count_start = since < now ? now - since : 0;
  state_.ticks = {};
  arm_timer(now);
  update();
}

}  // namespace hv

// Time in a test's hand: a host clock that moves when told, the guest clock on it, and the timer
// service without a thread.
#pragma once
#include <atomic>
#include <cstdint>

#include "time/guest_clock.h"
#include "time/timer_service.h"

namespace hv {

class ManualHostClock final : public HostClock {
 public:
  std::uint64_t now() const override { return now_.load(std::memory_order_acquire); }
  void set(std::uint64_t ns) { now_.store(ns, std::memory_order_release); }

 private:
  std::atomic<std::uint64_t> now_{1'000'000'007};  // any start will do
};

struct ManualTime {
  ManualHostClock host;
  GuestClock clock{host};
  TimerService timers{clock, TimerService::Threading::kManual};

  ManualTime() { clock.resume(); }
  // On to `now() + ns`, stopping at every deadline on the way.
  void advance(GuestNs ns) {
    const GuestNs end = clock.now() + ns;
    for (auto due = timers.next_due(); due && *due <= end; due = timers.next_due()) {
      const GuestNs now = clock.now();
      if (*due > now) host.set(host.now() + (*due - now));
      timers.run_due();
    }
    jump(end - clock.now());
  }
  // The host was away for `ns`: deadlines are met late.
  void jump(GuestNs ns) {
    host.set(host.now() + ns);
    timers.run_due();
  }
};

}  // namespace hv

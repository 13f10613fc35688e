// Counting periods of a frequency in guest nanoseconds, exactly: tick n of a clock of `hz` begins
// at the first nanosecond at which ticks_at() is n, so no error ever adds up.
#pragma once
#include <cstdint>
#include <limits>

#include "base/types.h"

namespace hv {

inline constexpr std::uint64_t kNsPerSecond = 1'000'000'000;

// Whole ticks that have passed at `now`.
constexpr std::uint64_t ticks_at(GuestNs now, std::uint64_t hz) {
  // 2^64 ns are 1.8e10 s, times any hz below 2^29 stays in 64 bits; the parts are apart so that
  // no 128-bit division is needed.
  return now / kNsPerSecond * hz + now % kNsPerSecond * hz / kNsPerSecond;
}

// The first nanosecond at which ticks_at() reaches `tick`; the end of time where that is past it.
constexpr GuestNs time_of(std::uint64_t tick, std::uint64_t hz) {
  constexpr std::uint64_t kEver = std::numeric_limits<GuestNs>::max();
  if (tick / hz >= kEver / kNsPerSecond) return kEver;
  return tick / hz * kNsPerSecond + (tick % hz * kNsPerSecond + hz - 1) / hz;
}

// `now + delay` that stops at the end of time instead of wrapping.
constexpr GuestNs later(GuestNs now, GuestNs delay) {
  return delay > std::numeric_limits<GuestNs>::max() - now ? std::numeric_limits<GuestNs>::max()
                                                          : now + delay;
}

// Periodic interrupts that the host was too late for: handed out one at a time, closer together
// than the period, and no more than kMostLate of them; what is later is dropped. A period
// shorter than kLeastGap, which no guest can serve, costs the host no more than that.
struct TickPacer {
  static constexpr std::uint64_t kMostLate = 16;
  static constexpr GuestNs kLeastGap = 50'000;
  std::uint64_t given = 0;

  // `due`: ticks since the timer was started. True: deliver one now.
  bool take(std::uint64_t due) {
    if (due <= given) return false;
    if (due - given > kMostLate) given = due - kMostLate;
    ++given;
    return true;
  }
  // When to look again. `regular`: the time of tick `due + 1`; `period`: 0 where it is the last.
  GuestNs next(std::uint64_t due, GuestNs now, GuestNs regular, GuestNs period) const {
    const GuestNs gap = period / 2 > kLeastGap ? period / 2 : kLeastGap;
    const GuestNs catch_up = later(now, gap);
    if (due > given) return catch_up;
    if (period == 0) return regular;
    return regular > later(now, kLeastGap) || period >= kLeastGap ? regular : catch_up;
  }

  template <class Visit>
  void fields(Visit&& visit) {
    visit("given", given);
  }
};

}  // namespace hv

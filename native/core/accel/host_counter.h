// The time-stamp counter of the host, which its hardware shows to guests with an offset. For
// accelerators on x86-64 hosts.
#pragma once
#include <x86intrin.h>

#include <cstdint>
#include <mutex>

#include "accel/platform.h"

namespace hv {

inline std::uint64_t host_tsc() { return __rdtsc(); }

// value * to / from without overflow.
inline std::uint64_t scale(std::uint64_t value, std::uint64_t to, std::uint64_t from) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<std::uint64_t>(static_cast<Wide>(value) * to / from);
}

// What the guest's counter is ahead of the host's. It runs on in the hardware while the guest's
// clock stands, so each round of that clock (Platform::clock_rounds()) has an offset of its own:
// the vCPU that asks first decides for all.
class CounterOffset {
 public:
  // `hz`: the counter's frequency in the guest, which is the host's.
  std::uint64_t offset(Platform& platform, std::uint64_t hz) {
    std::scoped_lock hold{mutex_};
    const std::uint64_t round = platform.clock_rounds();
    if (round != round_) {
      round_ = round;
      offset_ = scale(platform.tsc(), hz, platform.tsc_frequency()) - host_tsc();
    }
    return offset_;
  }

 private:
  std::mutex mutex_;
  std::uint64_t round_ = ~0ull, offset_ = 0;
};

}  // namespace hv

// The host's compare-and-exchange for the guest's LOCK: any alignment, which x86 allows (an access
// across two cache lines is slow, and still atomic).
#pragma once
#include <cstdint>
#include <cstring>

namespace hv::softcpu {

// 16 bytes; `expected` receives what was there. Aligned to 16, as CMPXCHG16B demands.
bool host_compare_exchange_16(std::uint8_t* at, std::uint64_t expected[2],
                              const std::uint64_t desired[2]);

template <class T>
inline bool host_compare_exchange(std::uint8_t* at, T& expected, const T& desired) {
  if constexpr (sizeof(T) <= 8) {
    typedef T Unaligned __attribute__((aligned(1), may_alias));
    return __atomic_compare_exchange_n(reinterpret_cast<Unaligned*>(at), &expected, desired, false,
                                       __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  } else {
    std::uint64_t was[2], next[2];
    std::memcpy(was, &expected, sizeof was);
    std::memcpy(next, &desired, sizeof next);
    const bool done = host_compare_exchange_16(at, was, next);
    std::memcpy(&expected, was, sizeof was);
    return done;
  }
}

}  // namespace hv::softcpu

#include "softcpu/host_atomic.h"

namespace hv::softcpu {

// 16 bytes need the host's CMPXCHG16B, which every host with our minimum (x86-64-v2) has; compilers
// that are not told so call a library that may lock, and a lock is nothing to another vCPU's plain
// store.
[[gnu::target("cx16")]] bool host_compare_exchange_16(std::uint8_t* at, std::uint64_t expected[2],
                                                      const std::uint64_t desired[2]) {
  unsigned __int128 was, next;
  std::memcpy(&was, expected, sizeof was);
  std::memcpy(&next, desired, sizeof next);
  auto* const cell = reinterpret_cast<unsigned __int128*>(at);
  const unsigned __int128 found = __sync_val_compare_and_swap(cell, was, next);
  std::memcpy(expected, &found, sizeof found);
  return found == was;
}

}  // namespace hv::softcpu

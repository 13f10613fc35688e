// A host of weaker order and stricter alignment than x86 (arm64): acquire and release keep the
// guest's order, and what is not aligned goes round the instructions that would trap on it.
#pragma once
#include <atomic>
#include <cstdint>
#include <cstring>
#include <mutex>

namespace hv::softcpu::host {

template <class T>
using Word [[gnu::may_alias]] = T;

template <class T>
inline bool aligned(const std::uint8_t* at) {
  return (reinterpret_cast<std::uintptr_t>(at) & (sizeof(T) - 1)) == 0;
}

// Not aligned: x86 has it whole within a cache line, we only within what the host's plain move
// gives; the fences keep the order.
template <class T>
inline T load(const std::uint8_t* at) {
  if (aligned<T>(at)) [[likely]]
    return __atomic_load_n(reinterpret_cast<const Word<T>*>(at), __ATOMIC_ACQUIRE);
  T value;
  std::memcpy(&value, at, sizeof value);
  std::atomic_thread_fence(std::memory_order_acquire);
  return value;
}

template <class T>
inline void store(std::uint8_t* at, T value) {
  if (aligned<T>(at)) [[likely]]
    return __atomic_store_n(reinterpret_cast<Word<T>*>(at), value, __ATOMIC_RELEASE);
  std::atomic_thread_fence(std::memory_order_release);
  std::memcpy(at, &value, sizeof value);
}

// A LL/SC pair or CASP of the host.
inline bool compare_exchange_16(std::uint8_t* at, std::uint64_t expected[2],
                                const std::uint64_t desired[2]) {
  unsigned __int128 was, next;
  std::memcpy(&was, expected, sizeof was);
  std::memcpy(&next, desired, sizeof next);
  auto* const cell = reinterpret_cast<unsigned __int128*>(at);
  const unsigned __int128 found = __sync_val_compare_and_swap(cell, was, next);
  std::memcpy(expected, &found, sizeof found);
  return found == was;
}

// Inside one aligned block of 16 bytes: that block is exchanged as a whole.
template <class T>
inline bool exchange_in_block(std::uint8_t* at, T& expected, T desired) {
  const auto within = reinterpret_cast<std::uintptr_t>(at) & 15;
  std::uint8_t* const block = at - within;
  std::uint64_t was[2] = {load<std::uint64_t>(block), load<std::uint64_t>(block + 8)};
  for (;;) {
    T found;
    std::memcpy(&found, reinterpret_cast<std::uint8_t*>(was) + within, sizeof found);
    const bool equal = found == expected;
    expected = found;
    if (!equal) return false;
    std::uint64_t next[2] = {was[0], was[1]};
    std::memcpy(reinterpret_cast<std::uint8_t*>(next) + within, &desired, sizeof desired);
    if (compare_exchange_16(block, was, next)) return true;
  }
}

// Across two blocks no instruction of the host is atomic: such LOCKs exclude one another, not
// plain accesses (docs/security.md).
template <class T>
inline bool exchange_across_blocks(std::uint8_t* at, T& expected, T desired) {
  static std::mutex one_at_a_time;
  const std::lock_guard lock{one_at_a_time};
  const T found = load<T>(at);
  const bool equal = found == expected;
  expected = found;
  if (equal) store<T>(at, desired);
  return equal;
}

// `expected` receives what was there.
template <class T>
inline bool compare_exchange(std::uint8_t* at, T& expected, T desired) {
  if (aligned<T>(at)) [[likely]]
    return __atomic_compare_exchange_n(reinterpret_cast<Word<T>*>(at), &expected, desired, false,
                                       __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  const auto within = reinterpret_cast<std::uintptr_t>(at) & 15;
  return within + sizeof(T) <= 16 ? exchange_in_block(at, expected, desired)
                                  : exchange_across_blocks(at, expected, desired);
}

}  // namespace hv::softcpu::host

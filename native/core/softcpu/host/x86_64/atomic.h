// An x86 host: plain moves are ordered as the guest's are, and LOCK CMPXCHG takes any alignment
// (across two cache lines it is slow, and still atomic).
#pragma once
#include <cstdint>
#include <cstring>

namespace hv::softcpu::host {

// Natural alignment is claimed, knowingly falsely: for types that say they may be unaligned clang
// calls a library function, which locks.
template <class T>
using Word [[gnu::may_alias]] = T;

template <class T>
__attribute__((no_sanitize("alignment"))) inline T load(const std::uint8_t* at) {
  return __atomic_load_n(reinterpret_cast<const Word<T>*>(at), __ATOMIC_ACQUIRE);
}

template <class T>
__attribute__((no_sanitize("alignment"))) inline void store(std::uint8_t* at, T value) {
  __atomic_store_n(reinterpret_cast<Word<T>*>(at), value, __ATOMIC_RELEASE);
}

// `expected` receives what was there.
template <class T>
__attribute__((no_sanitize("alignment"))) inline bool compare_exchange(std::uint8_t* at, T& expected,
                                                               T desired) {
  return __atomic_compare_exchange_n(reinterpret_cast<Word<T>*>(at), &expected, desired, false,
                                     __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

// Every host with our minimum (x86-64-v2) has CMPXCHG16B; compilers that are not told so call a
// library that may lock, and a lock is nothing to another vCPU's plain store.
inline bool compare_exchange_16(std::uint8_t* at, std::uint64_t expected[2],
                                const std::uint64_t desired[2]) {
  bool done;
  asm volatile("lock cmpxchg16b %[cell]"
               : "=@ccz"(done), [cell] "+m"(*reinterpret_cast<Word<unsigned __int128>*>(at)),
                 "+a"(expected[0]), "+d"(expected[1])
               : "b"(desired[0]), "c"(desired[1])
               : "memory");
  return done;
}

}  // namespace hv::softcpu::host

// The fast paths of guest memory: one limit check, one TLB compare, one host access. Everything
// else (faults, MMIO, two pages, code, breakpoints, alignment checks) is in memory_slow.cc.
#pragma once
#include <cstring>
#include <type_traits>

#include "softcpu/host/atomic.h"

namespace hv::softcpu {

namespace access {

// More than 8 bytes are two accesses, low half first.
template <class T>
inline T load(const std::uint8_t* at) {
  if constexpr (sizeof(T) <= 8) {
    return host::load<T>(at);
  } else {
    const std::uint64_t half[2] = {host::load<std::uint64_t>(at), host::load<std::uint64_t>(at + 8)};
    T value;
    std::memcpy(&value, half, sizeof value);
    return value;
  }
}

template <class T>
inline void store(std::uint8_t* at, const T& value) {
  if constexpr (sizeof(T) <= 8) {
    host::store<T>(at, value);
  } else {
    std::uint64_t half[2];
    std::memcpy(half, &value, sizeof half);
    host::store(at, half[0]);
    host::store(at + 8, half[1]);
  }
}

// `expected` receives what was there.
template <class T>
inline bool compare_exchange(std::uint8_t* at, T& expected, const T& desired) {
  if constexpr (sizeof(T) <= 8) {
    return host::compare_exchange<T>(at, expected, desired);
  } else {
    std::uint64_t was[2], next[2];
    std::memcpy(was, &expected, sizeof was);
    std::memcpy(next, &desired, sizeof next);
    const bool done = host::compare_exchange_16(at, was, next);
    std::memcpy(&expected, was, sizeof was);
    return done;
  }
}

inline std::uint8_t* host(std::uint64_t linear, const TlbEntry& entry) {
  return reinterpret_cast<std::uint8_t*>(linear + entry.addend);
}

template <class T>
inline bool hits(std::uint64_t linear, std::uint64_t tag) {
  return ((linear + sizeof(T) - 1) & kPageMask) == tag;
}

// Returns the old value.
template <class T, class F>
inline T update(std::uint8_t* at, bool locked, F&& f) {
  T old = load<T>(at);
  if (!locked) {
    store<T>(at, f(old));
    return old;
  }
  while (!compare_exchange<T>(at, old, f(old))) {
  }
  return old;
}

}  // namespace access

template <class T>
inline T Cpu::read_linear(std::uint64_t linear) {
  const TlbEntry& entry = tlb.at(linear);
  if (access::hits<T>(linear, entry.read_tag)) [[likely]]
    return access::load<T>(access::host(linear, entry));
  T value;
  read_slow(kNoSegment, linear, &value, sizeof value, Rights::kCpl);
  return value;
}

template <class T>
inline void Cpu::write_linear(std::uint64_t linear, T value) {
  const TlbEntry& entry = tlb.at(linear);
  if (access::hits<T>(linear, entry.write_tag)) [[likely]]
    return access::store<T>(access::host(linear, entry), value);
  write_slow(kNoSegment, linear, &value, sizeof value, Rights::kCpl);
}

template <class T>
inline T Cpu::read_system(std::uint64_t linear) {
  const TlbEntry& entry = tlb.at(Bank::kSupervisor, linear);
  if (access::hits<T>(linear, entry.read_tag)) [[likely]]
    return access::load<T>(access::host(linear, entry));
  T value;
  read_slow(kNoSegment, linear, &value, sizeof value, Rights::kSystem);
  return value;
}

template <class T>
inline void Cpu::write_system(std::uint64_t linear, T value) {
  const TlbEntry& entry = tlb.at(Bank::kSupervisor, linear);
  if (access::hits<T>(linear, entry.write_tag)) [[likely]]
    return access::store<T>(access::host(linear, entry), value);
  write_slow(kNoSegment, linear, &value, sizeof value, Rights::kSystem);
}

inline std::uint64_t Cpu::linear(unsigned segment, std::uint64_t offset, unsigned length,
                                 AccessKind kind) {
  const Window& window = windows[segment];
  const std::uint64_t end = kind == AccessKind::kWrite ? window.write_end : window.read_end;
  if (offset + length > end) [[unlikely]] return segment_slow(segment, offset, length, kind);
  return (window.base + offset) & linear_mask;
}

template <class T>
inline T Cpu::read(unsigned segment, std::uint64_t offset) {
  const std::uint64_t at = linear(segment, offset, sizeof(T), AccessKind::kRead);
  const TlbEntry& entry = tlb.at(at);
  if (access::hits<T>(at, entry.read_tag)) [[likely]]
    return access::load<T>(access::host(at, entry));
  T value;
  read_slow(segment, at, &value, sizeof value, Rights::kCpl);
  return value;
}

template <class T>
inline void Cpu::write(unsigned segment, std::uint64_t offset, T value) {
  const std::uint64_t at = linear(segment, offset, sizeof(T), AccessKind::kWrite);
  const TlbEntry& entry = tlb.at(at);
  if (access::hits<T>(at, entry.write_tag)) [[likely]]
    return access::store<T>(access::host(at, entry), value);
  write_slow(segment, at, &value, sizeof value, Rights::kCpl);
}

template <class T, class F>
inline T Cpu::modify(unsigned segment, std::uint64_t offset, bool locked, F&& f) {
  const std::uint64_t at = linear(segment, offset, sizeof(T), AccessKind::kWrite);
  const TlbEntry& entry = tlb.at(at);
  const bool fast = access::hits<T>(at, entry.write_tag);
  std::uint8_t* const bytes =
      fast ? access::host(at, entry) : begin_modify(segment, at, sizeof(T), locked);
  const T old = access::update<T>(bytes, locked, f);
  if (!fast) [[unlikely]] finish_modify();
  return old;
}

inline std::uint64_t Cpu::stack_mask() const { return current_stack_mask; }

template <class T>
inline void Cpu::push(T value) {
  const std::uint64_t mask = current_stack_mask;
  const std::uint64_t top = (gpr[kRsp] - sizeof(T)) & mask;
  write<T>(kSs, top, value);
  gpr[kRsp] = (gpr[kRsp] & ~mask) | top;
}

template <class T>
inline T Cpu::pop() {
  const std::uint64_t mask = current_stack_mask;
  const T value = read<T>(kSs, gpr[kRsp] & mask);
  gpr[kRsp] = (gpr[kRsp] & ~mask) | ((gpr[kRsp] + sizeof(T)) & mask);
  return value;
}

}  // namespace hv::softcpu

// Segment descriptors and what the access word of a Segment says.
// SDM Vol. 3, "Segment Descriptors", "System Descriptor Types".
#pragma once
#include <cstdint>

#include "accel/cpu_state.h"

namespace hv::softcpu {

// Bits of Segment::access.
enum AccessBit : std::uint32_t {
  kAccessed = 1u << 0,
  kWritableOrReadable = 1u << 1,
  kConformingOrDown = 1u << 2,
  kCode = 1u << 3,
  kNotSystem = 1u << 4,
  kPresent = 1u << 7,
  kLong = 1u << 13,
  kBig = 1u << 14,
  kGranular = 1u << 15,
  kUnusable = 1u << 16,
};

enum class SystemType : std::uint8_t {
  kTss16 = 1, kLdt = 2, kTss16Busy = 3, kCallGate16 = 4, kTaskGate = 5, kInterruptGate16 = 6,
  kTrapGate16 = 7, kTss32 = 9, kTss32Busy = 11, kCallGate32 = 12, kInterruptGate32 = 14,
  kTrapGate32 = 15,
};

// A descriptor as it lies in a table: 8 bytes, with the upper 8 of 16-byte system descriptors.
struct Descriptor {
  std::uint64_t low = 0, high = 0;

  std::uint32_t access() const { return static_cast<std::uint32_t>(low >> 40) & 0xf0ff; }
  unsigned type() const { return static_cast<unsigned>(low >> 40) & 0xf; }
  SystemType system_type() const { return static_cast<SystemType>(type()); }
  unsigned dpl() const { return static_cast<unsigned>(low >> 45) & 3; }
  bool present() const { return (low >> 47 & 1) != 0; }
  bool system() const { return (low >> 44 & 1) == 0; }
  bool code() const { return !system() && (type() & kCode) != 0; }
  bool data() const { return !system() && (type() & kCode) == 0; }
  bool conforming() const { return code() && (type() & kConformingOrDown) != 0; }
  bool readable() const { return data() || (code() && (type() & kWritableOrReadable) != 0); }
  bool writable() const { return data() && (type() & kWritableOrReadable) != 0; }
  bool long_code() const { return (low >> 53 & 1) != 0; }
  bool big() const { return (low >> 54 & 1) != 0; }

  std::uint64_t base() const {
    return (low >> 16 & 0xff'ffff) | (low >> 56 & 0xff) << 24 | (high & 0xffff'ffff) << 32;
  }
  std::uint32_t limit() const {
    const auto raw = static_cast<std::uint32_t>((low & 0xffff) | (low >> 32 & 0xf'0000));
    return (low >> 55 & 1) != 0 ? raw << 12 | 0xfff : raw;
  }

  // Gates.
  std::uint16_t gate_selector() const { return static_cast<std::uint16_t>(low >> 16); }
  std::uint64_t gate_offset() const {
    return (low & 0xffff) | (low >> 32 & 0xffff'0000) | (high & 0xffff'ffff) << 32;
  }
  std::uint16_t gate_offset16() const { return static_cast<std::uint16_t>(low); }

  Segment segment(std::uint16_t selector) const {
    return {base(), limit(), access(), selector};
  }
};

constexpr bool null_selector(std::uint16_t selector) { return (selector & 0xfffc) == 0; }
constexpr unsigned segment_dpl(const Segment& s) { return s.access >> 5 & 3; }

}  // namespace hv::softcpu

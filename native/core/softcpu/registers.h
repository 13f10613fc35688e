// Access to the general registers by width. Included at the end of cpu.h.
#pragma once
#include <concepts>
#include <cstdint>

namespace hv::softcpu {

// By Size of the address: what an offset is cut to.
inline constexpr std::uint64_t kAddressMask[4] = {0xff, 0xffff, 0xffff'ffff, ~0ull};

template <class T>
inline T Cpu::reg(unsigned number) const {
  if constexpr (sizeof(T) == 1)
    if (number >= kAh) return static_cast<T>(gpr[number - kAh] >> 8);
  return static_cast<T>(gpr[number]);
}

template <class T>
inline void Cpu::set_reg(unsigned number, T value) {
  if constexpr (sizeof(T) == 1) {
    if (number >= kAh) {
      std::uint64_t& whole = gpr[number - kAh];
      whole = (whole & ~0xff00ull) | std::uint64_t{static_cast<std::uint8_t>(value)} << 8;
      return;
    }
    gpr[number] = (gpr[number] & ~0xffull) | static_cast<std::uint8_t>(value);
  } else if constexpr (sizeof(T) == 2) {
    gpr[number] = (gpr[number] & ~0xffffull) | static_cast<std::uint16_t>(value);
  } else if constexpr (sizeof(T) == 4) {
    gpr[number] = static_cast<std::uint32_t>(value);
  } else {
    gpr[number] = static_cast<std::uint64_t>(value);
  }
}

inline std::uint64_t Cpu::effective_address(const Insn& i) const {
  const std::uint64_t offset = gpr[i.base] + (gpr[i.index] << i.scale) +
                               static_cast<std::uint64_t>(static_cast<std::int64_t>(i.disp));
  return offset & kAddressMask[i.address];
}

inline CodeSize Cpu::code_size() const {
  if (long64) return CodeSize::k64;
  return (segments[kCs].access & 1u << 14) != 0 ? CodeSize::k32 : CodeSize::k16;
}

}  // namespace hv::softcpu

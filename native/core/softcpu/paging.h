// Bits of page-table entries, page-fault error codes and control registers.
// SDM Vol. 3, "Paging" and "Control Registers".
#pragma once
#include <cstdint>

namespace hv::softcpu {

inline constexpr unsigned kPhysicalBits = 46, kLinearBits = 48;

enum Pte : std::uint64_t {
  kPtePresent = 1u << 0,
  kPteWritable = 1u << 1,
  kPteUser = 1u << 2,
  kPteAccessed = 1u << 5,
  kPteDirty = 1u << 6,
  kPteLarge = 1u << 7,
  kPteGlobal = 1u << 8,
  kPteNoExecute = 1ull << 63,
};

enum PageFaultError : std::uint32_t {
  kPfPresent = 1u << 0,
  kPfWrite = 1u << 1,
  kPfUser = 1u << 2,
  kPfReserved = 1u << 3,
  kPfFetch = 1u << 4,
};

enum Cr0 : std::uint64_t {
  kCr0Pe = 1u << 0, kCr0Mp = 1u << 1, kCr0Em = 1u << 2, kCr0Ts = 1u << 3, kCr0Et = 1u << 4,
  kCr0Ne = 1u << 5, kCr0Wp = 1u << 16, kCr0Am = 1u << 18, kCr0Nw = 1u << 29, kCr0Cd = 1u << 30,
  kCr0Pg = 1u << 31,
};

enum Cr4 : std::uint64_t {
  kCr4Vme = 1u << 0, kCr4Pvi = 1u << 1, kCr4Tsd = 1u << 2, kCr4De = 1u << 3, kCr4Pse = 1u << 4,
  kCr4Pae = 1u << 5, kCr4Mce = 1u << 6, kCr4Pge = 1u << 7, kCr4Pce = 1u << 8,
  kCr4Osfxsr = 1u << 9, kCr4Osxmmexcpt = 1u << 10, kCr4Umip = 1u << 11, kCr4Fsgsbase = 1u << 16,
  kCr4Pcide = 1u << 17, kCr4Osxsave = 1u << 18, kCr4Smep = 1u << 20, kCr4Smap = 1u << 21,
};

enum Efer : std::uint64_t {
  kEferSce = 1u << 0, kEferLme = 1u << 8, kEferLma = 1u << 10, kEferNxe = 1u << 11,
};

constexpr bool canonical(std::uint64_t linear) {
  const auto top = static_cast<std::int64_t>(linear) >> (kLinearBits - 1);
  return top == 0 || top == -1;
}

// Bits [low, high] set.
constexpr std::uint64_t bits(unsigned high, unsigned low) {
  return (~0ull >> (63 - high)) & (~0ull << low);
}

}  // namespace hv::softcpu

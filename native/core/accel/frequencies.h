// The two frequencies that CPUID leaf 0x15 states and every clock of the machine is made from.
#pragma once
#include <cstdint>

namespace hv {

// The core crystal clock: counts the local APIC's timer and the HPET.
inline constexpr std::uint64_t kCrystalHz = 25'000'000;
inline constexpr std::uint64_t kTscHz = 2'500'000'000;

}  // namespace hv

// The MSRs that only keep a value, whichever accelerator runs the guest: which there are, what may
// be written to them, and where CpuState keeps them.
#pragma once
#include <cstdint>
#include <optional>

#include "accel/cpu_state.h"

namespace hv {

inline constexpr std::uint32_t kMsrTsc = 0x10, kMsrApicBase = 0x1b, kMsrTscAdjust = 0x3b,
                               kMsrSpecCtrl = 0x48, kMsrPredCmd = 0x49, kMsrArchCapabilities = 0x10a,
                               kMsrTscDeadline = 0x6e0, kMsrEfer = 0xc000'0080,
                               kMsrFsBase = 0xc000'0100, kMsrGsBase = 0xc000'0101;

// The local APIC's, which Platform answers.
constexpr bool is_apic_msr(std::uint32_t index) {
  return index == kMsrApicBase || index == kMsrTscDeadline || (index >= 0x800 && index <= 0x8ff);
}

// nullopt: not one of them.
std::optional<std::uint64_t> read_kept_msr(const CpuState& state, std::uint32_t index);
enum class MsrWrite : std::uint8_t { kUnknown, kDone, kRefused };
MsrWrite write_kept_msr(CpuState& state, std::uint32_t index, std::uint64_t value);

// What kernels read on AMD's CPUs without asking CPUID first, as it stands once firmware has done its
// work; writes vanish. For guests that see such a CPU; nullopt: none of these.
std::optional<std::uint64_t> read_amd_msr(std::uint32_t index);

}  // namespace hv

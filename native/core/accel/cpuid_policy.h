// What CPUID says, the same under every accelerator, so that a guest may move between them and
// between hosts. An accelerator whose hardware lacks a feature takes its bit away.
#pragma once
#include <cstdint>

#include "base/types.h"

namespace hv {

inline constexpr std::uint32_t kCpuidPhysicalBits = 46;

struct CpuidRegisters {
  std::uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  friend bool operator==(const CpuidRegisters&, const CpuidRegisters&) = default;
};

// The CPU that asks.
struct CpuidSubject {
  VcpuIndex index = 0;
  std::uint32_t count = 1;
  std::uint64_t tsc_hz = 0;
  bool apic_enabled = true;  // IA32_APIC_BASE bit 11
  std::uint32_t physical_bits = kCpuidPhysicalBits;
};

CpuidRegisters cpuid_policy(const CpuidSubject& cpu, std::uint32_t leaf, std::uint32_t sub);

// What of a leaf of the policy remains where the guest runs on hardware whose CPUID says `hardware`:
// features that hardware must have go, those that the machine makes itself stay.
CpuidRegisters limit_to_hardware(std::uint32_t leaf, const CpuidRegisters& policy,
                                 const CpuidRegisters& hardware);

}  // namespace hv

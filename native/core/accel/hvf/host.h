// What this host's Hypervisor.framework and CPU offer, asked once.
#pragma once
#include <cstdint>
#include <string>

#include "accel/cpuid_policy.h"
#include "accel/hvf/controls.h"

namespace hv::hvf {

struct Host {
  Controls controls;
  std::uint64_t tsc_hz = 0;
  std::string unusable;  // why not, and what to do; empty when usable

  // A leaf of our policy, less what the hardware or the framework keeps from the guest.
  CpuidRegisters cpuid(const CpuidSubject& subject, std::uint32_t leaf, std::uint32_t sub) const;
};
const Host& host();

// A result of the framework's in words.
std::string describe(int result);

}  // namespace hv::hvf

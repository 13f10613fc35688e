// Which VMX controls a vCPU runs with, from what the host's VMX offers (SDM Vol. 3, appendix "VMX
// Capability Reporting Facility").
#pragma once
#include <cstdint>
#include <string>

#include "accel/hvf/vmx.h"

namespace hv::hvf {

// Bits 31:0 of a word of controls: those that must be 1; bits 63:32: those that may be.
struct Capabilities {
  std::uint64_t pin = 0, primary = 0, secondary = 0, exit = 0, entry = 0;
  // Bits of CR0 and CR4 that must be 1 and may be 1 in VMX operation.
  std::uint64_t cr0_fixed0 = 0, cr0_fixed1 = 0, cr4_fixed0 = 0, cr4_fixed1 = 0;
};

struct Controls {
  std::uint32_t pin = 0, primary = 0, secondary = 0, exit = 0, entry = 0;
  // CR0 as the hardware may hold it: `cr0_must` set, nothing outside `cr0_may`.
  std::uint64_t cr0_must = 0, cr0_may = 0, cr4_must = 0, cr4_may = 0;
  // Not in `primary`: for guests with more vCPUs than cores, where PAUSE loops cannot be told.
  bool pause_exits = false;
  // What the host lacks that nothing can stand for, in words; empty when it has all.
  std::string missing;

  bool unrestricted() const { return (secondary & kUnrestrictedGuest) != 0; }
  bool rdtscp() const { return (secondary & kRdtscpEnabled) != 0; }
  bool invpcid() const { return (secondary & kInvpcidEnabled) != 0; }
  bool pause_loops() const { return (secondary & kPauseLoopExiting) != 0; }
  bool pat() const { return (entry & kLoadPat) != 0 && (exit & kSavePat) != 0; }
};

// Takes every control that is required or wanted and offered. What the host insists on is taken
// too: whatever exits it brings are answered.
Controls negotiate(const Capabilities& offered);

}  // namespace hv::hvf

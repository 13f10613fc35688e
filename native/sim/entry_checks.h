// The checks of VM entry: SDM Vol. 3, chapter "VM Entries", in the order of its sections.
#pragma once
#include <cstdint>

#include "accel/hvf/controls.h"
#include "vmcs.h"

namespace hv::sim {

// "Checks on VMX Controls": nullptr, or what is wrong in words; VM entry then fails with error 7
// before anything is loaded.
const char* wrong_controls(const Vmcs& vmcs, const hvf::Capabilities& offered);

// "Checks on the Guest State Area" and the loading of PDPTEs: nullptr, or what is wrong; VM entry
// then is an exit for reason 33 with this qualification.
struct WrongState {
  const char* what = nullptr;
  std::uint64_t qualification = 0;
};
WrongState wrong_state(const Vmcs& vmcs, const hvf::Capabilities& offered);

}  // namespace hv::sim

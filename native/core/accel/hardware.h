// The host's own ways to run guest code, best first: one file a host (kvm/accelerator_linux_x64.cc,
// hardware_darwin_x64.cc …), empty where it has none.
#pragma once
#include <span>

#include "accel/accelerator.h"

namespace hv {

std::span<const Accelerator* const> hardware_accelerators();

}  // namespace hv

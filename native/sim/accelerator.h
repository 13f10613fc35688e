// The accelerator of accel/hvf over the simulated framework, under its own name.
#pragma once
#include "accel/accelerator.h"

namespace hv::sim {

const Accelerator& simulated_hvf();

}  // namespace hv::sim

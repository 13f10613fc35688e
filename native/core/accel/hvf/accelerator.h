// Hypervisor.framework as an accelerator: docs/hvf.md.
#pragma once
#include "accel/accelerator.h"

namespace hv::hvf {

const Accelerator& accelerator();

}  // namespace hv::hvf

// How fast an accelerator runs guest code on this host: nested virtualization can make hardware a
// hundred times slower than the software CPU.
#pragma once
#include <optional>

#include "accel/accelerator.h"

namespace hv {

// Nanoseconds an instruction takes in a short loop at privilege level 0; nullopt where the
// accelerator could not run it. Takes some milliseconds.
std::optional<double> time_instruction(const Accelerator& accelerator);

}  // namespace hv

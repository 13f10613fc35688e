// The accelerators of the addon that tests load: the simulated Mac's, beside the software CPU. It
// takes the place of the host's own file of this function.
#include <array>

#include "accel/hardware.h"
#include "accelerator.h"

namespace hv {

std::span<const Accelerator* const> hardware_accelerators() {
  static const std::array<const Accelerator*, 1> all = {&sim::simulated_hvf()};
  return all;
}

}  // namespace hv

// The accelerators of an Intel Mac, beside the software CPU.
#include <array>

#include "accel/hardware.h"
#include "accel/hvf/accelerator.h"

namespace hv {

std::span<const Accelerator* const> hardware_accelerators() {
  static const std::array<const Accelerator*, 1> all = {&hvf::accelerator()};
  return all;
}

}  // namespace hv

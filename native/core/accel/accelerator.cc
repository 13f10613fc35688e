#include "accel/accelerator.h"

namespace hv {

bool Machine::log_writes(bool on) {
  if (!log_hardware_writes(on)) return false;
  memory_.log_writes(on);
  return true;
}

std::optional<std::vector<std::uint64_t>> Machine::take_written() {
  if (!gather_hardware_writes()) return std::nullopt;
  return memory_.take_written();
}

}  // namespace hv

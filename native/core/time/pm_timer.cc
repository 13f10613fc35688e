#include "time/pm_timer.h"

#include "time/ticks.h"

namespace hv {

std::uint32_t PmTimer::read(std::uint32_t offset, unsigned size) const {
  const std::uint64_t count = ticks_at(clock_.now(), kHz) & 0xffffffff;
  const std::uint64_t padded = count | 0xffffffff00000000;
  const std::uint64_t lanes = offset < 4 ? padded >> (8 * offset) : ~0ull;
  return static_cast<std::uint32_t>(size >= 4 ? lanes : lanes & ((1ull << (8 * size)) - 1));
}

}  // namespace hv

// The FPU's state as XSAVE stores it in its standard form, which is how hypervisors of the host
// take and give it.
#pragma once
#include <array>
#include <cstdint>

#include "accel/cpu_state.h"

namespace hv {

struct XsaveArea {
  alignas(64) std::array<std::uint8_t, 4096> bytes{};
};

// x87 and SSE; every other component is in its initial state.
void put_fpu(const CpuState& s, XsaveArea& out);
void get_fpu(const XsaveArea& in, CpuState& s);

}  // namespace hv

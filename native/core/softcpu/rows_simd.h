#pragma once
#include <array>

#include "softcpu/insn.h"
#include "softcpu/opcode_row.h"

namespace hv::softcpu {

inline constexpr std::array<Row, 0> kSimdRows{};
Handler bind_simd(const Insn& insn);

}  // namespace hv::softcpu

#pragma once
#include <array>

#include "softcpu/insn.h"
#include "softcpu/opcode_row.h"

namespace hv::softcpu {

inline constexpr std::array<Row, 0> kIntegerRows{};
Handler bind_integer(const Insn& insn);

}  // namespace hv::softcpu

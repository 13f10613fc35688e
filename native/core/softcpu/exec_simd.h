// The groups that bind_simd() asks in turn; each answers nullptr for what is not its own.
#pragma once
#include "softcpu/insn.h"

namespace hv::softcpu::simd {

Handler bind_mmx(const Insn& insn);
Handler bind_moves(const Insn& insn);
Handler bind_integer(const Insn& insn);
Handler bind_shuffles(const Insn& insn);
Handler bind_strings(const Insn& insn);
Handler bind_arithmetic(const Insn& insn);
Handler bind_compares(const Insn& insn);
Handler bind_conversions(const Insn& insn);

}  // namespace hv::softcpu::simd

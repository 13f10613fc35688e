// The opcode table as a whole: the rows of the four families joined, looked up by opcode, and the
// way from a decoded instruction to its handler.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "softcpu/insn.h"
#include "softcpu/opcode_row.h"

namespace hv::softcpu {

enum class Family : std::uint8_t { kInteger, kSystem, kX87, kSimd };
inline constexpr std::size_t kFamilies = 4;

constexpr Family family(Op op) {
  constexpr unsigned integer_end = 1
#define OP(name) +1
#include "softcpu/ops_integer.def"
#undef OP
      ;
  constexpr unsigned system_end = integer_end
#define OP(name) +1
#include "softcpu/ops_system.def"
#undef OP
      ;
  constexpr unsigned x87_end = system_end
#define OP(name) +1
#include "softcpu/ops_x87.def"
#undef OP
      ;
  const auto number = static_cast<unsigned>(op);
  if (number < integer_end) return Family::kInteger;
  if (number < system_end) return Family::kSystem;
  return number < x87_end ? Family::kX87 : Family::kSimd;
}

// Every row there is, family by family.
std::span<const Row> rows(Family family);

// The rows of one opcode of one map, the more particular before the more general: the first that
// fits an encoding is the one.
std::span<const Row* const> candidates(Map map, std::uint8_t opcode);

// Two rows that claim one encoding with equal right, in words; empty when there are none.
std::string conflicts();

// The handler of a decoded instruction (bind.cc, with the interpreter; the decoder does without).
Handler bind(const Insn& insn);
Handler bind_integer(const Insn& insn);
Handler bind_system(const Insn& insn);
Handler bind_x87(const Insn& insn);
Handler bind_simd(const Insn& insn);

}  // namespace hv::softcpu

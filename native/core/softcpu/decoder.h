// Bytes to instructions, by the opcode table and nothing else: no CPU, no memory. It feeds the
// interpreter, the translator, the MMIO emulation of other accelerators and the test generators.
#pragma once
#include <cstdint>
#include <span>

#include "softcpu/insn.h"
#include "softcpu/opcode_row.h"

namespace hv::softcpu {

// What decides how bytes decode, and part of a block's key.
enum class CodeSize : std::uint8_t { k16, k32, k64 };

// SDM Vol. 2, "Instruction Format": no instruction is longer.
inline constexpr unsigned kMaxLength = 15;

enum class DecodeStatus : std::uint8_t {
  kOk,
  kInvalid,   // #UD
  kTooLong,   // more than 15 bytes: #GP(0)
  kNeedMore,  // the bytes given end inside the instruction
};

struct Decoded {
  DecodeStatus status = DecodeStatus::kInvalid;
  const Row* row = nullptr;  // kOk only
  Insn insn;                 // kOk only, but for `length`: bytes looked at. `run` is not bound
};

Decoded decode(std::span<const std::uint8_t> bytes, CodeSize size);

}  // namespace hv::softcpu

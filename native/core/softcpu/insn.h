// A decoded instruction: what a handler needs and nothing else, 32 bytes, so that a block of them
// is read front to back.
#pragma once
#include <cstdint>

#include "softcpu/op.h"

namespace hv::softcpu {

class Cpu;
struct Insn;
using Handler = void (*)(Cpu&, const Insn&);

// Indices into Cpu::gpr past the sixteen registers: one that always reads 0 (no base, no index)
// and RIP, which a handler finds already moved to the next instruction.
inline constexpr std::uint8_t kNoRegister = 16, kRip = 17;
// Byte registers: 0 to 15 are the low bytes of the registers, these the legacy high bytes.
inline constexpr std::uint8_t kAh = 16, kCh = 17, kDh = 18, kBh = 19;

// log2 of a width in bytes.
enum Size : std::uint8_t { k8, k16, k32, k64, k128 };
enum class Repeat : std::uint8_t { kNone, kRepe, kRepne };  // F3, F2

struct Insn {
  Handler run = nullptr;
  // Immediate or branch displacement (sIb, Iz, Iv, J: sign-extended; Ib, Iw: not), moffs, or the
  // offset of a far pointer.
  std::uint64_t imm = 0;
  std::int32_t disp = 0;   // displacement; the selector of a far pointer (Ap)
  Op op{};
  std::uint8_t length = 0;   // bytes of the encoding, 1 to 15
  std::uint8_t size = k32;   // operand size (Size); for byte forms k8
  std::uint8_t reg = 0;      // ModRM.reg with REX.R (or the register in the opcode, REX.B)
  std::uint8_t rm = 0;       // ModRM.rm with REX.B where it names a register
  std::uint8_t base = kNoRegister, index = kNoRegister;
  std::uint8_t scale : 2 = 0;    // index is shifted left by this
  std::uint8_t address : 2 = k32;  // address size (Size: k16, k32, k64)
  std::uint8_t memory : 1 = 0;   // the r/m operand is in memory
  std::uint8_t lock : 1 = 0;
  std::uint8_t repeat : 2 = 0;   // Repeat; only where the operation knows it (string, I/O)
  std::uint8_t segment = 3;      // SegIndex of the memory operand, override or default (DS, SS)
  std::uint8_t modrm = 0;        // the byte itself; its reg field without REX picks segments, MMX
  std::uint8_t imm2 = 0;         // ENTER's nesting level; VEX.vvvv
};
static_assert(sizeof(Insn) == 32);

}  // namespace hv::softcpu

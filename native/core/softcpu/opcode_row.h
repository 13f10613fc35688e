// The opcode table's columns. One row per encoding; the decoder, the interpreter, the translator,
// the disassembler and the generators of random tests all read these rows (opcodes.h), and none of
// them keeps a list of its own.
#pragma once
#include <array>
#include <cstdint>
#include <string_view>

#include "softcpu/op.h"

namespace hv::softcpu {

enum class Map : std::uint8_t { kOne, k0F, k0F38, k0F3A };

// The prefix that is part of the opcode. kNone: the row is for every prefix that no other row of
// the same opcode asks for. kNp: only without 66, F2 and F3 (SDM: "NP").
enum class Prefix : std::uint8_t { kNone, kNp, k66, kF3, kF2 };

// Which forms of ModRM the row is for.
enum class Form : std::uint8_t { kNoModrm, kAny, kMemory, kRegister };

// SDM Vol. 2, appendix A, "Codes for Addressing Method" and "Codes for Operand Type".
enum class Arg : std::uint8_t {
  kNone,
  Eb, Ew, Ed, Eq, Ev, Ey,      // r/m; y is 32 bits, or 64 with REX.W
  Gb, Gw, Gd, Gq, Gv, Gy,      // ModRM.reg
  Zb, Zv,                      // register in the opcode's low three bits
  AL, AX, eAX, rAX, CL, DX, One,
  Ib, sIb, Iw, Iz, Iv,         // sIb: sign-extended to the operand size; Iv: 64 bits with REX.W
  Jb, Jz, Ap,
  M, Mb, Mw, Md, Mq, Mdq, Mp, Ms, Ma, Mt,  // memory only: s pseudo-descriptor, t 80-bit x87
  Ob, Ov, Xb, Xv, Yb, Yv,
  Sw, Cy, Dy, Ry,              // segment, control, debug register; register r/m of y bits
  Pq, Pd, Qq, Qd, Nq,          // MMX: reg, r/m, r/m register only
  Vx, Vd, Vq, Wx, Wd, Wq, Ww, Ux, Uq,  // XMM: reg, r/m (width of the memory form), r/m register
  ST0, STi, XMM0,
};

enum Trait : std::uint32_t {
  kPlain = 0,
  kLockable = 1u << 0,       // LOCK is allowed on the memory form
  kEndsBlock = 1u << 1,      // may leave RIP elsewhere, or change how the next bytes decode
  kDefault64 = 1u << 2,      // operand size 64 in long mode without REX.W (66 gives 16)
  kForce64 = 1u << 3,        // operand size 64 in long mode whatever the prefixes (near branches)
  kNot64 = 1u << 4,          // #UD in 64-bit mode
  kOnly64 = 1u << 5,         // #UD (or another row) outside 64-bit mode
  kByte = 1u << 6,           // operand size is k8
  kPrivileged = 1u << 7,     // #GP(0) unless CPL is 0: cannot run in user mode
  kUserVisible = 1u << 8,    // for the oracle: runs in user mode, but its result depends on the
                             // machine (CPUID, RDTSC, SGDT …); never compared
  kRepeats = 1u << 9,        // REP/REPE/REPNE mean repetition
  kNotUser = 1u << 10,       // for the oracle: cannot be shown in user mode
  kNewerReads = 1u << 11,    // for the oracle: a newer host reads this encoding as another
                             // instruction (F3 0F BC is TZCNT where the host has BMI1)
  kFpu = 1u << 12,           // #NM with CR0.EM or CR0.TS
  kSse = 1u << 13,           // #UD with CR0.EM or without CR4.OSFXSR, #NM with CR0.TS
  kWait = 1u << 14,          // x87: reports pending unmasked exceptions first
  kMmx = 1u << 15,           // #UD with CR0.EM, #NM with CR0.TS, pending x87 exceptions first
  kAligned = 1u << 16,       // the 16-byte memory operand must be aligned, #GP(0) else
  kNeedsVex = 1u << 17,      // only with a VEX prefix (none are built yet)
};

// Flags an operation leaves undefined: tests do not compare them.
enum FlagBit : std::uint32_t {
  kCf = 1u << 0, kPf = 1u << 2, kAf = 1u << 4, kZf = 1u << 6, kSf = 1u << 7, kTf = 1u << 8,
  kIf = 1u << 9, kDf = 1u << 10, kOf = 1u << 11, kIopl = 3u << 12, kNt = 1u << 14, kRf = 1u << 16,
  kVm = 1u << 17, kAc = 1u << 18, kVif = 1u << 19, kVip = 1u << 20, kId = 1u << 21,
  kArith = kCf | kPf | kAf | kZf | kSf | kOf,
};

enum class Vex : std::uint8_t { kLegacy, k128, k256, kLig, kLz };

inline constexpr std::int8_t kAnyDigit = -1;
inline constexpr std::int16_t kAnyModrm = -1;

struct Row {
  Map map;
  std::uint8_t opcode;
  Op op;
  std::string_view name;  // Intel's mnemonic, lower case
  Form form = Form::kNoModrm;
  std::array<Arg, 3> args{};
  std::uint32_t traits = kPlain;
  std::uint32_t undefined = 0;        // FlagBit
  Prefix prefix = Prefix::kNone;
  std::int8_t digit = kAnyDigit;      // ModRM.reg where it selects the operation ("/4")
  std::int16_t modrm = kAnyModrm;     // the whole byte where it does (x87, 0F 01 C8 …)
  Vex vex = Vex::kLegacy;
};

}  // namespace hv::softcpu

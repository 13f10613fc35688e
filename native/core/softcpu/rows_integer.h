// The opcode rows of the integer family: SDM Vol. 2, appendix A, "Opcode Map", and the entries of
// the single instructions for traits and undefined flags.
#pragma once
#include <array>

#include "softcpu/insn.h"
#include "softcpu/opcode_row.h"

namespace hv::softcpu {

// clang-format off

// Rows that differ only in opcode and operation are written by these.
#define HV_ALU(base, digit, Name, name, lock) \
    {kOne, (base) + 0, Op::k##Name##Mr, name, kAny, {Eb, Gb}, kByte | (lock), HV_ALU_UNDEFINED}, \
    {kOne, (base) + 1, Op::k##Name##Mr, name, kAny, {Ev, Gv}, lock, HV_ALU_UNDEFINED}, \
    {kOne, (base) + 2, Op::k##Name##Rm, name, kAny, {Gb, Eb}, kByte, HV_ALU_UNDEFINED}, \
    {kOne, (base) + 3, Op::k##Name##Rm, name, kAny, {Gv, Ev}, kPlain, HV_ALU_UNDEFINED}, \
    {kOne, (base) + 4, Op::k##Name##Mi, name, kNoModrm, {AL, Ib}, kByte, HV_ALU_UNDEFINED}, \
    {kOne, (base) + 5, Op::k##Name##Mi, name, kNoModrm, {rAX, Iz}, kPlain, HV_ALU_UNDEFINED}, \
    {kOne, 0x80, Op::k##Name##Mi, name, kAny, {Eb, Ib}, kByte | (lock), HV_ALU_UNDEFINED, Prefix::kNone, digit}, \
    {kOne, 0x81, Op::k##Name##Mi, name, kAny, {Ev, Iz}, lock, HV_ALU_UNDEFINED, Prefix::kNone, digit}, \
    {kOne, 0x82, Op::k##Name##Mi, name, kAny, {Eb, Ib}, kByte | kNot64 | (lock), HV_ALU_UNDEFINED, Prefix::kNone, digit}, \
    {kOne, 0x83, Op::k##Name##Mi, name, kAny, {Ev, sIb}, lock, HV_ALU_UNDEFINED, Prefix::kNone, digit}
#define HV_EIGHT(base, opname, name, args, traits) \
    {kOne, (base) + 0, opname, name, kNoModrm, args, traits}, {kOne, (base) + 1, opname, name, kNoModrm, args, traits}, \
    {kOne, (base) + 2, opname, name, kNoModrm, args, traits}, {kOne, (base) + 3, opname, name, kNoModrm, args, traits}, \
    {kOne, (base) + 4, opname, name, kNoModrm, args, traits}, {kOne, (base) + 5, opname, name, kNoModrm, args, traits}, \
    {kOne, (base) + 6, opname, name, kNoModrm, args, traits}, {kOne, (base) + 7, opname, name, kNoModrm, args, traits}
#define HV_SHIFT(digit, Name, name) \
    {kOne, 0xc0, Op::k##Name##Mi, name, kAny, {Eb, Ib}, kByte, HV_SHIFT_UNDEFINED | kOf, Prefix::kNone, digit}, \
    {kOne, 0xc1, Op::k##Name##Mi, name, kAny, {Ev, Ib}, kPlain, HV_SHIFT_UNDEFINED | kOf, Prefix::kNone, digit}, \
    {kOne, 0xd0, Op::k##Name##Mi, name, kAny, {Eb, One}, kByte, HV_SHIFT_UNDEFINED, Prefix::kNone, digit}, \
    {kOne, 0xd1, Op::k##Name##Mi, name, kAny, {Ev, One}, kPlain, HV_SHIFT_UNDEFINED, Prefix::kNone, digit}, \
    {kOne, 0xd2, Op::k##Name##Mc, name, kAny, {Eb, CL}, kByte, HV_SHIFT_UNDEFINED | kOf, Prefix::kNone, digit}, \
    {kOne, 0xd3, Op::k##Name##Mc, name, kAny, {Ev, CL}, kPlain, HV_SHIFT_UNDEFINED | kOf, Prefix::kNone, digit}
#define HV_CONDITION(code, suffix, name) \
    {kOne, 0x70 + (code), Op::kJ##suffix, "j" name, kNoModrm, {Jb}, kForce64 | kEndsBlock}, \
    {k0F, 0x80 + (code), Op::kJ##suffix, "j" name, kNoModrm, {Jz}, kForce64 | kEndsBlock}, \
    {k0F, 0x90 + (code), Op::kSet##suffix, "set" name, kAny, {Eb}, kByte}, \
    {k0F, 0x40 + (code), Op::kCmov##suffix, "cmov" name, kAny, {Gv, Ev}}
#define HV_BIT(opcode, digit, Name, name, lock) \
    {k0F, opcode, Op::k##Name##Mr, name, kAny, {Ev, Gv}, lock, kBitUndefined}, \
    {k0F, 0xba, Op::k##Name##Mi, name, kAny, {Ev, Ib}, lock, kBitUndefined, Prefix::kNone, digit}

inline constexpr auto kIntegerRows = [] {
  using enum Map;
  using enum Form;
  using enum Arg;
  constexpr std::uint32_t kBitUndefined = kOf | kSf | kAf | kPf;
  constexpr std::uint32_t kMulUndefined = kSf | kZf | kAf | kPf;
  constexpr std::uint32_t kScanUndefined = kCf | kOf | kSf | kAf | kPf;
  constexpr auto kJump = kForce64 | kEndsBlock;
  return std::to_array<Row>({
#define HV_ALU_UNDEFINED 0u
    HV_ALU(0x00, 0, Add, "add", kLockable),
    HV_ALU(0x10, 2, Adc, "adc", kLockable),
    HV_ALU(0x18, 3, Sbb, "sbb", kLockable),
    HV_ALU(0x28, 5, Sub, "sub", kLockable),
    HV_ALU(0x38, 7, Cmp, "cmp", kPlain),
#undef HV_ALU_UNDEFINED
#define HV_ALU_UNDEFINED kAf
    HV_ALU(0x08, 1, Or, "or", kLockable),
    HV_ALU(0x20, 4, And, "and", kLockable),
    HV_ALU(0x30, 6, Xor, "xor", kLockable),
#undef HV_ALU_UNDEFINED

    {kOne, 0x27, Op::kDaa, "daa", kNoModrm, {}, kNot64, kOf},
    {kOne, 0x2f, Op::kDas, "das", kNoModrm, {}, kNot64, kOf},
    {kOne, 0x37, Op::kAaa, "aaa", kNoModrm, {}, kNot64, kOf | kSf | kZf | kPf},
    {kOne, 0x3f, Op::kAas, "aas", kNoModrm, {}, kNot64, kOf | kSf | kZf | kPf},
    HV_EIGHT(0x40, Op::kIncR, "inc", {Zv}, kNot64),
    HV_EIGHT(0x48, Op::kDecR, "dec", {Zv}, kNot64),
    HV_EIGHT(0x50, Op::kPushR, "push", {Zv}, kDefault64),
    HV_EIGHT(0x58, Op::kPopR, "pop", {Zv}, kDefault64),
    {kOne, 0x60, Op::kPusha, "pusha", kNoModrm, {}, kNot64},
    {kOne, 0x61, Op::kPopa, "popa", kNoModrm, {}, kNot64},
    {kOne, 0x62, Op::kBound, "bound", kMemory, {Gv, Ma}, kNot64},
    {kOne, 0x63, Op::kMovsxd, "movsxd", kAny, {Gv, Ed}, kOnly64},
    {kOne, 0x68, Op::kPushI, "push", kNoModrm, {Iz}, kDefault64},
    {kOne, 0x69, Op::kImulRmi, "imul", kAny, {Gv, Ev, Iz}, kPlain, kMulUndefined},
    {kOne, 0x6a, Op::kPushI, "push", kNoModrm, {sIb}, kDefault64},
    {kOne, 0x6b, Op::kImulRmi, "imul", kAny, {Gv, Ev, sIb}, kPlain, kMulUndefined},

    HV_CONDITION(0x0, o, "o"), HV_CONDITION(0x1, no, "no"),
    HV_CONDITION(0x2, b, "b"), HV_CONDITION(0x3, nb, "nb"),
    HV_CONDITION(0x4, z, "z"), HV_CONDITION(0x5, nz, "nz"),
    HV_CONDITION(0x6, be, "be"), HV_CONDITION(0x7, nbe, "nbe"),
    HV_CONDITION(0x8, s, "s"), HV_CONDITION(0x9, ns, "ns"),
    HV_CONDITION(0xa, p, "p"), HV_CONDITION(0xb, np, "np"),
    HV_CONDITION(0xc, l, "l"), HV_CONDITION(0xd, nl, "nl"),
    HV_CONDITION(0xe, le, "le"), HV_CONDITION(0xf, nle, "nle"),

    {kOne, 0x84, Op::kTestMr, "test", kAny, {Eb, Gb}, kByte, kAf},
    {kOne, 0x85, Op::kTestMr, "test", kAny, {Ev, Gv}, kPlain, kAf},
    {kOne, 0x86, Op::kXchgMr, "xchg", kAny, {Eb, Gb}, kByte | kLockable},
    {kOne, 0x87, Op::kXchgMr, "xchg", kAny, {Ev, Gv}, kLockable},
    {kOne, 0x88, Op::kMovMr, "mov", kAny, {Eb, Gb}, kByte},
    {kOne, 0x89, Op::kMovMr, "mov", kAny, {Ev, Gv}},
    {kOne, 0x8a, Op::kMovRm, "mov", kAny, {Gb, Eb}, kByte},
    {kOne, 0x8b, Op::kMovRm, "mov", kAny, {Gv, Ev}},
    {kOne, 0x8d, Op::kLea, "lea", kMemory, {Gv, M}},
    {kOne, 0x8f, Op::kPopM, "pop", kAny, {Ev}, kDefault64, 0, Prefix::kNone, 0},
    HV_EIGHT(0x90, Op::kXchgAr, "xchg", (std::array<Arg, 3>{Zv, rAX}), kPlain),
    // Ends its block: who spins waits for something, and is told soon.
    {kOne, 0x90, Op::kPause, "pause", kNoModrm, {Zv}, kEndsBlock, 0, Prefix::kF3},
    {kOne, 0x98, Op::kCbw, "cbw", kNoModrm, {}},
    {kOne, 0x99, Op::kCwd, "cwd", kNoModrm, {}},
    {kOne, 0x9e, Op::kSahf, "sahf", kNoModrm, {}},
    {kOne, 0x9f, Op::kLahf, "lahf", kNoModrm, {}},
    {kOne, 0xa0, Op::kMovAo, "mov", kNoModrm, {AL, Ob}, kByte},
    {kOne, 0xa1, Op::kMovAo, "mov", kNoModrm, {rAX, Ov}},
    {kOne, 0xa2, Op::kMovOa, "mov", kNoModrm, {Ob, AL}, kByte},
    {kOne, 0xa3, Op::kMovOa, "mov", kNoModrm, {Ov, rAX}},
    {kOne, 0xa4, Op::kMovs, "movs", kNoModrm, {Yb, Xb}, kByte | kRepeats},
    {kOne, 0xa5, Op::kMovs, "movs", kNoModrm, {Yv, Xv}, kRepeats},
    {kOne, 0xa6, Op::kCmps, "cmps", kNoModrm, {Xb, Yb}, kByte | kRepeats},
    {kOne, 0xa7, Op::kCmps, "cmps", kNoModrm, {Xv, Yv}, kRepeats},
    {kOne, 0xa8, Op::kTestMi, "test", kNoModrm, {AL, Ib}, kByte, kAf},
    {kOne, 0xa9, Op::kTestMi, "test", kNoModrm, {rAX, Iz}, kPlain, kAf},
    {kOne, 0xaa, Op::kStos, "stos", kNoModrm, {Yb, AL}, kByte | kRepeats},
    {kOne, 0xab, Op::kStos, "stos", kNoModrm, {Yv, rAX}, kRepeats},
    {kOne, 0xac, Op::kLods, "lods", kNoModrm, {AL, Xb}, kByte | kRepeats},
    {kOne, 0xad, Op::kLods, "lods", kNoModrm, {rAX, Xv}, kRepeats},
    {kOne, 0xae, Op::kScas, "scas", kNoModrm, {AL, Yb}, kByte | kRepeats},
    {kOne, 0xaf, Op::kScas, "scas", kNoModrm, {rAX, Yv}, kRepeats},
    HV_EIGHT(0xb0, Op::kMovRi, "mov", (std::array<Arg, 3>{Zb, Ib}), kByte),
    HV_EIGHT(0xb8, Op::kMovRi, "mov", (std::array<Arg, 3>{Zv, Iv}), kPlain),

#define HV_SHIFT_UNDEFINED kAf
    HV_SHIFT(4, Shl, "shl"), HV_SHIFT(5, Shr, "shr"), HV_SHIFT(7, Sar, "sar"),
    HV_SHIFT(6, Shl, "shl"),  // SDM leaves /6 out; every CPU shifts left
#undef HV_SHIFT_UNDEFINED
#define HV_SHIFT_UNDEFINED 0u
    HV_SHIFT(0, Rol, "rol"), HV_SHIFT(1, Ror, "ror"), HV_SHIFT(2, Rcl, "rcl"), HV_SHIFT(3, Rcr, "rcr"),
#undef HV_SHIFT_UNDEFINED

    {kOne, 0xc2, Op::kRetI, "ret", kNoModrm, {Iw}, kJump},
    {kOne, 0xc3, Op::kRet, "ret", kNoModrm, {}, kJump},
    {kOne, 0xc6, Op::kMovMi, "mov", kAny, {Eb, Ib}, kByte, 0, Prefix::kNone, 0},
    {kOne, 0xc7, Op::kMovMi, "mov", kAny, {Ev, Iz}, kPlain, 0, Prefix::kNone, 0},
    {kOne, 0xc8, Op::kEnter, "enter", kNoModrm, {Iw, Ib}, kDefault64},
    {kOne, 0xc9, Op::kLeave, "leave", kNoModrm, {}, kDefault64},
    {kOne, 0xd4, Op::kAam, "aam", kNoModrm, {Ib}, kNot64, kOf | kAf | kCf},
    {kOne, 0xd5, Op::kAad, "aad", kNoModrm, {Ib}, kNot64, kOf | kAf | kCf},
    {kOne, 0xd6, Op::kSalc, "salc", kNoModrm, {}, kNot64 | kByte},
    {kOne, 0xd7, Op::kXlat, "xlat", kNoModrm, {}, kByte},
    {kOne, 0xe0, Op::kLoopne, "loopne", kNoModrm, {Jb}, kJump},
    {kOne, 0xe1, Op::kLoope, "loope", kNoModrm, {Jb}, kJump},
    {kOne, 0xe2, Op::kLoop, "loop", kNoModrm, {Jb}, kJump},
    {kOne, 0xe3, Op::kJcxz, "jcxz", kNoModrm, {Jb}, kJump},
    {kOne, 0xe8, Op::kCall, "call", kNoModrm, {Jz}, kJump},
    {kOne, 0xe9, Op::kJmp, "jmp", kNoModrm, {Jz}, kJump},
    {kOne, 0xeb, Op::kJmp, "jmp", kNoModrm, {Jb}, kJump},
    {kOne, 0xf5, Op::kCmc, "cmc", kNoModrm, {}},
    {kOne, 0xf6, Op::kTestMi, "test", kAny, {Eb, Ib}, kByte, kAf, Prefix::kNone, 0},
    {kOne, 0xf6, Op::kTestMi, "test", kAny, {Eb, Ib}, kByte, kAf, Prefix::kNone, 1},
    {kOne, 0xf6, Op::kNot, "not", kAny, {Eb}, kByte | kLockable, 0, Prefix::kNone, 2},
    {kOne, 0xf6, Op::kNeg, "neg", kAny, {Eb}, kByte | kLockable, 0, Prefix::kNone, 3},
    {kOne, 0xf6, Op::kMul, "mul", kAny, {Eb}, kByte, kMulUndefined, Prefix::kNone, 4},
    {kOne, 0xf6, Op::kImulA, "imul", kAny, {Eb}, kByte, kMulUndefined, Prefix::kNone, 5},
    {kOne, 0xf6, Op::kDiv, "div", kAny, {Eb}, kByte, kArith, Prefix::kNone, 6},
    {kOne, 0xf6, Op::kIdiv, "idiv", kAny, {Eb}, kByte, kArith, Prefix::kNone, 7},
    {kOne, 0xf7, Op::kTestMi, "test", kAny, {Ev, Iz}, kPlain, kAf, Prefix::kNone, 0},
    {kOne, 0xf7, Op::kTestMi, "test", kAny, {Ev, Iz}, kPlain, kAf, Prefix::kNone, 1},
    {kOne, 0xf7, Op::kNot, "not", kAny, {Ev}, kLockable, 0, Prefix::kNone, 2},
    {kOne, 0xf7, Op::kNeg, "neg", kAny, {Ev}, kLockable, 0, Prefix::kNone, 3},
    {kOne, 0xf7, Op::kMul, "mul", kAny, {Ev}, kPlain, kMulUndefined, Prefix::kNone, 4},
    {kOne, 0xf7, Op::kImulA, "imul", kAny, {Ev}, kPlain, kMulUndefined, Prefix::kNone, 5},
    {kOne, 0xf7, Op::kDiv, "div", kAny, {Ev}, kPlain, kArith, Prefix::kNone, 6},
    {kOne, 0xf7, Op::kIdiv, "idiv", kAny, {Ev}, kPlain, kArith, Prefix::kNone, 7},
    {kOne, 0xf8, Op::kClc, "clc", kNoModrm, {}},
    {kOne, 0xf9, Op::kStc, "stc", kNoModrm, {}},
    {kOne, 0xfc, Op::kCld, "cld", kNoModrm, {}},
    {kOne, 0xfd, Op::kStd, "std", kNoModrm, {}},
    {kOne, 0xfe, Op::kInc, "inc", kAny, {Eb}, kByte | kLockable, 0, Prefix::kNone, 0},
    {kOne, 0xfe, Op::kDec, "dec", kAny, {Eb}, kByte | kLockable, 0, Prefix::kNone, 1},
    {kOne, 0xff, Op::kInc, "inc", kAny, {Ev}, kLockable, 0, Prefix::kNone, 0},
    {kOne, 0xff, Op::kDec, "dec", kAny, {Ev}, kLockable, 0, Prefix::kNone, 1},
    {kOne, 0xff, Op::kCallM, "call", kAny, {Ev}, kJump, 0, Prefix::kNone, 2},
    {kOne, 0xff, Op::kJmpM, "jmp", kAny, {Ev}, kJump, 0, Prefix::kNone, 4},
    {kOne, 0xff, Op::kPushM, "push", kAny, {Ev}, kDefault64, 0, Prefix::kNone, 6},

    {k0F, 0x0b, Op::kUd, "ud2", kNoModrm, {}, kEndsBlock},
    // 3DNow! prefetches, which every 64-bit CPU takes as hints; then the hint space of SDM Vol. 2,
    // "Opcode Map" (PREFETCHh, NOP, and ENDBR32/64 in 1E).
    {k0F, 0x0d, Op::kNop, "prefetchw", kMemory, {Mb}},
    {k0F, 0x18, Op::kNop, "prefetch", kMemory, {Mb}}, {k0F, 0x18, Op::kNop, "nop", kRegister, {Ev}},
    {k0F, 0x19, Op::kNop, "nop", kAny, {Ev}}, {k0F, 0x1a, Op::kNop, "nop", kAny, {Ev}},
    {k0F, 0x1b, Op::kNop, "nop", kAny, {Ev}}, {k0F, 0x1c, Op::kNop, "nop", kAny, {Ev}},
    {k0F, 0x1d, Op::kNop, "nop", kAny, {Ev}}, {k0F, 0x1e, Op::kNop, "nop", kAny, {Ev}},
    {k0F, 0x1f, Op::kNop, "nop", kAny, {Ev}},
    HV_BIT(0xa3, 4, Bt, "bt", kPlain), HV_BIT(0xab, 5, Bts, "bts", kLockable),
    HV_BIT(0xb3, 6, Btr, "btr", kLockable), HV_BIT(0xbb, 7, Btc, "btc", kLockable),
    {k0F, 0xa4, Op::kShldI, "shld", kAny, {Ev, Gv, Ib}, kPlain, kAf | kOf},
    {k0F, 0xa5, Op::kShldC, "shld", kAny, {Ev, Gv, CL}, kPlain, kAf | kOf},
    {k0F, 0xac, Op::kShrdI, "shrd", kAny, {Ev, Gv, Ib}, kPlain, kAf | kOf},
    {k0F, 0xad, Op::kShrdC, "shrd", kAny, {Ev, Gv, CL}, kPlain, kAf | kOf},
    {k0F, 0xae, Op::kFence, "lfence", kRegister, {}, kPlain, 0, Prefix::kNp, 5},
    {k0F, 0xae, Op::kFence, "mfence", kRegister, {}, kPlain, 0, Prefix::kNp, 6},
    {k0F, 0xae, Op::kFence, "sfence", kRegister, {}, kPlain, 0, Prefix::kNp, 7},
    {k0F, 0xae, Op::kClflush, "clflush", kMemory, {Mb}, kPlain, 0, Prefix::kNp, 7},
    {k0F, 0xaf, Op::kImulRm, "imul", kAny, {Gv, Ev}, kPlain, kMulUndefined},
    {k0F, 0xb0, Op::kCmpxchg, "cmpxchg", kAny, {Eb, Gb}, kByte | kLockable},
    {k0F, 0xb1, Op::kCmpxchg, "cmpxchg", kAny, {Ev, Gv}, kLockable},
    {k0F, 0xb6, Op::kMovzx8, "movzx", kAny, {Gv, Eb}},
    {k0F, 0xb7, Op::kMovzx16, "movzx", kAny, {Gv, Ew}},
    {k0F, 0xb8, Op::kPopcnt, "popcnt", kAny, {Gv, Ev}, kPlain, 0, Prefix::kF3},
    {k0F, 0xb9, Op::kUd, "ud1", kAny, {Gv, Ev}, kEndsBlock},
    {k0F, 0xbc, Op::kBsf, "bsf", kAny, {Gv, Ev}, kPlain, kScanUndefined},
    {k0F, 0xbd, Op::kBsr, "bsr", kAny, {Gv, Ev}, kPlain, kScanUndefined},
    // TZCNT and LZCNT where the host has BMI1 and ABM.
    {k0F, 0xbc, Op::kBsf, "bsf", kAny, {Gv, Ev}, kNewerReads, kScanUndefined, Prefix::kF3},
    {k0F, 0xbd, Op::kBsr, "bsr", kAny, {Gv, Ev}, kNewerReads, kScanUndefined, Prefix::kF3},
    {k0F, 0xbe, Op::kMovsx8, "movsx", kAny, {Gv, Eb}},
    {k0F, 0xbf, Op::kMovsx16, "movsx", kAny, {Gv, Ew}},
    {k0F, 0xc0, Op::kXadd, "xadd", kAny, {Eb, Gb}, kByte | kLockable},
    {k0F, 0xc1, Op::kXadd, "xadd", kAny, {Ev, Gv}, kLockable},
    {k0F, 0xc3, Op::kMovMr, "movnti", kMemory, {M, Gy}, kPlain, 0, Prefix::kNp},
    {k0F, 0xc7, Op::kCmpxchg8b, "cmpxchg8b", kMemory, {M}, kLockable, 0, Prefix::kNone, 1},
#define HV_BSWAP(opcode) {k0F, opcode, Op::kBswap, "bswap", kNoModrm, {Zv}}
    HV_BSWAP(0xc8), HV_BSWAP(0xc9), HV_BSWAP(0xca), HV_BSWAP(0xcb),
    HV_BSWAP(0xcc), HV_BSWAP(0xcd), HV_BSWAP(0xce), HV_BSWAP(0xcf),
#undef HV_BSWAP
    {k0F, 0xff, Op::kUd, "ud0", kAny, {Gv, Ev}, kEndsBlock},

    {k0F38, 0xf0, Op::kMovbeRm, "movbe", kMemory, {Gv, M}},
    {k0F38, 0xf1, Op::kMovbeMr, "movbe", kMemory, {M, Gv}},
    {k0F38, 0xf0, Op::kCrc32, "crc32", kAny, {Gy, Eb}, kByte, 0, Prefix::kF2},
    {k0F38, 0xf1, Op::kCrc32, "crc32", kAny, {Gy, Ev}, kPlain, 0, Prefix::kF2},
  });
}();

#undef HV_ALU
#undef HV_EIGHT
#undef HV_SHIFT
#undef HV_CONDITION
#undef HV_BIT
// clang-format on

Handler bind_integer(const Insn& insn);

}  // namespace hv::softcpu

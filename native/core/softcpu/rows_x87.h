// The opcode rows of the x87: SDM Vol. 2, appendix A, "Escape Opcodes for Coprocessor
// Instructions", and the encodings that it leaves out but hardware executes: the second forms of
// FCOM, FXCH and FSTP, FFREEP, and the 8087's and 287's control instructions, which do nothing.
#pragma once
#include <array>

#include "softcpu/insn.h"
#include "softcpu/opcode_row.h"

namespace hv::softcpu {

// clang-format off

#define HV_MEMORY(opcode, digit, op, name, arg, traits) \
    {kOne, opcode, Op::k##op, name, kMemory, {arg}, traits, 0, Prefix::kNone, digit}
#define HV_STACK(opcode, digit, op, name, traits, ...) \
    {kOne, opcode, Op::k##op, name, kRegister, {__VA_ARGS__}, traits, 0, Prefix::kNone, digit}
#define HV_WHOLE(opcode, byte, op, name, traits) \
    {kOne, opcode, Op::k##op, name, kRegister, {}, traits, 0, Prefix::kNone, kAnyDigit, byte}
#define HV_ARITH_MEMORY(opcode, width, prefix, arg) \
    HV_MEMORY(opcode, 0, Farith##width, prefix "add", arg, kWaits), \
    HV_MEMORY(opcode, 1, Farith##width, prefix "mul", arg, kWaits), \
    HV_MEMORY(opcode, 2, Fcom##width, prefix "com", arg, kWaits), \
    HV_MEMORY(opcode, 3, Fcom##width, prefix "comp", arg, kWaits), \
    HV_MEMORY(opcode, 4, Farith##width, prefix "sub", arg, kWaits), \
    HV_MEMORY(opcode, 5, Farith##width, prefix "subr", arg, kWaits), \
    HV_MEMORY(opcode, 6, Farith##width, prefix "div", arg, kWaits), \
    HV_MEMORY(opcode, 7, Farith##width, prefix "divr", arg, kWaits)

inline constexpr auto kX87Rows = [] {
  using enum Map;
  using enum Form;
  using enum Arg;
  constexpr std::uint32_t kControl = kFpu, kWaits = kFpu | kWait;
  // What these store depends on the last address that a real CPU kept, and each keeps its own.
  constexpr std::uint32_t kPointers = kControl | kUserVisible;
  return std::to_array<Row>({
    HV_ARITH_MEMORY(0xd8, M32, "f", Md),
    HV_STACK(0xd8, 0, FarithSt0, "fadd", kWaits, ST0, STi),
    HV_STACK(0xd8, 1, FarithSt0, "fmul", kWaits, ST0, STi),
    HV_STACK(0xd8, 2, FcomSt, "fcom", kWaits, STi),
    HV_STACK(0xd8, 3, FcomSt, "fcomp", kWaits, STi),
    HV_STACK(0xd8, 4, FarithSt0, "fsub", kWaits, ST0, STi),
    HV_STACK(0xd8, 5, FarithSt0, "fsubr", kWaits, ST0, STi),
    HV_STACK(0xd8, 6, FarithSt0, "fdiv", kWaits, ST0, STi),
    HV_STACK(0xd8, 7, FarithSt0, "fdivr", kWaits, ST0, STi),

    HV_MEMORY(0xd9, 0, FldM32, "fld", Md, kWaits),
    HV_MEMORY(0xd9, 2, FstM32, "fst", Md, kWaits),
    HV_MEMORY(0xd9, 3, FstM32, "fstp", Md, kWaits),
    HV_MEMORY(0xd9, 4, Fldenv, "fldenv", M, kWaits),
    HV_MEMORY(0xd9, 5, Fldcw, "fldcw", Mw, kWaits),
    HV_MEMORY(0xd9, 6, Fnstenv, "fnstenv", M, kPointers),
    HV_MEMORY(0xd9, 7, Fnstcw, "fnstcw", Mw, kControl),
    HV_STACK(0xd9, 0, FldSt, "fld", kWaits, STi),
    HV_STACK(0xd9, 1, Fxch, "fxch", kWaits, STi),
    HV_STACK(0xd9, 3, FstpSt1, "fstp", kWaits, STi),
    HV_WHOLE(0xd9, 0xd0, Fnop, "fnop", kWaits),
    HV_WHOLE(0xd9, 0xe0, Fchs, "fchs", kWaits),
    HV_WHOLE(0xd9, 0xe1, Fabs, "fabs", kWaits),
    HV_WHOLE(0xd9, 0xe4, Ftst, "ftst", kWaits),
    HV_WHOLE(0xd9, 0xe5, Fxam, "fxam", kWaits),
    HV_WHOLE(0xd9, 0xe8, FldConstant, "fld1", kWaits),
    HV_WHOLE(0xd9, 0xe9, FldConstant, "fldl2t", kWaits),
    HV_WHOLE(0xd9, 0xea, FldConstant, "fldl2e", kWaits),
    HV_WHOLE(0xd9, 0xeb, FldConstant, "fldpi", kWaits),
    HV_WHOLE(0xd9, 0xec, FldConstant, "fldlg2", kWaits),
    HV_WHOLE(0xd9, 0xed, FldConstant, "fldln2", kWaits),
    HV_WHOLE(0xd9, 0xee, FldConstant, "fldz", kWaits),
    HV_WHOLE(0xd9, 0xf0, F2xm1, "f2xm1", kWaits),
    HV_WHOLE(0xd9, 0xf1, Fyl2x, "fyl2x", kWaits),
    HV_WHOLE(0xd9, 0xf2, Fptan, "fptan", kWaits),
    HV_WHOLE(0xd9, 0xf3, Fpatan, "fpatan", kWaits),
    HV_WHOLE(0xd9, 0xf4, Fxtract, "fxtract", kWaits),
    HV_WHOLE(0xd9, 0xf5, Fprem1, "fprem1", kWaits),
    HV_WHOLE(0xd9, 0xf6, Fdecstp, "fdecstp", kWaits),
    HV_WHOLE(0xd9, 0xf7, Fincstp, "fincstp", kWaits),
    HV_WHOLE(0xd9, 0xf8, Fprem, "fprem", kWaits),
    HV_WHOLE(0xd9, 0xf9, Fyl2xp1, "fyl2xp1", kWaits),
    HV_WHOLE(0xd9, 0xfa, Fsqrt, "fsqrt", kWaits),
    HV_WHOLE(0xd9, 0xfb, Fsincos, "fsincos", kWaits),
    HV_WHOLE(0xd9, 0xfc, Frndint, "frndint", kWaits),
    HV_WHOLE(0xd9, 0xfd, Fscale, "fscale", kWaits),
    HV_WHOLE(0xd9, 0xfe, Fsin, "fsin", kWaits),
    HV_WHOLE(0xd9, 0xff, Fcos, "fcos", kWaits),

    HV_ARITH_MEMORY(0xda, I32, "fi", Md),
    HV_STACK(0xda, 0, Fcmov, "fcmovb", kWaits, ST0, STi),
    HV_STACK(0xda, 1, Fcmov, "fcmove", kWaits, ST0, STi),
    HV_STACK(0xda, 2, Fcmov, "fcmovbe", kWaits, ST0, STi),
    HV_STACK(0xda, 3, Fcmov, "fcmovu", kWaits, ST0, STi),
    HV_WHOLE(0xda, 0xe9, Fucompp, "fucompp", kWaits),

    HV_MEMORY(0xdb, 0, FildI32, "fild", Md, kWaits),
    HV_MEMORY(0xdb, 1, FisttpI32, "fisttp", Md, kWaits),
    HV_MEMORY(0xdb, 2, FistI32, "fist", Md, kWaits),
    HV_MEMORY(0xdb, 3, FistI32, "fistp", Md, kWaits),
    HV_MEMORY(0xdb, 5, FldM80, "fld", Mt, kWaits),
    HV_MEMORY(0xdb, 7, FstpM80, "fstp", Mt, kWaits),
    HV_STACK(0xdb, 0, Fcmovn, "fcmovnb", kWaits, ST0, STi),
    HV_STACK(0xdb, 1, Fcmovn, "fcmovne", kWaits, ST0, STi),
    HV_STACK(0xdb, 2, Fcmovn, "fcmovnbe", kWaits, ST0, STi),
    HV_STACK(0xdb, 3, Fcmovn, "fcmovnu", kWaits, ST0, STi),
    HV_WHOLE(0xdb, 0xe0, FpuNop, "fneni", kControl),
    HV_WHOLE(0xdb, 0xe1, FpuNop, "fndisi", kControl),
    HV_WHOLE(0xdb, 0xe2, Fnclex, "fnclex", kControl),
    HV_WHOLE(0xdb, 0xe3, Fninit, "fninit", kControl),
    HV_WHOLE(0xdb, 0xe4, FpuNop, "fnsetpm", kControl),
    HV_STACK(0xdb, 5, Fucomi, "fucomi", kWaits, ST0, STi),
    HV_STACK(0xdb, 6, Fcomi, "fcomi", kWaits, ST0, STi),

    HV_ARITH_MEMORY(0xdc, M64, "f", Mq),
    HV_STACK(0xdc, 0, FarithSti, "fadd", kWaits, STi, ST0),
    HV_STACK(0xdc, 1, FarithSti, "fmul", kWaits, STi, ST0),
    HV_STACK(0xdc, 2, FcomSt4, "fcom", kWaits, STi),
    HV_STACK(0xdc, 3, FcomSt4, "fcomp", kWaits, STi),
    HV_STACK(0xdc, 4, FarithSti, "fsubr", kWaits, STi, ST0),
    HV_STACK(0xdc, 5, FarithSti, "fsub", kWaits, STi, ST0),
    HV_STACK(0xdc, 6, FarithSti, "fdivr", kWaits, STi, ST0),
    HV_STACK(0xdc, 7, FarithSti, "fdiv", kWaits, STi, ST0),

    HV_MEMORY(0xdd, 0, FldM64, "fld", Mq, kWaits),
    HV_MEMORY(0xdd, 1, FisttpI64, "fisttp", Mq, kWaits),
    HV_MEMORY(0xdd, 2, FstM64, "fst", Mq, kWaits),
    HV_MEMORY(0xdd, 3, FstM64, "fstp", Mq, kWaits),
    HV_MEMORY(0xdd, 4, Frstor, "frstor", M, kWaits),
    HV_MEMORY(0xdd, 6, Fnsave, "fnsave", M, kPointers),
    HV_MEMORY(0xdd, 7, FnstswM, "fnstsw", Mw, kControl),
    HV_STACK(0xdd, 0, Ffree, "ffree", kWaits, STi),
    HV_STACK(0xdd, 1, Fxch5, "fxch", kWaits, STi),
    HV_STACK(0xdd, 2, FstSt, "fst", kWaits, STi),
    HV_STACK(0xdd, 3, FstSt, "fstp", kWaits, STi),
    HV_STACK(0xdd, 4, Fucom, "fucom", kWaits, STi),
    HV_STACK(0xdd, 5, Fucom, "fucomp", kWaits, STi),

    HV_ARITH_MEMORY(0xde, I16, "fi", Mw),
    HV_STACK(0xde, 0, FarithPop, "faddp", kWaits, STi, ST0),
    HV_STACK(0xde, 1, FarithPop, "fmulp", kWaits, STi, ST0),
    HV_STACK(0xde, 2, FcomSt6, "fcomp", kWaits, STi),
    HV_WHOLE(0xde, 0xd9, Fcompp, "fcompp", kWaits),
    HV_STACK(0xde, 4, FarithPop, "fsubrp", kWaits, STi, ST0),
    HV_STACK(0xde, 5, FarithPop, "fsubp", kWaits, STi, ST0),
    HV_STACK(0xde, 6, FarithPop, "fdivrp", kWaits, STi, ST0),
    HV_STACK(0xde, 7, FarithPop, "fdivp", kWaits, STi, ST0),

    HV_MEMORY(0xdf, 0, FildI16, "fild", Mw, kWaits),
    HV_MEMORY(0xdf, 1, FisttpI16, "fisttp", Mw, kWaits),
    HV_MEMORY(0xdf, 2, FistI16, "fist", Mw, kWaits),
    HV_MEMORY(0xdf, 3, FistI16, "fistp", Mw, kWaits),
    HV_MEMORY(0xdf, 4, Fbld, "fbld", Mt, kWaits),
    HV_MEMORY(0xdf, 5, FildI64, "fild", Mq, kWaits),
    HV_MEMORY(0xdf, 6, Fbstp, "fbstp", Mt, kWaits),
    HV_MEMORY(0xdf, 7, FistpI64, "fistp", Mq, kWaits),
    HV_STACK(0xdf, 0, Ffreep, "ffreep", kWaits, STi),
    HV_STACK(0xdf, 1, Fxch7, "fxch", kWaits, STi),
    HV_STACK(0xdf, 2, FstpSt7, "fstp", kWaits, STi),
    HV_STACK(0xdf, 3, FstpSt7, "fstp", kWaits, STi),
    HV_WHOLE(0xdf, 0xe0, FnstswAx, "fnstsw", kControl),
    HV_STACK(0xdf, 5, Fucomip, "fucomip", kWaits, ST0, STi),
    HV_STACK(0xdf, 6, Fcomip, "fcomip", kWaits, ST0, STi),

    {kOne, 0x9b, Op::kFwait, "fwait", kNoModrm, {}, kWait},
    {k0F, 0xae, Op::kFxsave, "fxsave", kMemory, {M}, kPointers | kAligned, 0, Prefix::kNp, 0},
    {k0F, 0xae, Op::kFxrstor, "fxrstor", kMemory, {M}, kFpu | kAligned, 0, Prefix::kNp, 1},
  });
}();

// clang-format on

#undef HV_MEMORY
#undef HV_STACK
#undef HV_WHOLE
#undef HV_ARITH_MEMORY

Handler bind_x87(const Insn& insn);

}  // namespace hv::softcpu

// What the x87's handlers share. exec_x87_*.cc by kind; bind_x87.cc knows them all.
#pragma once
#include "softcpu/cpu.h"
#include "softcpu/x87.h"

namespace hv::softcpu {

// D8 to DF, as the low three bits that FOP keeps.
unsigned x87_escape(Op op);

// What a waiting instruction starts with.
inline void x87_begin(Cpu& cpu) { cpu.check_fpu(true); }

// The addresses that FNSTENV shows. After the last access that may fault.
void x87_note(Cpu& cpu, const Insn& insn);

inline X87 x87_of(Cpu& cpu) { return X87{cpu.fpu}; }
// Begins a waiting instruction that has no operand in memory.
inline X87 x87_start(Cpu& cpu, const Insn& insn) {
  x87_begin(cpu);
  x87_note(cpu, insn);
  return x87_of(cpu);
}
inline unsigned x87_index(const Insn& insn) { return insn.modrm & 7; }
inline unsigned x87_digit(const Insn& insn) { return insn.modrm >> 3 & 7; }

// ST(0) and another operand to a result: by the reg field of ModRM (0 add, 1 mul, 4 sub, 5 subr,
// 6 div, 7 divr).
using X87Arithmetic = F80 (*)(const softfloat::Parts& st0, const softfloat::Parts& other,
                              softfloat::FloatStatus& status);
extern const X87Arithmetic kX87Arithmetic[8];

// Writes `result` to ST(to) unless an unmasked exception forbids; tells whether it did.
bool x87_deliver(X87& fpu, unsigned to, const F80& result, const softfloat::FloatStatus& status);

// Handlers, by file.
#define HV_X87_HANDLERS(X) \
  X(arith_m32) X(arith_m64) X(arith_i16) X(arith_i32) X(arith_st0) X(arith_sti) X(arith_pop) \
  X(com_m32) X(com_m64) X(com_i16) X(com_i32) X(com_st) X(com_st6) X(compp) X(ucom) X(ucompp) \
  X(comi) X(ucomi) X(comip) X(ucomip) X(cmov) X(cmovn) X(tst) X(xam) \
  X(chs) X(fabs) X(sqrt) X(rndint) X(scale) X(xtract) X(prem) X(prem1) \
  X(ld_m32) X(ld_m64) X(ld_m80) X(ld_st) X(ld_constant) X(ild_i16) X(ild_i32) X(ild_i64) X(bld) \
  X(st_m32) X(st_m64) X(stp_m80) X(st_st) X(stp_st) X(stp_st1) X(ist_i16) X(ist_i32) X(istp_i64) \
  X(isttp_i16) X(isttp_i32) X(isttp_i64) X(bstp) \
  X(xch) X(nop) X(control_nop) X(free) X(freep) X(incstp) X(decstp) X(clex) X(init) X(wait) \
  X(ldcw) X(stcw) X(stsw_m) X(stsw_ax) X(stenv) X(ldenv) X(save) X(rstor) X(fxsave) X(fxrstor) \
  X(two_xm1) X(yl2x) X(yl2xp1) X(ptan) X(patan) X(sin) X(cos) X(sincos)

namespace x87 {
#define HV_DECLARE(name) void name(Cpu& cpu, const Insn& insn);
HV_X87_HANDLERS(HV_DECLARE)
#undef HV_DECLARE
}  // namespace x87

}  // namespace hv::softcpu

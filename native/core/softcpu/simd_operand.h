// What MMX and SSE handlers share: the checks they start with, their operands, and the shapes of
// the commonest handlers as templates over what is computed.
#pragma once
#include "softcpu/cpu.h"
#include "softcpu/simd_lanes.h"

namespace hv::softcpu::simd {

inline constexpr u64 kCr0Em = 1u << 2, kCr0Ts = 1u << 3;
inline constexpr u64 kCr4Osfxsr = 1u << 9, kCr4Osxmmexcpt = 1u << 10;
inline constexpr unsigned kErrorSummary = 0x80;  // x87 status: an unmasked exception is pending

inline void enter_sse(Cpu& cpu) {
  if ((cpu.cr0 & (kCr0Em | kCr0Ts)) != 0 || (cpu.cr4 & kCr4Osfxsr) == 0) [[unlikely]]
    cpu.check_sse();
}
inline void enter_mmx(Cpu& cpu) {
  cpu.settle_fpu();
  if ((cpu.cr0 & (kCr0Em | kCr0Ts)) != 0 || (cpu.fpu.status & kErrorSummary) != 0) [[unlikely]]
    cpu.check_mmx();
}

// SDM Vol. 3, "Action Taken By MMX Instructions on the x87 FPU State": all take TOP to 0, and all
// but EMMS mark every register valid; a written register's exponent becomes all ones.
inline void touch_x87(Cpu& cpu) {
  cpu.fpu.status = static_cast<u16>(cpu.fpu.status & ~0x3800u);
  cpu.fpu.tags = 0;
}
inline Mm mm(const Cpu& cpu, unsigned number) { return {cpu.fpu.physical[number & 7].significand}; }
inline void set_mm(Cpu& cpu, unsigned number, Mm value) {
  touch_x87(cpu);
  cpu.fpu.physical[number & 7] = {.significand = value.qword, .sign_exponent = 0xffff};
}

// #GP(0) unless the linear address is a multiple of 16.
inline void require_aligned(Cpu& cpu, const Insn& i, u64 offset) {
  if (((cpu.windows[i.segment].base + offset) & 15) != 0) [[unlikely]] cpu.protection_fault();
}
// By reference: a value of two registers would be stored in halves by the caller.
inline void load_aligned(Cpu& cpu, const Insn& i, Xmm& to) {
  const u64 offset = cpu.effective_address(i);
  require_aligned(cpu, i, offset);
  const Xmm value = cpu.read<Xmm>(i.segment, offset);
  to = xmm_of(value.qword[0], value.qword[1]);
}
template <class T>
inline T load(Cpu& cpu, const Insn& i) { return cpu.read<T>(i.segment, cpu.effective_address(i)); }
template <class T>
inline void store(Cpu& cpu, const Insn& i, T value) {
  cpu.write<T>(i.segment, cpu.effective_address(i), value);
}

// The r/m operand: xmm or aligned m128; mm or m64.
// What memory holds goes to `scratch`.
inline const Xmm& xmm_rm(Cpu& cpu, const Insn& i, Xmm& scratch) {
  if (i.memory == 0) return cpu.sse.xmm[i.rm];
  load_aligned(cpu, i, scratch);
  return scratch;
}
inline Xmm xmm_rm(Cpu& cpu, const Insn& i) {
  Xmm scratch;
  return xmm_rm(cpu, i, scratch);
}
inline Mm mm_rm(Cpu& cpu, const Insn& i) {
  return i.memory != 0 ? Mm{load<u64>(cpu, i)} : mm(cpu, i.rm);
}
// The low bytes of an xmm register, or memory of that width, as a number.
template <class T>
inline T low_rm(Cpu& cpu, const Insn& i) {
  return i.memory != 0 ? load<T>(cpu, i) : static_cast<T>(cpu.sse.xmm[i.rm].qword[0]);
}

// reg = f(reg, r/m)
template <auto kFunction>
void xmm2(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  Xmm scratch;
  const Xmm& source = xmm_rm(cpu, i, scratch);
  Xmm& reg = cpu.sse.xmm[i.reg];
  reg = kFunction(reg, source);
}
// reg = f(reg, r/m, imm)
template <auto kFunction>
void xmm2_imm(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  Xmm scratch;
  const Xmm& source = xmm_rm(cpu, i, scratch);
  Xmm& reg = cpu.sse.xmm[i.reg];
  reg = kFunction(reg, source, static_cast<unsigned>(i.imm));
}

}  // namespace hv::softcpu::simd

// MMX, and the SSE to SSSE3 instructions that work on mm registers.
#include "softcpu/exec_simd.h"
#include "softcpu/simd_operand.h"

namespace hv::softcpu::simd {

namespace {

template <auto kFunction>
void mm2(Cpu& cpu, const Insn& i) {
  enter_mmx(cpu);
  const Mm source = mm_rm(cpu, i);
  set_mm(cpu, i.reg, kFunction(mm(cpu, i.reg), source));
}
// PUNPCKL*: only 32 bits of memory are read.
template <auto kFunction>
void mm2_low(Cpu& cpu, const Insn& i) {
  enter_mmx(cpu);
  const Mm source = i.memory != 0 ? Mm{load<u32>(cpu, i)} : mm(cpu, i.rm);
  set_mm(cpu, i.reg, kFunction(mm(cpu, i.reg), source));
}
template <auto kFunction>
void mm2_imm(Cpu& cpu, const Insn& i) {
  enter_mmx(cpu);
  const Mm source = mm_rm(cpu, i);
  set_mm(cpu, i.reg, kFunction(mm(cpu, i.reg), source, static_cast<unsigned>(i.imm)));
}
template <auto kFunction>
void mm_shift(Cpu& cpu, const Insn& i) {
  enter_mmx(cpu);
  const u64 count = mm_rm(cpu, i).qword;
  set_mm(cpu, i.reg, kFunction(mm(cpu, i.reg), count));
}
template <auto kFunction>
void mm_shift_imm(Cpu& cpu, const Insn& i) {
  enter_mmx(cpu);
  set_mm(cpu, i.rm, kFunction(mm(cpu, i.rm), i.imm));
}

void emms(Cpu& cpu, const Insn&) {
  enter_mmx(cpu);
  touch_x87(cpu);
  cpu.fpu.tags = 0xffff;
}

void movd_to_mm(Cpu& cpu, const Insn& i) {
  enter_mmx(cpu);
  u64 value;
  if (i.size == k64)
    value = i.memory != 0 ? load<u64>(cpu, i) : cpu.gpr[i.rm];
  else
    value = i.memory != 0 ? load<u32>(cpu, i) : cpu.reg<u32>(i.rm);
  set_mm(cpu, i.reg, Mm{value});
}

void movd_from_mm(Cpu& cpu, const Insn& i) {
  enter_mmx(cpu);
  const u64 value = mm(cpu, i.reg).qword;
  if (i.size == k64)
    i.memory != 0 ? store<u64>(cpu, i, value) : cpu.set_reg<u64>(i.rm, value);
  else
    i.memory != 0 ? store<u32>(cpu, i, static_cast<u32>(value))
                  : cpu.set_reg<u32>(i.rm, static_cast<u32>(value));
  touch_x87(cpu);
}

void movq_load(Cpu& cpu, const Insn& i) {
  enter_mmx(cpu);
  set_mm(cpu, i.reg, mm_rm(cpu, i));
}

void movq_store(Cpu& cpu, const Insn& i) {
  enter_mmx(cpu);
  const Mm value = mm(cpu, i.reg);
  if (i.memory == 0) return set_mm(cpu, i.rm, value);
  store<u64>(cpu, i, value.qword);
  touch_x87(cpu);
}

// Bytes whose mask byte has its top bit set go to [DS:rDI], one by one: no other byte is touched.
void maskmovq(Cpu& cpu, const Insn& i) {
  enter_mmx(cpu);
  const auto bytes = lanes<u8>(mm(cpu, i.reg)), chosen = lanes<u8>(mm(cpu, i.rm));
  const u64 address_mask = kAddressMask[i.address];
  for (unsigned n = 0; n < bytes.size(); ++n)
    if ((chosen[n] & 0x80) != 0)
      cpu.write<u8>(i.segment, (cpu.gpr[kRdi] + n) & address_mask, bytes[n]);
  touch_x87(cpu);
}

void pinsrw(Cpu& cpu, const Insn& i) {
  enter_mmx(cpu);
  const u16 value = i.memory != 0 ? load<u16>(cpu, i) : cpu.reg<u16>(i.rm);
  auto words = lanes<u16>(mm(cpu, i.reg));
  words[i.imm & 3] = value;
  set_mm(cpu, i.reg, join<Mm, u16>(words));
}

void pextrw(Cpu& cpu, const Insn& i) {
  enter_mmx(cpu);
  cpu.set_reg<u32>(i.reg, lanes<u16>(mm(cpu, i.rm))[i.imm & 3]);
  touch_x87(cpu);
}

void pmovmskb(Cpu& cpu, const Insn& i) {
  enter_mmx(cpu);
  cpu.set_reg<u32>(i.reg, sign_bytes(mm(cpu, i.rm).qword));
  touch_x87(cpu);
}

void movq2dq(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  enter_mmx(cpu);
  cpu.sse.xmm[i.reg] = {mm(cpu, i.rm).qword, 0};
  touch_x87(cpu);
}

void movdq2q(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  enter_mmx(cpu);
  set_mm(cpu, i.reg, Mm{cpu.sse.xmm[i.rm].qword[0]});
}

}  // namespace

Handler bind_mmx(const Insn& insn) {
  switch (insn.op) {
#define SHARED(map, opcode, Name, name) case Op::k##Name##Mmx: return mm2<name<Mm>>;
#define SHARED_LOW(opcode, Name, name) case Op::k##Name##Mmx: return mm2_low<name<Mm>>;
#define SHARED_IMM(map, opcode, Name, name) case Op::k##Name##Mmx: return mm2_imm<name<Mm>>;
#define SHIFT(opcode, immediate, digit, Name, name)      \
  case Op::k##Name##Mmx: return mm_shift<name<Mm>>;      \
  case Op::k##Name##ImmMmx: return mm_shift_imm<name<Mm>>;
#include "softcpu/simd_tables.def"
    case Op::kPshufwMmx: return mm2_imm<pshufw>;
    case Op::kEmms: return emms;
    case Op::kMovdToMm: return movd_to_mm;
    case Op::kMovdFromMm: return movd_from_mm;
    case Op::kMovqMmLoad: return movq_load;
    case Op::kMovqMmStore: return movq_store;
    case Op::kMovntq: return movq_store;
    case Op::kMaskmovq: return maskmovq;
    case Op::kPinsrwMmx: return pinsrw;
    case Op::kPextrwMmx: return pextrw;
    case Op::kPmovmskbMmx: return pmovmskb;
    case Op::kMovq2dq: return movq2dq;
    case Op::kMovdq2q: return movdq2q;
    default: return nullptr;
  }
}

}  // namespace hv::softcpu::simd

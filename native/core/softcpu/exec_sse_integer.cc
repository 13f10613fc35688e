// SSE2 to SSE4.2 integer arithmetic, logic and shifts: the regular rows of simd_tables.def.
#include "softcpu/exec_simd.h"
#include "softcpu/simd_operand.h"

namespace hv::softcpu::simd {

namespace {

template <auto kFunction>
void xmm_shift(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  const u64 count = xmm_rm(cpu, i).qword[0];
  Xmm& reg = cpu.sse.xmm[i.reg];
  reg = kFunction(reg, count);
}
template <auto kFunction>
void xmm_shift_imm(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  Xmm& reg = cpu.sse.xmm[i.rm];
  reg = kFunction(reg, i.imm);
}

}  // namespace

Handler bind_integer(const Insn& insn) {
  switch (insn.op) {
#define SHARED(map, opcode, Name, name) case Op::k##Name: return xmm2<name<Xmm>>;
#define SHARED_LOW(opcode, Name, name) case Op::k##Name: return xmm2<name<Xmm>>;
#define SHARED_IMM(map, opcode, Name, name) case Op::k##Name: return xmm2_imm<name<Xmm>>;
#define SHIFT(opcode, immediate, digit, Name, name)   \
  case Op::k##Name: return xmm_shift<name<Xmm>>;      \
  case Op::k##Name##Imm: return xmm_shift_imm<name<Xmm>>;
#include "softcpu/simd_tables.def"
    // The cast picks the function for xmm where the name is a template.
#define XMM2(map, prefix, opcode, Name, name, function) \
  case Op::k##Name: return xmm2<static_cast<Xmm (*)(const Xmm&, const Xmm&)>(function)>;
#define XMM2_IMM(map, prefix, opcode, Name, name, function) \
  case Op::k##Name:                                         \
    return xmm2_imm<static_cast<Xmm (*)(const Xmm&, const Xmm&, unsigned)>(function)>;
#include "softcpu/simd_tables.def"
    default: return nullptr;
  }
}

}  // namespace hv::softcpu::simd

// SSE moves of whole registers and of parts, masks to general registers, MXCSR.
#include "softcpu/exec_simd.h"
#include "softcpu/simd_operand.h"

namespace hv::softcpu::simd {

namespace {

// ---- 16 bytes: register, memory aligned, memory anyhow ----------------------------------------
void move_register(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  cpu.sse.xmm[i.reg] = cpu.sse.xmm[i.rm];
}
void move_to_rm(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  cpu.sse.xmm[i.rm] = cpu.sse.xmm[i.reg];
}
void load_16_aligned(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  load_aligned(cpu, i, cpu.sse.xmm[i.reg]);
}
void load_16(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  const Xmm value = load<Xmm>(cpu, i);
  cpu.sse.xmm[i.reg] = xmm_of(value.qword[0], value.qword[1]);
}
void store_16_aligned(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  const u64 offset = cpu.effective_address(i);
  require_aligned(cpu, i, offset);
  cpu.write<Xmm>(i.segment, offset, cpu.sse.xmm[i.reg]);
}
void store_16(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  store<Xmm>(cpu, i, cpu.sse.xmm[i.reg]);
}

// ---- parts ------------------------------------------------------------------------------------
// The low lane: a register source leaves the other lanes, memory clears them.
template <class T>
void load_lane(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  cpu.sse.xmm[i.reg] = xmm_of(load<T>(cpu, i), 0);
}
template <class T>
void merge_lane(Cpu& cpu, unsigned to, unsigned from) {
  auto r = lanes<T>(cpu.sse.xmm[to]);
  r[0] = lanes<T>(cpu.sse.xmm[from])[0];
  cpu.sse.xmm[to] = join<Xmm, T>(r);
}
template <class T>
void copy_lane(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  merge_lane<T>(cpu, i.reg, i.rm);
}
template <class T>
void copy_lane_to_rm(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  merge_lane<T>(cpu, i.rm, i.reg);
}
template <class T>
void store_lane(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  store<T>(cpu, i, static_cast<T>(cpu.sse.xmm[i.reg].qword[0]));
}

// MOVLPS and MOVHPS: one half from or to memory, the other half stays.
template <unsigned kHalf>
void load_half(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  cpu.sse.xmm[i.reg].qword[kHalf] = load<u64>(cpu, i);
}
template <unsigned kHalf>
void store_half(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  store<u64>(cpu, i, cpu.sse.xmm[i.reg].qword[kHalf]);
}
void movhlps(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  cpu.sse.xmm[i.reg].qword[0] = cpu.sse.xmm[i.rm].qword[1];
}
void movlhps(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  cpu.sse.xmm[i.reg].qword[1] = cpu.sse.xmm[i.rm].qword[0];
}
void movddup(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  const u64 value = low_rm<u64>(cpu, i);
  cpu.sse.xmm[i.reg] = xmm_of(value, value);
}
void movq_load(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  cpu.sse.xmm[i.reg] = xmm_of(low_rm<u64>(cpu, i), 0);
}
void movq_to_rm(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  cpu.sse.xmm[i.rm] = xmm_of(cpu.sse.xmm[i.reg].qword[0], 0);
}

// MOVD and, with REX.W, MOVQ between general and xmm registers.
template <class T>
void movd_to_xmm(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  cpu.sse.xmm[i.reg] = xmm_of(i.memory != 0 ? load<T>(cpu, i) : cpu.reg<T>(i.rm), 0);
}
template <class T>
void movd_from_xmm(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  const T value = static_cast<T>(cpu.sse.xmm[i.reg].qword[0]);
  i.memory != 0 ? store<T>(cpu, i, value) : cpu.set_reg<T>(i.rm, value);
}

// Bytes whose mask byte has its top bit set go to [DS:rDI], one by one: no other byte is touched.
void maskmovdqu(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  const auto bytes = lanes<u8>(cpu.sse.xmm[i.reg]), chosen = lanes<u8>(cpu.sse.xmm[i.rm]);
  const u64 address_mask = kAddressMask[i.address];
  for (unsigned n = 0; n < bytes.size(); ++n)
    if ((chosen[n] & 0x80) != 0)
      cpu.write<u8>(i.segment, (cpu.gpr[kRdi] + n) & address_mask, bytes[n]);
}

void pmovmskb(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  const Xmm& from = cpu.sse.xmm[i.rm];
  cpu.set_reg<u32>(i.reg, sign_bytes(from.qword[0]) | sign_bytes(from.qword[1]) << 8);
}
template <class T>
void move_mask(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  cpu.set_reg<u32>(i.reg, sign_mask<T>(cpu.sse.xmm[i.rm]));
}

// SDM Vol. 1, "MXCSR Control and Status Register": bits 31:16 are reserved.
void ldmxcsr(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  const u32 value = load<u32>(cpu, i);
  if ((value & 0xffff'0000) != 0) cpu.protection_fault();
  cpu.mxcsr = value;
}
void stmxcsr(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  store<u32>(cpu, i, cpu.mxcsr);
}

}  // namespace

Handler bind_moves(const Insn& insn) {
  const bool memory = insn.memory != 0, wide = insn.size == k64;
  switch (insn.op) {
    case Op::kMovapsLoad: return memory ? load_16_aligned : move_register;
    case Op::kMovapsStore: return memory ? store_16_aligned : move_to_rm;
    case Op::kMovupsLoad: return memory ? load_16 : move_register;
    case Op::kMovupsStore: return memory ? store_16 : move_to_rm;
    case Op::kMovssLoad: return memory ? load_lane<u32> : copy_lane<u32>;
    case Op::kMovssStore: return memory ? store_lane<u32> : copy_lane_to_rm<u32>;
    case Op::kMovsdXmmLoad: return memory ? load_lane<u64> : copy_lane<u64>;
    case Op::kMovsdXmmStore: return memory ? store_lane<u64> : copy_lane_to_rm<u64>;
    case Op::kMovlps: return load_half<0>;
    case Op::kMovlpsStore: return store_half<0>;
    case Op::kMovhps: return load_half<1>;
    case Op::kMovhpsStore: return store_half<1>;
    case Op::kMovhlps: return movhlps;
    case Op::kMovlhps: return movlhps;
    case Op::kMovddup: return movddup;
    case Op::kMovdToXmm: return wide ? movd_to_xmm<u64> : movd_to_xmm<u32>;
    case Op::kMovdFromXmm: return wide ? movd_from_xmm<u64> : movd_from_xmm<u32>;
    case Op::kMovqXmmLoad: return movq_load;
    case Op::kMovqXmmStore: return memory ? store_lane<u64> : movq_to_rm;
    case Op::kMaskmovdqu: return maskmovdqu;
    case Op::kMovmskps: return move_mask<u32>;
    case Op::kMovmskpd: return move_mask<u64>;
    case Op::kPmovmskb: return pmovmskb;
    case Op::kLdmxcsr: return ldmxcsr;
    case Op::kStmxcsr: return stmxcsr;
    default: return nullptr;
  }
}

}  // namespace hv::softcpu::simd

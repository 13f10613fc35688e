// SSE2 to SSE4.1: single lanes in and out, widening moves, blends by a mask, byte shifts, PTEST.
#include "softcpu/exec_simd.h"
#include "softcpu/simd_operand.h"

namespace hv::softcpu::simd {

namespace {

// PINSRB, PINSRW, PINSRD and PINSRQ: the immediate names the lane, modulo their number.
template <class T>
void insert(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  const T value = i.memory != 0 ? load<T>(cpu, i) : static_cast<T>(cpu.gpr[i.rm]);
  auto r = lanes<T>(cpu.sse.xmm[i.reg]);
  r[i.imm & (r.size() - 1)] = value;
  cpu.sse.xmm[i.reg] = join<Xmm, T>(r);
}
// PEXTRB, PEXTRW, PEXTRD, PEXTRQ and EXTRACTPS. A register gets the lane with zeros above it.
template <class T>
void extract(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  const auto from = lanes<T>(cpu.sse.xmm[i.reg]);
  const T value = from[i.imm & (from.size() - 1)];
  i.memory != 0 ? store<T>(cpu, i, value) : cpu.set_reg<u64>(i.rm, value);
}
// PEXTRW in its first encoding: the operands the other way round.
void pextrw_to_reg(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  cpu.set_reg<u64>(i.reg, lanes<u16>(cpu.sse.xmm[i.rm])[i.imm & 7]);
}

// Bits 7:6 of the immediate choose the source lane (a memory operand has but one), 5:4 the
// destination, and 3:0 the lanes that become zero.
void insertps(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  const u32 value = i.memory != 0 ? load<u32>(cpu, i)
                                  : lanes<u32>(cpu.sse.xmm[i.rm])[i.imm >> 6 & 3];
  auto r = lanes<u32>(cpu.sse.xmm[i.reg]);
  r[i.imm >> 4 & 3] = value;
  for (std::size_t n = 0; n < 4; ++n)
    if ((i.imm >> n & 1) != 0) r[n] = 0;
  cpu.sse.xmm[i.reg] = join<Xmm, u32>(r);
}

// The top bit of each lane of XMM0 chooses.
template <class T>
void blend_variable(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  const auto source = lanes<T>(xmm_rm(cpu, i));
  const auto chosen = lanes<T>(cpu.sse.xmm[0]);
  auto r = lanes<T>(cpu.sse.xmm[i.reg]);
  for (std::size_t n = 0; n < r.size(); ++n)
    if (chosen[n] >> (sizeof(T) * 8 - 1) != 0) r[n] = source[n];
  cpu.sse.xmm[i.reg] = join<Xmm, T>(r);
}

void ptest(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  const Xmm source = xmm_rm(cpu, i), reg = cpu.sse.xmm[i.reg];
  const Xmm both = pand(reg, source), only = pandn(reg, source);
  const u64 zf = (both.qword[0] | both.qword[1]) == 0, cf = (only.qword[0] | only.qword[1]) == 0;
  cpu.flags.set(cf | zf << 6);
}

// PMOVSX and PMOVZX: as many low lanes of From as there are lanes of To. `Load` is all of them.
template <class From, class To, class Load>
void widen(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  constexpr std::size_t kLanes = kCount<To, Xmm>;
  static_assert(kLanes * sizeof(From) == sizeof(Load));
  const auto from = std::bit_cast<std::array<From, kLanes>>(low_rm<Load>(cpu, i));
  Lanes<To, Xmm> r;
  for (std::size_t n = 0; n < kLanes; ++n) r[n] = static_cast<To>(from[n]);
  cpu.sse.xmm[i.reg] = join<Xmm, To>(r);
}

// PSRLDQ and PSLLDQ count bytes.
void psrldq(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  Xmm& reg = cpu.sse.xmm[i.rm];
  reg = palignr(Xmm{}, reg, static_cast<unsigned>(i.imm));
}
void pslldq(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  Xmm& reg = cpu.sse.xmm[i.rm];
  reg = palignr(reg, Xmm{}, 16 - std::min(16u, static_cast<unsigned>(i.imm)));
}

}  // namespace

Handler bind_shuffles(const Insn& insn) {
  const bool wide = insn.size == k64;
  switch (insn.op) {
    case Op::kPinsrb: return insert<u8>;
    case Op::kPinsrw: return insert<u16>;
    case Op::kPinsrd: return wide ? insert<u64> : insert<u32>;
    case Op::kPextrb: return extract<u8>;
    case Op::kPextrw: return extract<u16>;
    case Op::kPextrwReg: return pextrw_to_reg;
    case Op::kPextrd: return wide ? extract<u64> : extract<u32>;
    case Op::kExtractps: return extract<u32>;
    case Op::kInsertps: return insertps;
    case Op::kPblendvb: return blend_variable<u8>;
    case Op::kBlendvps: return blend_variable<u32>;
    case Op::kBlendvpd: return blend_variable<u64>;
    case Op::kPtest: return ptest;
    case Op::kPsrldqImm: return psrldq;
    case Op::kPslldqImm: return pslldq;
    case Op::kPmovsxbw: return widen<i8, i16, u64>;
    case Op::kPmovsxbd: return widen<i8, i32, u32>;
    case Op::kPmovsxbq: return widen<i8, i64, u16>;
    case Op::kPmovsxwd: return widen<i16, i32, u64>;
    case Op::kPmovsxwq: return widen<i16, i64, u32>;
    case Op::kPmovsxdq: return widen<i32, i64, u64>;
    case Op::kPmovzxbw: return widen<u8, u16, u64>;
    case Op::kPmovzxbd: return widen<u8, u32, u32>;
    case Op::kPmovzxbq: return widen<u8, u64, u16>;
    case Op::kPmovzxwd: return widen<u16, u32, u64>;
    case Op::kPmovzxwq: return widen<u16, u64, u32>;
    case Op::kPmovzxdq: return widen<u32, u64, u64>;
    default: return nullptr;
  }
}

}  // namespace hv::softcpu::simd

// MOV and its kin, the stack, and what does next to nothing.
#include "softcpu/translator/block_translator.h"
#include "softcpu/translator/host.h"

#if HV_TRANSLATOR
namespace hv::softcpu::translator {

namespace {

Size size_of(const Insn& i) { return static_cast<Size>(i.size); }
Condition code_of(const Insn& i, Op first) {
  return static_cast<Condition>(static_cast<unsigned>(i.op) - static_cast<unsigned>(first));
}

}  // namespace

bool BlockTranslator::mov_mr(const Insn& i) {
  const Size size = size_of(i);
  if (high_byte(size, i.reg) || (i.memory == 0 && high_byte(size, i.rm))) return false;
  if (i.memory != 0) {
    access(i, 1u << size, Access::kWrite);
    out_.mov(size, memory(), value_of(i.reg, kScratch2));
  } else {
    set_guest(i.rm, size, value_of(i.reg, kScratch2));
  }
  return true;
}

bool BlockTranslator::mov_rm(const Insn& i) {
  const Size size = size_of(i);
  if (high_byte(size, i.reg)) return false;
  const bool high = i.memory == 0 && high_byte(size, i.rm);
  const Rm source = high ? high_to_memory(i.rm) : operand(i, size);
  if (pinned(i.reg)) {
    out_.mov(size, kHome[i.reg], source);
  } else {
    out_.mov(size, kScratch2, source);
    out_.mov(size == k32 ? k64 : size, guest(i.reg), kScratch2);
  }
  return true;
}

bool BlockTranslator::mov_mi(const Insn& i) {
  const Size size = size_of(i);
  if (i.memory == 0 && high_byte(size, i.rm)) return false;
  if (i.memory != 0) {
    access(i, 1u << size, Access::kWrite);
    out_.mov_imm(size, memory(), i.imm);
  } else if (size == k32) {
    if (pinned(i.rm)) return out_.load_imm(kHome[i.rm], static_cast<std::uint32_t>(i.imm)), true;
    out_.load_imm(kScratch, static_cast<std::uint32_t>(i.imm));
    out_.mov(k64, guest(i.rm), kScratch);
  } else {
    out_.mov_imm(size, guest(i.rm), i.imm);
  }
  return true;
}

bool BlockTranslator::mov_ri(const Insn& i) {
  const Size size = size_of(i);
  if (high_byte(size, i.reg)) return false;
  if (size < k32) return out_.mov_imm(size, guest(i.reg), i.imm), true;
  const std::uint64_t value = size == k32 ? static_cast<std::uint32_t>(i.imm) : i.imm;
  const Host to = pinned(i.reg) ? kHome[i.reg] : kScratch;
  out_.load_imm(to, value);
  put_back(i.reg, to);
  return true;
}

// MOVZX, MOVSX, MOVSXD.
bool BlockTranslator::extend(const Insn& i) {
  const Size size = size_of(i);
  const bool from_byte = i.op == Op::kMovzx8 || i.op == Op::kMovsx8;
  if (i.op == Op::kMovsxd && size != k64) return false;
  const Size from = from_byte ? k8 : i.op == Op::kMovsxd ? k32 : k16;
  // The decoder names byte registers by the width of the argument: Eb is above 15 for AH to BH.
  const bool high = i.memory == 0 && high_byte(from, i.rm);
  const Rm source = high ? high_to_memory(i.rm) : operand(i, from);
  const bool is_signed = i.op != Op::kMovzx8 && i.op != Op::kMovzx16;
  const Host to = pinned(i.reg) ? kHome[i.reg] : kScratch2;
  if (is_signed)
    out_.movsx(size, to, source, from);
  else
    out_.movzx(size == k64 ? k32 : size, to, source, from);
  if (!pinned(i.reg)) out_.mov(size == k16 ? k16 : k64, guest(i.reg), to);
  return true;
}

bool BlockTranslator::lea(const Insn& i) {
  if (i.size == k16) return false;
  effective_address(i);
  set_guest(i.reg, size_of(i), kAddress);
  return true;
}

bool BlockTranslator::xchg_mr(const Insn& i) {
  const Size size = size_of(i);
  if (high_byte(size, i.reg) || (i.memory == 0 && high_byte(size, i.rm))) return false;
  if (i.memory == 0) {
    const Host a = value_of(i.rm, kAddress), b = value_of(i.reg, kScratch2);
    out_.xchg(size, Rm::reg(a), b);
    put_back(i.rm, a);
    put_back(i.reg, b);
    return true;
  }
  access(i, 1u << size, Access::kWrite);
  const Host mine = value_of(i.reg, kScratch2);
  out_.xchg(size, memory(), mine);
  put_back(i.reg, mine);
  return true;
}

bool BlockTranslator::xchg_ar(const Insn& i) {
  if (i.reg == kRax) return true;  // NOP
  const Size size = size_of(i);
  const Host other = value_of(i.reg, kScratch2);
  out_.xchg(size, Rm::reg(kHome[kRax]), other);
  put_back(i.reg, other);
  return true;
}

bool BlockTranslator::bswap(const Insn& i) {
  const Size size = size_of(i);
  if (size < k32) return false;
  const Host to = value_of(i.reg, kScratch);
  out_.bswap(size, to);
  put_back(i.reg, to);
  return true;
}

bool BlockTranslator::cmov(const Insn& i) {
  const Size size = size_of(i);
  const Rm source = operand(i, size);
  flags_to_host();
  const Host to = value_of(i.reg, kScratch);
  out_.cmov(code_of(i, Op::kCmovo), size, to, source);
  put_back(i.reg, to);
  return true;
}

bool BlockTranslator::setcc(const Insn& i) {
  if (i.memory == 0 && high_byte(k8, i.rm)) return false;
  const Rm to = operand(i, k8, Access::kWrite);
  flags_to_host();
  out_.setcc(code_of(i, Op::kSeto), to);
  return true;
}

// ---- the stack of 64-bit code: 8 bytes at a time ---------------------------------------------------

bool BlockTranslator::push_r(const Insn& i) {
  if (i.size != k64) return false;
  access_stack(kRsp, -8, Access::kWrite);
  out_.mov(k64, memory(), value_of(i.reg, kScratch2));
  out_.lea(k64, kHome[kRsp], Rm::at(kHome[kRsp], -8));
  return true;
}

// What is read from memory waits in the Cpu while the stack's address is checked; where that misses,
// the handler reads it once more.
bool BlockTranslator::push_m(const Insn& i) {
  if (i.size != k64) return false;
  if (i.memory != 0) {
    access(i, 8, Access::kRead);
    out_.mov(k64, kScratch2, memory());
    out_.mov(k64, in_cpu(&cpu_.translated.pushed), kScratch2);
    access_stack(kRsp, -8, Access::kWrite);
    out_.mov(k64, kScratch2, in_cpu(&cpu_.translated.pushed));
    out_.mov(k64, memory(), kScratch2);
  } else {
    access_stack(kRsp, -8, Access::kWrite);
    out_.mov(k64, memory(), value_of(i.rm, kScratch2));
  }
  out_.lea(k64, kHome[kRsp], Rm::at(kHome[kRsp], -8));
  return true;
}

bool BlockTranslator::push_i(const Insn& i) {
  if (i.size != k64) return false;
  access_stack(kRsp, -8, Access::kWrite);
  out_.mov_imm(k64, memory(), i.imm);
  out_.lea(k64, kHome[kRsp], Rm::at(kHome[kRsp], -8));
  return true;
}

bool BlockTranslator::pop_r(const Insn& i) {
  if (i.size != k64) return false;
  access_stack(kRsp, 0, Access::kRead);
  const Host to = pinned(i.reg) ? kHome[i.reg] : kScratch2;
  out_.mov(k64, to, memory());
  put_back(i.reg, to);
  if (i.reg != kRsp) out_.lea(k64, kHome[kRsp], Rm::at(kHome[kRsp], 8));
  return true;
}

bool BlockTranslator::leave_frame(const Insn& i) {
  if (i.size != k64) return false;
  access_stack(kRbp, 0, Access::kRead);
  out_.lea(k64, kHome[kRsp], Rm::at(kHome[kRbp], 8));
  out_.mov(k64, kHome[kRbp], memory());
  return true;
}

bool BlockTranslator::nop(const Insn&) { return true; }

bool BlockTranslator::fence(const Insn&) {
  out_.mfence();
  return true;
}

bool BlockTranslator::change_carry(const Insn& i) {
  flags_to_host();
  if (i.op == Op::kClc) out_.clc();
  if (i.op == Op::kStc) out_.stc();
  if (i.op == Op::kCmc) out_.cmc();
  flags_written();
  return true;
}

std::span<const BlockTranslator::Entry> BlockTranslator::move_emitters() {
  using B = BlockTranslator;
#define HV_CODE(suffix) {Op::kCmov##suffix, &B::cmov}, {Op::kSet##suffix, &B::setcc}
  static constexpr Entry kAll[] = {
      {Op::kMovMr, &B::mov_mr}, {Op::kMovRm, &B::mov_rm}, {Op::kMovMi, &B::mov_mi},
      {Op::kMovRi, &B::mov_ri}, {Op::kMovzx8, &B::extend}, {Op::kMovzx16, &B::extend},
      {Op::kMovsx8, &B::extend}, {Op::kMovsx16, &B::extend}, {Op::kMovsxd, &B::extend},
      {Op::kLea, &B::lea}, {Op::kXchgMr, &B::xchg_mr}, {Op::kXchgAr, &B::xchg_ar},
      {Op::kBswap, &B::bswap},
      HV_CODE(o), HV_CODE(no), HV_CODE(b), HV_CODE(nb), HV_CODE(z), HV_CODE(nz), HV_CODE(be),
      HV_CODE(nbe), HV_CODE(s), HV_CODE(ns), HV_CODE(p), HV_CODE(np), HV_CODE(l), HV_CODE(nl),
      HV_CODE(le), HV_CODE(nle),
      {Op::kPushR, &B::push_r}, {Op::kPushM, &B::push_m}, {Op::kPushI, &B::push_i},
      {Op::kPopR, &B::pop_r}, {Op::kLeave, &B::leave_frame},
      {Op::kNop, &B::nop}, {Op::kFence, &B::fence},
      {Op::kClc, &B::change_carry}, {Op::kStc, &B::change_carry}, {Op::kCmc, &B::change_carry},
  };
#undef HV_CODE
  return kAll;
}

}  // namespace hv::softcpu::translator
#endif

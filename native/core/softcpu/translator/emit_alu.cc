// ADD … CMP, TEST, NOT, NEG, INC, DEC, MUL, IMUL, DIV, CBW, CWD and their kin.
#include "softcpu/translator/block_translator.h"
#include "softcpu/translator/host.h"

#if HV_TRANSLATOR
namespace hv::softcpu::translator {

namespace {

// AddMr AddRm AddMi OrMr … : three a group, in the order of group 1's digits.
Alu group_1(const Insn& i) {
  return static_cast<Alu>((static_cast<unsigned>(i.op) - static_cast<unsigned>(Op::kAddMr)) / 3);
}
static_assert(static_cast<unsigned>(Op::kAdcMi) == static_cast<unsigned>(Op::kAddMr) + 8 &&
              static_cast<unsigned>(Op::kCmpMr) == static_cast<unsigned>(Op::kAddMr) + 21);
bool reads_carry(Alu kind) { return kind == Alu::kAdc || kind == Alu::kSbb; }
Size size_of(const Insn& i) { return static_cast<Size>(i.size); }

}  // namespace

bool BlockTranslator::alu_mr(const Insn& i) {
  const Alu kind = group_1(i);
  const Size size = size_of(i);
  if (high_byte(size, i.reg) || (i.memory == 0 && high_byte(size, i.rm))) return false;
  const bool writes = kind != Alu::kCmp;
  if (i.memory != 0) {
    access(i, 1u << size, writes ? Access::kWrite : Access::kRead);
    if (reads_carry(kind)) flags_to_host();
    const Host source = value_of(i.reg, kScratch2);
    if (i.lock != 0) out_.lock();
    out_.alu(kind, size, memory(), source);
  } else {
    if (reads_carry(kind)) flags_to_host();
    const Host to = value_of(i.rm, kScratch);
    out_.alu(kind, size, to, guest(i.reg));
    if (writes) put_back(i.rm, to);
  }
  flags_written();
  return true;
}

bool BlockTranslator::alu_rm(const Insn& i) {
  const Alu kind = group_1(i);
  const Size size = size_of(i);
  if (high_byte(size, i.reg) || (i.memory == 0 && high_byte(size, i.rm))) return false;
  const Rm source = operand(i, size);
  if (reads_carry(kind)) flags_to_host();
  const Host to = value_of(i.reg, kScratch);
  out_.alu(kind, size, to, source);
  if (kind != Alu::kCmp) put_back(i.reg, to);
  flags_written();
  return true;
}

bool BlockTranslator::alu_mi(const Insn& i) {
  const Alu kind = group_1(i);
  const Size size = size_of(i);
  const bool writes = kind != Alu::kCmp;
  if (i.memory != 0) {
    access(i, 1u << size, writes ? Access::kWrite : Access::kRead);
    if (reads_carry(kind)) flags_to_host();
    if (i.lock != 0) out_.lock();
    out_.alu_imm(kind, size, memory(), i.imm);
  } else if (high_byte(size, i.rm)) {
    if (reads_carry(kind)) flags_to_host();
    out_.alu_imm(kind, size, high_to_memory(i.rm), i.imm);
    if (writes) high_from_memory(i.rm);
  } else {
    if (reads_carry(kind)) flags_to_host();
    const Host to = value_of(i.rm, kScratch);
    out_.alu_imm(kind, size, Rm::reg(to), i.imm);
    if (writes) put_back(i.rm, to);
  }
  flags_written();
  return true;
}

bool BlockTranslator::test_mr(const Insn& i) {
  const Size size = size_of(i);
  if (high_byte(size, i.reg) || (i.memory == 0 && high_byte(size, i.rm))) return false;
  const Rm other = operand(i, size);
  out_.test(size, other, value_of(i.reg, kScratch2));
  flags_written();
  return true;
}

bool BlockTranslator::test_mi(const Insn& i) {
  const Size size = size_of(i);
  const bool high = i.memory == 0 && high_byte(size, i.rm);
  out_.test_imm(size, high ? high_to_memory(i.rm) : operand(i, size), i.imm);
  flags_written();
  return true;
}

bool BlockTranslator::not_neg(const Insn& i) {
  const Size size = size_of(i);
  if (i.memory == 0 && high_byte(size, i.rm)) return false;
  const bool negates = i.op == Op::kNeg;
  const Unary kind = negates ? Unary::kNeg : Unary::kNot;
  if (i.memory != 0) {
    access(i, 1u << size, Access::kWrite);
    if (i.lock != 0) out_.lock();
    out_.unary(kind, size, memory());
  } else {
    const Host to = value_of(i.rm, kScratch);
    out_.unary(kind, size, Rm::reg(to));
    put_back(i.rm, to);
  }
  if (negates) flags_written();
  return true;
}

// They keep CF, so the flags must be in the host before, if anybody asks for it.
bool BlockTranslator::inc_dec(const Insn& i) {
  const Size size = size_of(i);
  const bool in_opcode = i.op == Op::kIncR || i.op == Op::kDecR;
  const unsigned number = in_opcode ? i.reg : i.rm;
  if (i.memory == 0 && high_byte(size, number)) return false;
  const bool increments = i.op == Op::kInc || i.op == Op::kIncR;
  Host to = kScratch;
  if (i.memory != 0) access(i, 1u << size, Access::kWrite);
  Rm rm = memory();
  old_flags_to_host();
  if (i.memory == 0) {
    to = value_of(number, kScratch);
    rm = Rm::reg(to);
  }
  if (i.lock != 0) out_.lock();
  if (increments)
    out_.inc(size, rm);
  else
    out_.dec(size, rm);
  if (i.memory == 0) put_back(number, to);
  flags_written();
  return true;
}

// RDX has its own name in the host; RAX is brought.
bool BlockTranslator::multiply(const Insn& i) {
  const Size size = size_of(i);
  if (i.memory == 0 && high_byte(size, i.rm)) return false;
  const Rm source = operand(i, size);
  old_flags_to_host();
  out_.mov(kScratch, kHome[kRax]);
  out_.unary(i.op == Op::kMul ? Unary::kMul : Unary::kImul, size, source);
  out_.mov(size == k8 ? k16 : size, kHome[kRax], Rm::reg(kScratch));
  flags_written();
  return true;
}

// Where the quotient may not fit (#DE) the handler says so: DIV needs RDX below the divisor; IDIV is
// done here where RDX only extends RAX's sign and the divisor is neither 0 nor -1.
void BlockTranslator::check_quotient(const Insn& i) {
  const Size size = size_of(i);
  Cold overflow{Cold::Kind::kHandler};
  if (i.op == Op::kDiv) {
    out_.alu(Alu::kCmp, size, kHome[kRdx], Rm::reg(kScratch2));
    overflow.add(out_.jcc(kNb));
  } else {
    out_.lea(size, kScratch, Rm::at(kScratch2, 1));
    out_.alu_imm(Alu::kCmp, size, Rm::reg(kScratch), 1);
    overflow.add(out_.jcc(kBe));
    out_.mov(size, kScratch, Rm::reg(kHome[kRax]));
    out_.shift_imm(Shift::kSar, size, Rm::reg(kScratch), static_cast<std::uint8_t>((8u << size) - 1));
    out_.alu(Alu::kCmp, size, kScratch, Rm::reg(kHome[kRdx]));
    overflow.add(out_.jcc(kNz));
  }
  overflow.site = site();
  add_cold(overflow);
}

bool BlockTranslator::divide(const Insn& i) {
  const Size size = size_of(i);
  if (size < k32) return false;
  save_flags();
  flags_lost();
  if (i.memory != 0) {
    access(i, 1u << size, Access::kRead);
    out_.mov(size, kScratch2, memory());
  } else {
    out_.mov(size, kScratch2, guest(i.rm));
  }
  check_quotient(i);
  out_.mov(size, kScratch, Rm::reg(kHome[kRax]));
  out_.unary(i.op == Op::kDiv ? Unary::kDiv : Unary::kIdiv, size, Rm::reg(kScratch2));
  out_.mov(size, kHome[kRax], Rm::reg(kScratch));
  return true;
}

bool BlockTranslator::imul_rm(const Insn& i) {
  const Size size = size_of(i);
  const Rm source = operand(i, size);
  old_flags_to_host();
  const Host to = value_of(i.reg, kScratch);
  out_.imul(size, to, source);
  put_back(i.reg, to);
  flags_written();
  return true;
}

bool BlockTranslator::imul_rmi(const Insn& i) {
  const Size size = size_of(i);
  const Rm source = operand(i, size);
  old_flags_to_host();
  const Host to = size == k16 ? value_of(i.reg, kScratch) : pinned(i.reg) ? kHome[i.reg] : kScratch;
  out_.imul_imm(size, to, source, i.imm);
  put_back(i.reg, to);
  flags_written();
  return true;
}

// CBW CWDE CDQE.
bool BlockTranslator::widen(const Insn& i) {
  const Host rax = kHome[kRax];
  out_.movsx(size_of(i), rax, Rm::reg(rax), static_cast<Size>(i.size - 1));
  return true;
}

// CWD CDQ CQO.
bool BlockTranslator::sign_to_rdx(const Insn& i) {
  const Size size = size_of(i);
  save_flags();
  flags_lost();
  out_.mov(kScratch, kHome[kRax]);
  out_.shift_imm(Shift::kSar, size, Rm::reg(kScratch), static_cast<std::uint8_t>((8u << size) - 1));
  out_.mov(size, kHome[kRdx], Rm::reg(kScratch));
  return true;
}

std::span<const BlockTranslator::Entry> BlockTranslator::alu_emitters() {
  using B = BlockTranslator;
#define HV_ALU(Name) \
  {Op::k##Name##Mr, &B::alu_mr}, {Op::k##Name##Rm, &B::alu_rm}, {Op::k##Name##Mi, &B::alu_mi}
  static constexpr Entry kAll[] = {
      HV_ALU(Add), HV_ALU(Or), HV_ALU(Adc), HV_ALU(Sbb),
      HV_ALU(And), HV_ALU(Sub), HV_ALU(Xor), HV_ALU(Cmp),
      {Op::kTestMr, &B::test_mr}, {Op::kTestMi, &B::test_mi},
      {Op::kNot, &B::not_neg}, {Op::kNeg, &B::not_neg},
      {Op::kInc, &B::inc_dec}, {Op::kDec, &B::inc_dec},
      {Op::kIncR, &B::inc_dec}, {Op::kDecR, &B::inc_dec},
      {Op::kMul, &B::multiply}, {Op::kImulA, &B::multiply}, {Op::kDiv, &B::divide},
      {Op::kIdiv, &B::divide},
      {Op::kImulRm, &B::imul_rm}, {Op::kImulRmi, &B::imul_rmi},
      {Op::kCbw, &B::widen}, {Op::kCwd, &B::sign_to_rdx},
  };
#undef HV_ALU
  return kAll;
}

}  // namespace hv::softcpu::translator
#endif

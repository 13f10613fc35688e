// Jcc JMP CALL RET, and how a block ends by them.
#include "softcpu/translator/block_translator.h"
#include "softcpu/translator/host.h"

#if HV_TRANSLATOR
namespace hv::softcpu::translator {

namespace {

bool canonical_address(std::uint64_t at) {
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(at << 16) >> 16) == at;
}

}  // namespace

// In the middle of a trace the flags stay in the host for what comes.
bool BlockTranslator::jcc(const Insn& i) {
  const std::uint64_t target = rip_ + i.imm;
  if (!canonical_address(target)) return false;
  const auto code = static_cast<Condition>(static_cast<unsigned>(i.op) -
                                           static_cast<unsigned>(Op::kJo));
  flags_to_host();
  if (!last()) {
    const bool along = trace_.steps[index_].way == Step::Way::kAlong;
    exit_if(along ? static_cast<Condition>(code ^ 1) : code, along ? rip_ : target);
    if (along) rip_ = target;
    return true;
  }
  save_flags();
  go_to_if(code, target);
  go_to(rip_);
  ended_ = true;
  return true;
}

bool BlockTranslator::jmp(const Insn& i) {
  const std::uint64_t target = rip_ + i.imm;
  if (!canonical_address(target)) return false;
  if (!last()) {
    rip_ = target;
    return true;
  }
  save_flags();
  go_to(target);
  ended_ = true;
  return true;
}

// The handler raises #GP(0) where kAddress is not canonical: bits 63 to 47 must be alike.
void BlockTranslator::check_canonical(const Site* site) {
  out_.mov(kScratch, kAddress);
  out_.shift_imm(Shift::kSar, k64, Rm::reg(kScratch), 47);
  out_.alu_imm(Alu::kAdd, k32, Rm::reg(kScratch), 1);
  out_.alu_imm(Alu::kCmp, k32, Rm::reg(kScratch), 1);
  Cold fails{Cold::Kind::kHandler};
  fails.add(out_.jcc(kNbe));
  fails.site = site;
  fails.leaves = true;
  add_cold(fails);
}

bool BlockTranslator::jmp_m(const Insn& i) {
  save_flags();
  flags_lost();
  leaves_by_handler_ = true;
  out_.mov(k64, kAddress, operand(i, k64));
  check_canonical(site());
  jump_to_address();
  ended_ = true;
  return true;
}

bool BlockTranslator::call(const Insn& i) {
  const std::uint64_t target = rip_ + i.imm;
  if (!canonical_address(target)) return false;
  access_stack(kRsp, -8, Access::kWrite);
  save_flags();
  flags_lost();
  push_return(kScratch2);
  // A push that missed was done by the handler, which has moved RSP too.
  for (std::size_t n = first_cold_; n < cold_.size(); ++n) cold_[n].resume = out_.here();
  first_cold_ = cold_.size();
  remember_return();
  go_to(target);
  ended_ = true;
  return true;
}

// Only returns to this page are foreseen, whose linear address cannot come to mean another page
// while the ring's entry lasts. Until the code there is known the cell leads out of here.
void BlockTranslator::remember_return() {
  if (((rip_ ^ to_.rip) & kPageMask) != 0 || has_system_) return;
  State& state = cpu_.translated;
  static_assert(sizeof(Return) * State::kReturns == 256, "the index wraps by itself");
  to_.back = {.target = rip_, .from = &to_};
  out_.alu_imm(Alu::kAdd, k8, in_cpu(&state.return_top), sizeof(Return));
  out_.movzx(k32, kScratch, in_cpu(&state.return_top), k8);
  const auto entry = [&](const void* member) {
    return Rm::indexed(kCpuBase, kScratch, 0, offset(member));
  };
  out_.load_imm(kScratch2, rip_);
  out_.mov(k64, entry(&state.returns[0].rip), kScratch2);
  out_.load_imm(kScratch2, reinterpret_cast<std::uintptr_t>(&to_.back.code));
  out_.mov(k64, entry(&state.returns[0].code), kScratch2);
  Cold unknown{Cold::Kind::kLink};
  unknown.link = &to_.back;
  cold_.push_back(unknown);
}

void BlockTranslator::release(std::uint64_t bytes) {
  out_.lea(k64, kHome[kRsp], Rm::at(kHome[kRsp], static_cast<std::int32_t>(bytes)));
}

// The return address, to memory().
void BlockTranslator::push_return(Host spare) {
  const auto wide = static_cast<std::int64_t>(rip_);
  if (wide == static_cast<std::int32_t>(wide)) {
    out_.mov_imm(k64, memory(), rip_);
  } else {
    out_.load_imm(spare, rip_);
    out_.mov(k64, memory(), spare);
  }
  out_.lea(k64, kHome[kRsp], Rm::at(kHome[kRsp], -8));
}

// The target is kept in gpr[kRip] over the push; a push that misses writes RIP anew.
bool BlockTranslator::call_m(const Insn& i) {
  save_flags();
  flags_lost();
  leaves_by_handler_ = true;
  out_.mov(k64, kAddress, operand(i, k64));
  check_canonical(site());
  out_.mov(k64, in_cpu(&cpu_.gpr[kRip]), kAddress);
  access_stack(kRsp, -8, Access::kWrite);
  save_flags();
  flags_lost();
  push_return(kScratch2);
  remember_return();
  out_.mov(k64, kAddress, in_cpu(&cpu_.gpr[kRip]));
  look_up();
  ended_ = true;
  return true;
}

bool BlockTranslator::ret(const Insn& i) {
  save_flags();
  flags_lost();
  leaves_by_handler_ = true;
  access_stack(kRsp, 0, Access::kRead);
  out_.mov(k64, kAddress, memory());
  const std::uint64_t released = 8 + (i.op == Op::kRetI ? i.imm : 0);
  State& state = cpu_.translated;
  const auto entry = [&](const void* member) {
    return Rm::indexed(kCpuBase, kScratch, 0, offset(member));
  };
  out_.movzx(k32, kScratch, in_cpu(&state.return_top), k8);
  out_.alu_imm(Alu::kSub, k8, in_cpu(&state.return_top), sizeof(Return));
  out_.alu(Alu::kCmp, k64, kAddress, entry(&state.returns[0].rip));
  Cold other{Cold::Kind::kReturn};
  other.add(out_.jcc(kNz));
  other.site = site();
  other.uncount = static_cast<std::uint32_t>(released);
  add_cold(other);
  release(released);
  out_.mov(k64, in_cpu(&cpu_.gpr[kRip]), kAddress);
  out_.mov(k64, kScratch, entry(&state.returns[0].code));
  out_.jmp(Rm::at(kScratch));
  ended_ = true;
  return true;
}

std::span<const BlockTranslator::Entry> BlockTranslator::branch_emitters() {
  using B = BlockTranslator;
#define HV_CODE(suffix) {Op::kJ##suffix, &B::jcc}
  static constexpr Entry kAll[] = {
      HV_CODE(o), HV_CODE(no), HV_CODE(b), HV_CODE(nb), HV_CODE(z), HV_CODE(nz), HV_CODE(be),
      HV_CODE(nbe), HV_CODE(s), HV_CODE(ns), HV_CODE(p), HV_CODE(np), HV_CODE(l), HV_CODE(nl),
      HV_CODE(le), HV_CODE(nle),
      {Op::kJmp, &B::jmp}, {Op::kJmpM, &B::jmp_m}, {Op::kCall, &B::call},
      {Op::kCallM, &B::call_m}, {Op::kRet, &B::ret}, {Op::kRetI, &B::ret},
  };
#undef HV_CODE
  return kAll;
}

}  // namespace hv::softcpu::translator
#endif

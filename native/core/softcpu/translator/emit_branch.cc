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

bool BlockTranslator::jcc(const Insn& i) {
  const std::uint64_t target = rip_ + i.imm;
  if (!canonical_address(target)) return false;
  flags_to_host();
  save_flags();
  const auto code = static_cast<Condition>(static_cast<unsigned>(i.op) -
                                           static_cast<unsigned>(Op::kJo));
  go_to_if(code, target, 0);
  go_to(rip_, 1);
  ended_ = true;
  return true;
}

bool BlockTranslator::jmp(const Insn& i) {
  const std::uint64_t target = rip_ + i.imm;
  if (!canonical_address(target)) return false;
  save_flags();
  go_to(target, 0);
  ended_ = true;
  return true;
}

// The handler raises #GP(0) where kAddress is not canonical: bits 63 to 47 must be alike.
void BlockTranslator::check_canonical() {
  out_.mov(kScratch, kAddress);
  out_.shift_imm(Shift::kSar, k64, Rm::reg(kScratch), 47);
  out_.alu_imm(Alu::kAdd, k32, Rm::reg(kScratch), 1);
  out_.alu_imm(Alu::kCmp, k32, Rm::reg(kScratch), 1);
  Cold fails{Cold::Kind::kHandler};
  fails.add(out_.jcc(kNbe));
  fails.site = site();
  fails.leaves = true;
  add_cold(fails);
}

bool BlockTranslator::jmp_m(const Insn& i) {
  save_flags();
  flags_lost();
  leaves_by_handler_ = true;
  out_.mov(k64, kAddress, operand(i, k64));
  check_canonical();
  jump_to_address();
  ended_ = true;
  return true;
}

bool BlockTranslator::call(const Insn& i) {
  const std::uint64_t target = rip_ + i.imm;
  if (!canonical_address(target)) return false;
  push_prepare();
  push_value({}, kScratch2);
  // A push that missed was done by the handler, which has moved RSP too.
  for (std::size_t n = first_cold_; n < cold_.size(); ++n) cold_[n].resume = out_.here();
  first_cold_ = cold_.size();
  go_to(target, 0);
  ended_ = true;
  return true;
}

// The return address, to where push_prepare() has found room.
void BlockTranslator::push_value(Rm, Host spare) {
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
  check_canonical();
  out_.mov(k64, in_cpu(&cpu_.gpr[kRip]), kAddress);
  push_prepare();
  push_value({}, kScratch2);
  out_.mov(k64, kAddress, in_cpu(&cpu_.gpr[kRip]));
  look_up();
  ended_ = true;
  return true;
}

bool BlockTranslator::ret(const Insn& i) {
  save_flags();
  flags_lost();
  leaves_by_handler_ = true;
  out_.mov(kAddress, kHome[kRsp]);
  access_linear(8, Access::kRead);
  out_.mov(k64, kAddress, memory());
  check_canonical();
  const auto released = static_cast<std::int32_t>(8 + (i.op == Op::kRetI ? i.imm : 0));
  out_.lea(k64, kHome[kRsp], Rm::at(kHome[kRsp], released));
  jump_to_address();
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

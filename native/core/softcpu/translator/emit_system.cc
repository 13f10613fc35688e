// What a kernel does at its edges: interrupt flag, GS, RFLAGS on the stack, without a call of the
// handler. All of it where CPL is 0, as the handlers know the rest.
#include "softcpu/translator/block_translator.h"
#include "softcpu/translator/host.h"

#if HV_TRANSLATOR
namespace hv::softcpu::translator {

void BlockTranslator::need_cpl0() {
  save_flags();
  flags_lost();
  out_.alu_imm(Alu::kCmp, k8, in_cpu(&cpu_.cpl), 0);
  Cold other{Cold::Kind::kHandler};
  other.add(out_.jcc(kNz));
  other.site = site();
  other.with_flags = true;
  other.may_change_mode = last() && trace_.changes_mode;
  add_cold(other);
}

bool BlockTranslator::cli(const Insn&) {
  need_cpl0();
  out_.alu_imm(Alu::kAnd, k32, in_cpu(&cpu_.system_flags), ~std::uint64_t{kIf});
  out_.alu_imm(Alu::kAnd, k32, in_cpu(&cpu_.translated.poll_mask), ~std::uint64_t{1});
  go_to(rip_);
  ended_ = true;
  return true;
}

bool BlockTranslator::swapgs(const Insn&) {
  need_cpl0();
  out_.mov(k64, kScratch, in_cpu(&cpu_.segments[kGs].base));
  out_.mov(k64, kScratch2, in_cpu(&cpu_.slow.kernel_gs_base));
  out_.mov(k64, in_cpu(&cpu_.slow.kernel_gs_base), kScratch);
  out_.mov(k64, in_cpu(&cpu_.segments[kGs].base), kScratch2);
  out_.mov(k64, in_cpu(&cpu_.windows[kGs].base), kScratch2);
  return true;
}

// RFLAGS of 64-bit code: the six arithmetic flags of the image (translator/state.h) and the rest.
bool BlockTranslator::pushf(const Insn& i) {
  if (i.size != k64) return false;
  save_flags();
  access_stack(kRsp, -8, Access::kWrite);
  flags_lost();
  out_.movzx(k32, kScratch, in_cpu(&cpu_.translated.flags_image), k16);
  out_.mov(k32, kScratch2, Rm::reg(kScratch));
  out_.shift_imm(Shift::kShr, k32, Rm::reg(kScratch), 8);
  out_.alu_imm(Alu::kAnd, k32, Rm::reg(kScratch), 0xd5);
  out_.alu_imm(Alu::kAnd, k32, Rm::reg(kScratch2), 1);
  out_.shift_imm(Shift::kShl, k32, Rm::reg(kScratch2), 11);
  out_.alu(Alu::kOr, k32, kScratch, Rm::reg(kScratch2));
  out_.alu(Alu::kOr, k32, kScratch, in_cpu(&cpu_.system_flags));
  out_.alu_imm(Alu::kAnd, k32, Rm::reg(kScratch), ~std::uint64_t{kVm | kRf});
  out_.mov(k64, memory(), kScratch);
  out_.lea(k64, kHome[kRsp], Rm::at(kHome[kRsp], -8));
  return true;
}

std::span<const BlockTranslator::Entry> BlockTranslator::system_emitters() {
  using B = BlockTranslator;
  static constexpr Entry kAll[] = {
      {Op::kCli, &B::cli}, {Op::kSwapgs, &B::swapgs}, {Op::kPushf, &B::pushf},
  };
  return kAll;
}

}  // namespace hv::softcpu::translator
#endif

// Shifts, rotations, bits, and the exchanges that compare or add.
#include "softcpu/translator/block_translator.h"
#include "softcpu/translator/host.h"
#include "softcpu/translator/host_features.h"

#if HV_TRANSLATOR
namespace hv::softcpu::translator {

namespace {

Size size_of(const Insn& i) { return static_cast<Size>(i.size); }

// RolMc RorMc RclMc RcrMc ShlMc ShrMc SarMc, and the same with Mi.
Shift group_2(const Insn& i, Op first) {
  const unsigned which = static_cast<unsigned>(i.op) - static_cast<unsigned>(first);
  return which == 6 ? Shift::kSar : static_cast<Shift>(which);
}
bool rotates(Shift kind) { return kind < Shift::kShl; }
bool reads_carry(Shift kind) { return kind == Shift::kRcl || kind == Shift::kRcr; }
// 4 to 7 of group 8: BT BTS BTR BTC.
unsigned group_8(const Insn& i, Op first) {
  return 4 + static_cast<unsigned>(i.op) - static_cast<unsigned>(first);
}

}  // namespace

// A count of 0 is the handler's; rotations keep most flags.
bool BlockTranslator::shift_mi(const Insn& i) {
  const Size size = size_of(i);
  const auto count = static_cast<std::uint8_t>(i.imm & (size == k64 ? 63 : 31));
  if (count == 0 || (i.memory == 0 && high_byte(size, i.rm))) return false;
  const Shift kind = group_2(i, Op::kRolMi);
  if (i.memory != 0) access(i, 1u << size, Access::kWrite);
  if (reads_carry(kind)) flags_to_host();
  if (rotates(kind)) old_flags_to_host();
  const Host to = i.memory != 0 ? kAddress : value_of(i.rm, kScratch);
  out_.shift_imm(kind, size, i.memory != 0 ? memory() : Rm::reg(to), count);
  if (i.memory == 0) put_back(i.rm, to);
  flags_written();
  return true;
}

// By CL, which may be 0 and then leaves all flags.
bool BlockTranslator::shift_mc(const Insn& i) {
  const Size size = size_of(i);
  if (i.memory == 0 && high_byte(size, i.rm)) return false;
  const Shift kind = group_2(i, Op::kRolMc);
  if (i.memory != 0) access(i, 1u << size, Access::kWrite);
  if (reads_carry(kind)) flags_to_host();
  old_flags_to_host();
  const Host to = i.memory != 0 ? kAddress : value_of(i.rm, kScratch);
  out_.shift_cl(kind, size, i.memory != 0 ? memory() : Rm::reg(to));
  if (i.memory == 0) put_back(i.rm, to);
  flags_written();
  return true;
}

bool BlockTranslator::shift_double(const Insn& i) {
  const Size size = size_of(i);
  const bool by_cl = i.op == Op::kShldC || i.op == Op::kShrdC;
  const bool left = i.op == Op::kShldI || i.op == Op::kShldC;
  const auto count = static_cast<std::uint8_t>(i.imm & (size == k64 ? 63 : 31));
  if (size == k16 || (!by_cl && count == 0)) return false;
  if (i.memory != 0) access(i, 1u << size, Access::kWrite);
  old_flags_to_host();
  const Host to = i.memory != 0 ? kAddress : value_of(i.rm, kScratch);
  const Host from = value_of(i.reg, kScratch2);
  const Rm rm = i.memory != 0 ? memory() : Rm::reg(to);
  if (by_cl)
    out_.shift_double_cl(left, size, rm, from);
  else
    out_.shift_double_imm(left, size, rm, from, count);
  if (i.memory == 0) put_back(i.rm, to);
  flags_written();
  return true;
}

// Only CF changes.
bool BlockTranslator::bit_mi(const Insn& i) {
  const Size size = size_of(i);
  const unsigned which = group_8(i, Op::kBtMi);
  const bool writes = which != 4;
  const auto number = static_cast<std::uint8_t>(i.imm & ((8u << size) - 1));
  if (i.memory != 0) access(i, 1u << size, writes ? Access::kWrite : Access::kRead);
  old_flags_to_host();
  const Host to = i.memory != 0 ? kAddress : value_of(i.rm, kScratch);
  if (i.lock != 0) out_.lock();
  out_.bit_imm(which, size, i.memory != 0 ? memory() : Rm::reg(to), number);
  if (i.memory == 0 && writes) put_back(i.rm, to);
  flags_written();
  return true;
}

// A bit string in memory: the offset picks the word, then the bit within it.
bool BlockTranslator::bit_mr(const Insn& i) {
  const Size size = size_of(i);
  const unsigned which = group_8(i, Op::kBtMr);
  const bool writes = which != 4;
  if (i.memory == 0) {
    old_flags_to_host();
    const Host to = value_of(i.rm, kScratch), offset = value_of(i.reg, kScratch2);
    out_.bit(which, size, Rm::reg(to), offset);
    if (writes) put_back(i.rm, to);
    flags_written();
    return true;
  }
  if (size < k32 || i.address != k64) return false;
  save_flags();
  flags_lost();
  effective_address(i);
  const auto bits = static_cast<std::uint8_t>(size == k64 ? 6 : 5);
  if (size == k64)
    out_.mov(k64, kScratch, guest(i.reg));
  else
    out_.movsx(k64, kScratch, guest(i.reg), k32);
  out_.shift_imm(Shift::kSar, k64, Rm::reg(kScratch), bits);
  out_.lea(k64, kAddress, Rm::indexed(kAddress, kScratch, static_cast<std::uint8_t>(size), 0));
  add_segment_base(i.segment);
  access_linear(1u << size, writes ? Access::kWrite : Access::kRead);
  out_.mov(k32, kScratch2, guest(i.reg));
  out_.alu_imm(Alu::kAnd, k32, Rm::reg(kScratch2), (8u << size) - 1);
  old_flags_to_host();
  if (i.lock != 0) out_.lock();
  out_.bit(which, size, memory(), kScratch2);
  flags_written();
  return true;
}

// A source of 0 leaves the register alone, in the host as in the guest.
bool BlockTranslator::scan(const Insn& i) {
  const Size size = size_of(i);
  const Rm source = operand(i, size);
  old_flags_to_host();
  const Host to = value_of(i.reg, kScratch);
  out_.scan(i.op == Op::kBsr, size, to, source);
  put_back(i.reg, to);
  flags_written();
  return true;
}

bool BlockTranslator::popcnt(const Insn& i) {
  if (!host_features().popcnt) return false;
  const Size size = size_of(i);
  const Rm source = operand(i, size);
  const Host to = value_of(i.reg, kScratch);
  out_.popcnt(size, to, source);
  put_back(i.reg, to);
  flags_written();
  return true;
}

bool BlockTranslator::xadd(const Insn& i) {
  const Size size = size_of(i);
  if (i.memory == 0 || high_byte(size, i.reg)) return false;
  access(i, 1u << size, Access::kWrite);
  const Host mine = value_of(i.reg, kScratch2);
  if (i.lock != 0) out_.lock();
  out_.xadd(size, memory(), mine);
  put_back(i.reg, mine);
  flags_written();
  return true;
}

bool BlockTranslator::cmpxchg(const Insn& i) {
  const Size size = size_of(i);
  if (i.memory == 0 || high_byte(size, i.reg)) return false;
  access(i, 1u << size, Access::kWrite);
  const Host next = value_of(i.reg, kScratch2);
  out_.mov(kScratch, kHome[kRax]);
  if (i.lock != 0) out_.lock();
  out_.cmpxchg(size, memory(), next);
  out_.mov(kHome[kRax], kScratch);
  flags_written();
  return true;
}

std::span<const BlockTranslator::Entry> BlockTranslator::shift_emitters() {
  using B = BlockTranslator;
#define HV_SHIFT(Name) {Op::k##Name##Mi, &B::shift_mi}, {Op::k##Name##Mc, &B::shift_mc}
#define HV_BIT(Name) {Op::k##Name##Mi, &B::bit_mi}, {Op::k##Name##Mr, &B::bit_mr}
  static constexpr Entry kAll[] = {
      HV_SHIFT(Rol), HV_SHIFT(Ror), HV_SHIFT(Rcl), HV_SHIFT(Rcr),
      HV_SHIFT(Shl), HV_SHIFT(Shr), HV_SHIFT(Sar),
      {Op::kShldI, &B::shift_double}, {Op::kShldC, &B::shift_double},
      {Op::kShrdI, &B::shift_double}, {Op::kShrdC, &B::shift_double},
      HV_BIT(Bt), HV_BIT(Bts), HV_BIT(Btr), HV_BIT(Btc),
      {Op::kBsf, &B::scan}, {Op::kBsr, &B::scan}, {Op::kPopcnt, &B::popcnt},
      {Op::kXadd, &B::xadd}, {Op::kCmpxchg, &B::cmpxchg},
  };
#undef HV_BIT
#undef HV_SHIFT
  return kAll;
}

}  // namespace hv::softcpu::translator
#endif

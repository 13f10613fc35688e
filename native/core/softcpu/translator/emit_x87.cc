// The x87 by the host's own (host_fpu.h): an instruction on registers is copied as it is, one with
// an operand in memory is given the operand's host address. Each first asks whether the guest's x87
// is here; where it is not, the handler runs, and brings it for the next (stubs.cc).
#include "softcpu/exec_x87.h"
#include "softcpu/opcodes.h"
#include "softcpu/translator/block_translator.h"
#include "softcpu/translator/host.h"

#if HV_TRANSLATOR
namespace hv::softcpu::translator {

namespace {

struct MemoryForm {
  Op op;
  std::uint8_t bytes;
  Access kind;
};
// FCOM and the arithmetic read; of the stores the digit of ModRM says which pop.
constexpr MemoryForm kMemoryForms[] = {
    {Op::kFarithM32, 4, Access::kRead}, {Op::kFarithM64, 8, Access::kRead},
    {Op::kFarithI16, 2, Access::kRead}, {Op::kFarithI32, 4, Access::kRead},
    {Op::kFcomM32, 4, Access::kRead},   {Op::kFcomM64, 8, Access::kRead},
    {Op::kFcomI16, 2, Access::kRead},   {Op::kFcomI32, 4, Access::kRead},
    {Op::kFldM32, 4, Access::kRead},    {Op::kFldM64, 8, Access::kRead},
    {Op::kFldM80, 10, Access::kRead},   {Op::kFildI16, 2, Access::kRead},
    {Op::kFildI32, 4, Access::kRead},   {Op::kFildI64, 8, Access::kRead},
    {Op::kFstM32, 4, Access::kWrite},   {Op::kFstM64, 8, Access::kWrite},
    {Op::kFstpM80, 10, Access::kWrite}, {Op::kFistI16, 2, Access::kWrite},
    {Op::kFistI32, 4, Access::kWrite},  {Op::kFistpI64, 8, Access::kWrite},
    {Op::kFisttpI16, 2, Access::kWrite}, {Op::kFisttpI32, 4, Access::kWrite},
    {Op::kFisttpI64, 8, Access::kWrite},
};

constexpr Op kRegisterForms[] = {
    Op::kFarithSt0, Op::kFarithSti, Op::kFarithPop, Op::kFcomSt, Op::kFcomSt4, Op::kFcomSt6,
    Op::kFcompp, Op::kFucom, Op::kFucompp, Op::kFtst, Op::kFxam, Op::kFchs, Op::kFabs, Op::kFsqrt,
    Op::kFrndint, Op::kFscale, Op::kFxtract, Op::kFprem, Op::kFprem1, Op::kFldSt, Op::kFldConstant,
    Op::kFstSt, Op::kFstpSt1, Op::kFstpSt7, Op::kFxch, Op::kFxch5, Op::kFxch7, Op::kFfree,
    Op::kFfreep, Op::kFincstp, Op::kFdecstp, Op::kF2xm1, Op::kFyl2x, Op::kFyl2xp1, Op::kFptan,
    Op::kFpatan, Op::kFsin, Op::kFcos, Op::kFsincos,
};
constexpr Op kToFlags[] = {Op::kFcomi, Op::kFucomi, Op::kFcomip, Op::kFucomip};
constexpr Op kByFlags[] = {Op::kFcmov, Op::kFcmovn};

bool is_one_of(std::span<const Op> list, Op op) {
  for (const Op each : list)
    if (each == op) return true;
  return false;
}

const MemoryForm& form_of(Op op) {
  for (const MemoryForm& form : kMemoryForms)
    if (form.op == op) return form;
  return kMemoryForms[0];
}

constexpr std::uint8_t kEscape = 0xd8;

std::uint8_t opcode_of(const Insn& i) { return static_cast<std::uint8_t>(kEscape | x87_escape(i.op)); }

}  // namespace

void BlockTranslator::need_fpu() {
  save_flags();
  flags_lost();
  out_.alu_imm(Alu::kCmp, k8, in_cpu(&cpu_.translated.fpu_here), 0);
  Cold absent{Cold::Kind::kHandler};
  absent.add(out_.jcc(kZ));
  absent.site = site();
  absent.with_flags = true;
  add_cold(absent);
}

void BlockTranslator::x87_operation(const Insn& i, Rm operand) {
  out_.sse(0, Map::kOne, opcode_of(i), x87_digit(i), operand);
}

// What x87_note() does. Nobody can see it before the next instruction where that one overwrites it.
void BlockTranslator::note_x87(const Insn& i) {
  if (!last()) {
    const Insn& next = *trace_.steps[index_ + 1].insn;
    const bool hot = !shared_.off.test(static_cast<std::size_t>(next.op));
    if (i.memory == 0 && hot && is_one_of(kRegisterForms, next.op)) return;
  }
  const auto copy_selector = [this](std::uint16_t& to, unsigned segment) {
    out_.movzx(k32, kScratch, in_cpu(&cpu_.segments[segment].selector), k16);
    out_.mov(k16, in_cpu(&to), kScratch);
  };
  out_.load_imm(kScratch, insn_rip());
  out_.mov(k64, in_cpu(&cpu_.fpu.instruction), kScratch);
  copy_selector(cpu_.fpu.instruction_selector, kCs);
  out_.mov_imm(k16, in_cpu(&cpu_.fpu.opcode), x87_escape(i.op) << 8 | i.modrm);
  if (i.memory == 0) return;
  effective_address(i);
  out_.mov(k64, in_cpu(&cpu_.fpu.data), kAddress);
  copy_selector(cpu_.fpu.data_selector, i.segment);
}

bool BlockTranslator::x87_register(const Insn& i) {
  need_fpu();
  x87_operation(i, Rm::reg(static_cast<Host>(x87_index(i))));
  note_x87(i);
  return true;
}

// The operand's address is computed anew for the note: what it is made of has not changed.
bool BlockTranslator::x87_memory(const Insn& i) {
  const MemoryForm& form = form_of(i.op);
  need_fpu();
  access(i, form.bytes, form.kind);
  x87_operation(i, memory());
  note_x87(i);
  return true;
}

bool BlockTranslator::x87_to_flags(const Insn& i) {
  x87_register(i);
  flags_written();
  return true;
}

bool BlockTranslator::x87_by_flags(const Insn& i) {
  need_fpu();
  flags_to_host();
  x87_operation(i, Rm::reg(static_cast<Host>(x87_index(i))));
  note_x87(i);
  return true;
}

// FNSTSW AX.
bool BlockTranslator::x87_status(const Insn& i) {
  need_fpu();
  x87_operation(i, Rm::reg(static_cast<Host>(x87_index(i))));  // to the host's AX: kScratch
  set_guest(kRax, k16, kScratch);
  return true;
}

bool BlockTranslator::x87_store_control(const Insn& i) {
  need_fpu();
  access(i, 2, Access::kWrite);
  x87_operation(i, memory());
  return true;
}

// A control word that unmasks an exception is the handler's.
bool BlockTranslator::x87_load_control(const Insn& i) {
  constexpr std::uint32_t kMasks = 0x3f;
  need_fpu();
  access(i, 2, Access::kRead);
  out_.movzx(k32, kScratch, memory(), k16);
  out_.alu_imm(Alu::kAnd, k32, Rm::reg(kScratch), kMasks);
  out_.alu_imm(Alu::kCmp, k32, Rm::reg(kScratch), kMasks);
  Cold unmasks{Cold::Kind::kHandler};
  unmasks.add(out_.jcc(kNz));
  unmasks.site = site();
  unmasks.with_flags = true;
  add_cold(unmasks);
  x87_operation(i, memory());
  return true;
}

std::span<const BlockTranslator::Entry> BlockTranslator::x87_emitters() {
  using B = BlockTranslator;
  static const std::vector<Entry> kAll = [] {
    std::vector<Entry> all = {
        {Op::kFnstswAx, &B::x87_status}, {Op::kFnstswM, &B::x87_store_control},
        {Op::kFnstcw, &B::x87_store_control}, {Op::kFldcw, &B::x87_load_control},
    };
    for (const MemoryForm& form : kMemoryForms) all.push_back({form.op, &B::x87_memory});
    for (const Op op : kRegisterForms) all.push_back({op, &B::x87_register});
    for (const Op op : kToFlags) all.push_back({op, &B::x87_to_flags});
    for (const Op op : kByFlags) all.push_back({op, &B::x87_by_flags});
    return all;
  }();
  return kAll;
}

bool wants_fpu(const Insn& insn) {
  static const auto kWanted = [] {
    std::bitset<static_cast<std::size_t>(Op::kCount)> wanted;
    for (const auto& entry : BlockTranslator::x87_emitters())
      wanted.set(static_cast<std::size_t>(entry.op));
    return wanted;
  }();
  return family(insn.op) == Family::kX87 && kWanted.test(static_cast<std::size_t>(insn.op));
}

}  // namespace hv::softcpu::translator
#endif

// Single flags, the decimal adjustments, BOUND, hints and fences; and the family's bind().
#include <atomic>

#include "softcpu/exec_integer.h"
#include "softcpu/rows_integer.h"

namespace hv::softcpu {

std::span<const Binding> conditional_bindings();
std::span<const Binding> jump_bindings();
Handler bind_same_register(const Insn& insn);
Handler bind_repeated(const Insn& insn);

namespace {

// The flags that LAHF and SAHF know: all arithmetic ones but OF.
constexpr std::uint64_t kLowFlags = kCf | kPf | kAf | kZf | kSf;

void lahf(Cpu& cpu, const Insn&) {
  cpu.set_reg(kAh, static_cast<std::uint8_t>((cpu.flags.value() & kLowFlags) | 2));
}
void sahf(Cpu& cpu, const Insn&) {
  const std::uint64_t of = cpu.flags.value() & kOf;
  cpu.flags.set((cpu.reg<std::uint8_t>(kAh) & kLowFlags) | of);
}
void clc(Cpu& cpu, const Insn&) { cpu.flags.set_cf(false); }
void stc(Cpu& cpu, const Insn&) { cpu.flags.set_cf(true); }
void cmc(Cpu& cpu, const Insn&) { cpu.flags.set_cf(!cpu.flags.cf()); }
void cld(Cpu& cpu, const Insn&) { cpu.system_flags &= ~std::uint64_t{kDf}; }
void std_(Cpu& cpu, const Insn&) { cpu.system_flags |= kDf; }
void salc(Cpu& cpu, const Insn&) {
  cpu.set_reg(kRax, static_cast<std::uint8_t>(cpu.flags.cf() ? 0xff : 0));
}

std::uint8_t al(const Cpu& cpu) { return cpu.reg<std::uint8_t>(kRax); }
std::uint8_t ah(const Cpu& cpu) { return cpu.reg<std::uint8_t>(kAh); }
void set_ax(Cpu& cpu, unsigned high, unsigned low) {
  cpu.set_reg(kRax, static_cast<std::uint16_t>((high & 0xff) << 8 | (low & 0xff)));
}
// SF, ZF and PF of AL; AF and CF as told; OF 0.
void decimal_flags(Cpu& cpu, bool af, bool cf) {
  cpu.flags.logic(al(cpu));
  cpu.flags.set(cpu.flags.value() | (af ? kAf : 0u) | (cf ? kCf : 0u));
}

// SDM Vol. 2, "AAA", "AAS", "DAA", "DAS".
void aaa(Cpu& cpu, const Insn&) {
  const bool adjusts = (al(cpu) & 0xf) > 9 || cpu.flags.af();
  const unsigned ax = cpu.reg<std::uint16_t>(kRax) + (adjusts ? 0x106u : 0u);
  set_ax(cpu, ax >> 8, ax & 0xf);
  decimal_flags(cpu, adjusts, adjusts);
}
void aas(Cpu& cpu, const Insn&) {
  const bool adjusts = (al(cpu) & 0xf) > 9 || cpu.flags.af();
  const unsigned ax = cpu.reg<std::uint16_t>(kRax) - (adjusts ? 0x106u : 0u);
  set_ax(cpu, ax >> 8, ax & 0xf);
  decimal_flags(cpu, adjusts, adjusts);
}
void daa(Cpu& cpu, const Insn&) {
  const bool low = (al(cpu) & 0xf) > 9 || cpu.flags.af();
  const bool high = al(cpu) > 0x99 || cpu.flags.cf();
  const unsigned sum = al(cpu) + (low ? 6u : 0u) + (high ? 0x60u : 0u);
  cpu.set_reg(kRax, static_cast<std::uint8_t>(sum));
  decimal_flags(cpu, low, high);
}
void das(Cpu& cpu, const Insn&) {
  const unsigned old = al(cpu);
  const bool low = (old & 0xf) > 9 || cpu.flags.af();
  const bool high = old > 0x99 || cpu.flags.cf();
  const bool borrow = low && old < 6;
  cpu.set_reg(kRax, static_cast<std::uint8_t>(old - (low ? 6u : 0u) - (high ? 0x60u : 0u)));
  decimal_flags(cpu, low, high || borrow);
}
void aam(Cpu& cpu, const Insn& i) {
  const auto base = static_cast<std::uint8_t>(i.imm);
  if (base == 0) cpu.raise(Vector::kDe);
  set_ax(cpu, al(cpu) / base, al(cpu) % base);
  decimal_flags(cpu, false, false);
}
void aad(Cpu& cpu, const Insn& i) {
  set_ax(cpu, 0, al(cpu) + ah(cpu) * static_cast<unsigned>(i.imm));
  decimal_flags(cpu, false, false);
}

template <class T>
struct Bound {
  static void mem(Cpu& cpu, const Insn& i) {
    using Signed = std::make_signed_t<T>;
    const std::uint64_t at = cpu.effective_address(i);
    const auto lower = static_cast<Signed>(cpu.read<T>(i.segment, at));
    const auto upper = static_cast<Signed>(cpu.read<T>(i.segment, cut(at + sizeof(T), i.address)));
    const auto value = static_cast<Signed>(cpu.reg<T>(i.reg));
    if (value < lower || value > upper) cpu.raise(Vector::kBr);
  }
};

void nop(Cpu&, const Insn&) {}
void pause(Cpu& cpu, const Insn&) { cpu.platform.spin_hint(cpu.index); }
void fence(Cpu&, const Insn&) { std::atomic_thread_fence(std::memory_order_seq_cst); }
// Flushes nothing, but faults as a load does.
void clflush(Cpu& cpu, const Insn& i) { load<std::uint8_t>(cpu, i); }
void undefined(Cpu& cpu, const Insn&) { cpu.raise(Vector::kUd); }

}  // namespace

std::span<const Binding> misc_bindings() {
  static constexpr Binding kAll[] = {
      fixed(Op::kLahf, lahf), fixed(Op::kSahf, sahf), fixed(Op::kClc, clc), fixed(Op::kStc, stc),
      fixed(Op::kCmc, cmc), fixed(Op::kCld, cld), fixed(Op::kStd, std_), fixed(Op::kSalc, salc),
      fixed(Op::kAaa, aaa), fixed(Op::kAas, aas), fixed(Op::kAam, aam), fixed(Op::kAad, aad),
      fixed(Op::kDaa, daa), fixed(Op::kDas, das), sized<Bound>(Op::kBound), fixed(Op::kNop, nop),
      fixed(Op::kPause, pause), fixed(Op::kFence, fence), fixed(Op::kClflush, clflush),
      fixed(Op::kUd, undefined),
  };
  return kAll;
}

namespace {

constexpr std::size_t kIntegerOps = 1
#define OP(name) +1
#include "softcpu/ops_integer.def"
#undef OP
    ;

std::array<const Binding*, kIntegerOps> join() {
  std::array<const Binding*, kIntegerOps> table{};
  for (const auto part : {alu_bindings(), move_bindings(), conditional_bindings(),
                          shift_bindings(), multiply_bindings(), bit_bindings(),
                          branch_bindings(), jump_bindings(), string_bindings(),
                          stack_bindings(), misc_bindings()})
    for (const Binding& binding : part) table[static_cast<std::size_t>(binding.op)] = &binding;
  return table;
}

}  // namespace

Handler bind_integer(const Insn& insn) {
  static const auto table = join();
  // 90 is NOP, which cuts no register; with REX.B it exchanges with R8, and F3 is ignored.
  if (insn.op == Op::kXchgAr && insn.reg == kRax) return nop;
  if (insn.op == Op::kPause && insn.reg != kRax)
    return table[static_cast<std::size_t>(Op::kXchgAr)]->reg[insn.size];
  if (insn.repeat != 0)
    if (const Handler repeated = bind_repeated(insn)) return repeated;
  if (const Handler same = bind_same_register(insn)) return same;
  const Binding* const binding = table[static_cast<std::size_t>(insn.op)];
  if (binding == nullptr) return nullptr;
  if (insn.lock != 0) return binding->locked[insn.size];
  return insn.memory != 0 ? binding->mem[insn.size] : binding->reg[insn.size];
}

}  // namespace hv::softcpu

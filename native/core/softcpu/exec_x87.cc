// Arithmetic, comparisons and what works on the stack alone; and the check that every FPU
// instruction starts with.
#include "softcpu/exec_x87.h"

namespace hv::softcpu {

using namespace softfloat;

// SDM Vol. 3, "Device-Not-Available Exception" and "x87 FPU Floating-Point Error". With CR0.NE
// clear a PC reports through FERR# and IRQ 13, which no system of today uses: nothing is reported.
void Cpu::check_fpu(bool report_pending) {
  constexpr std::uint64_t kEmTs = 0xc, kNe = 0x20;
  settle_fpu();
  if ((cr0 & kEmTs) != 0) raise(Vector::kNm);
  if (report_pending && (fpu.status & kX87Summary) != 0 && (cr0 & kNe) != 0) raise(Vector::kMf);
}

void x87_note(Cpu& cpu, const Insn& insn) {
  FpuState& fpu = cpu.fpu;
  fpu.instruction = cpu.instruction_start();
  fpu.instruction_selector = cpu.segments[kCs].selector;
  fpu.opcode = static_cast<std::uint16_t>(x87_escape(insn.op) << 8 | insn.modrm);
  if (insn.memory == 0) return;
  fpu.data = cpu.effective_address(insn);
  fpu.data_selector = cpu.segments[insn.segment].selector;
}

const X87Arithmetic kX87Arithmetic[8] = {
    f80_add,
    f80_mul,
    nullptr,
    nullptr,
    f80_sub,
    [](const Parts& a, const Parts& b, FloatStatus& s) { return f80_sub(b, a, s); },
    f80_div,
    [](const Parts& a, const Parts& b, FloatStatus& s) { return f80_div(b, a, s); },
};

bool x87_deliver(X87& fpu, unsigned to, const F80& result, const FloatStatus& status) {
  fpu.end(status);
  if (status.unmasked(kInvalid | kDenormal | kZeroDivide)) return false;
  fpu.set(to, result);
  return true;
}

namespace x87 {

namespace {

// ---- arithmetic ---------------------------------------------------------------------------------

// The stack underflow of an operation with one result; true: it happened.
bool missing(X87& fpu, bool is_missing, unsigned to) {
  if (!is_missing) return false;
  if (fpu.underflow()) fpu.set(to, kIndefinite80);
  return true;
}

template <Parts (*kRead)(Cpu&, const Insn&)>
void arith_memory(Cpu& cpu, const Insn& insn) {
  x87_begin(cpu);
  const Parts other = kRead(cpu, insn);
  x87_note(cpu, insn);
  X87 fpu = x87_of(cpu);
  if (missing(fpu, fpu.empty(0), 0)) return;
  FloatStatus status = fpu.begin();
  const F80 result = kX87Arithmetic[x87_digit(insn)](fpu.operand(0), other, status);
  x87_deliver(fpu, 0, result, status);
}

Parts read_m32(Cpu& cpu, const Insn& insn) {
  return unpack_f32(cpu.read<std::uint32_t>(insn.segment, cpu.effective_address(insn)));
}
Parts read_m64(Cpu& cpu, const Insn& insn) {
  return unpack_f64(cpu.read<std::uint64_t>(insn.segment, cpu.effective_address(insn)));
}
Parts read_i16(Cpu& cpu, const Insn& insn) {
  const auto value = cpu.read<std::uint16_t>(insn.segment, cpu.effective_address(insn));
  return parts_of_integer(static_cast<std::int16_t>(value));
}
Parts read_i32(Cpu& cpu, const Insn& insn) {
  const auto value = cpu.read<std::uint32_t>(insn.segment, cpu.effective_address(insn));
  return parts_of_integer(static_cast<std::int32_t>(value));
}

// False where an unmasked exception keeps the stack as it is.
bool arith_registers(X87& fpu, const Insn& insn, unsigned to) {
  const unsigned i = x87_index(insn);
  if (fpu.empty(0) || fpu.empty(i)) {
    if (!fpu.underflow()) return false;
    fpu.set(to, kIndefinite80);
    return true;
  }
  FloatStatus status = fpu.begin();
  const F80 result = kX87Arithmetic[x87_digit(insn)](fpu.operand(0), fpu.operand(i), status);
  return x87_deliver(fpu, to, result, status);
}

// ---- comparisons --------------------------------------------------------------------------------

constexpr unsigned kRelationBits[] = {kX87C0, kX87C3, 0, kX87C0 | kX87C2 | kX87C3};

// C3, C2 and C0 from a comparison. Hardware sets them even where the exception is not masked (SDM
// Vol. 2, FCOM, says otherwise); false then: the operands stay on the stack.
bool compare(X87& fpu, bool is_missing, const Parts& a, const Parts& b, Nans nans) {
  constexpr unsigned kBits = kX87C0 | kX87C2 | kX87C3;
  if (is_missing) {
    fpu.condition(kBits, kBits);
    return fpu.underflow();
  }
  FloatStatus status = fpu.begin();
  const Relation relation = f80_compare(a, b, nans, status);
  fpu.end(status);
  fpu.condition(kBits, kRelationBits[static_cast<unsigned>(relation)]);
  return !status.unmasked(kInvalid | kDenormal);
}

void pop_if(X87& fpu, bool wanted) {
  if (wanted) fpu.pop();
}

template <Parts (*kRead)(Cpu&, const Insn&)>
void com_memory(Cpu& cpu, const Insn& insn) {
  x87_begin(cpu);
  const Parts other = kRead(cpu, insn);
  x87_note(cpu, insn);
  X87 fpu = x87_of(cpu);
  const bool done = compare(fpu, fpu.empty(0), fpu.operand(0), other, Nans::kSignal);
  pop_if(fpu, done && x87_digit(insn) == 3);
}

bool compare_registers(X87& fpu, unsigned i, Nans nans) {
  return compare(fpu, fpu.empty(0) || fpu.empty(i), fpu.operand(0), fpu.operand(i), nans);
}

// FCOMI and kin: ZF, PF and CF as COMISS sets them, unmasked exception or not. Without a stack
// fault hardware leaves C1 as it is.
void compare_flags(Cpu& cpu, const Insn& insn, Nans nans, bool pops) {
  static constexpr std::uint8_t kFlags[] = {kCf, kZf, 0, kCf | kPf | kZf};
  X87 fpu = x87_start(cpu, insn);
  const unsigned i = x87_index(insn);
  if (fpu.empty(0) || fpu.empty(i)) {
    cpu.flags.set(kCf | kPf | kZf);
    return pop_if(fpu, fpu.underflow() && pops);
  }
  FloatStatus status = fpu.wishes();
  const Relation relation = f80_compare(fpu.operand(0), fpu.operand(i), nans, status);
  fpu.end(status);
  cpu.flags.set(kFlags[static_cast<unsigned>(relation)]);
  pop_if(fpu, pops && !status.unmasked(kInvalid | kDenormal));
}

void move_if(Cpu& cpu, const Insn& insn, bool wanted) {
  // B, E, BE, U: the condition codes of Jcc for CF, ZF, CF or ZF, PF.
  static constexpr std::uint8_t kCondition[4] = {2, 4, 6, 10};
  X87 fpu = x87_start(cpu, insn);
  const unsigned i = x87_index(insn);
  if (missing(fpu, fpu.empty(0) || fpu.empty(i), 0)) return;
  if (cpu.flags.condition(kCondition[x87_digit(insn) & 3]) == wanted) fpu.set(0, fpu.st(i));
}

}  // namespace

void arith_m32(Cpu& cpu, const Insn& insn) { arith_memory<read_m32>(cpu, insn); }
void arith_m64(Cpu& cpu, const Insn& insn) { arith_memory<read_m64>(cpu, insn); }
void arith_i16(Cpu& cpu, const Insn& insn) { arith_memory<read_i16>(cpu, insn); }
void arith_i32(Cpu& cpu, const Insn& insn) { arith_memory<read_i32>(cpu, insn); }
void arith_st0(Cpu& cpu, const Insn& insn) {
  X87 fpu = x87_start(cpu, insn);
  arith_registers(fpu, insn, 0);
}
void arith_sti(Cpu& cpu, const Insn& insn) {
  X87 fpu = x87_start(cpu, insn);
  arith_registers(fpu, insn, x87_index(insn));
}
void arith_pop(Cpu& cpu, const Insn& insn) {
  X87 fpu = x87_start(cpu, insn);
  pop_if(fpu, arith_registers(fpu, insn, x87_index(insn)));
}

void com_m32(Cpu& cpu, const Insn& insn) { com_memory<read_m32>(cpu, insn); }
void com_m64(Cpu& cpu, const Insn& insn) { com_memory<read_m64>(cpu, insn); }
void com_i16(Cpu& cpu, const Insn& insn) { com_memory<read_i16>(cpu, insn); }
void com_i32(Cpu& cpu, const Insn& insn) { com_memory<read_i32>(cpu, insn); }
void com_st(Cpu& cpu, const Insn& insn) {
  X87 fpu = x87_start(cpu, insn);
  pop_if(fpu, compare_registers(fpu, x87_index(insn), Nans::kSignal) && x87_digit(insn) == 3);
}
void com_st6(Cpu& cpu, const Insn& insn) {
  X87 fpu = x87_start(cpu, insn);
  pop_if(fpu, compare_registers(fpu, x87_index(insn), Nans::kSignal));
}
void ucom(Cpu& cpu, const Insn& insn) {
  X87 fpu = x87_start(cpu, insn);
  pop_if(fpu, compare_registers(fpu, x87_index(insn), Nans::kQuiet) && x87_digit(insn) == 5);
}
void compp(Cpu& cpu, const Insn& insn) {
  X87 fpu = x87_start(cpu, insn);
  if (!compare_registers(fpu, 1, Nans::kSignal)) return;
  fpu.pop();
  fpu.pop();
}
void ucompp(Cpu& cpu, const Insn& insn) {
  X87 fpu = x87_start(cpu, insn);
  if (!compare_registers(fpu, 1, Nans::kQuiet)) return;
  fpu.pop();
  fpu.pop();
}
void comi(Cpu& cpu, const Insn& insn) { compare_flags(cpu, insn, Nans::kSignal, false); }
void ucomi(Cpu& cpu, const Insn& insn) { compare_flags(cpu, insn, Nans::kQuiet, false); }
void comip(Cpu& cpu, const Insn& insn) { compare_flags(cpu, insn, Nans::kSignal, true); }
void ucomip(Cpu& cpu, const Insn& insn) { compare_flags(cpu, insn, Nans::kQuiet, true); }
void cmov(Cpu& cpu, const Insn& insn) { move_if(cpu, insn, true); }
void cmovn(Cpu& cpu, const Insn& insn) { move_if(cpu, insn, false); }

void tst(Cpu& cpu, const Insn& insn) {
  X87 fpu = x87_start(cpu, insn);
  compare(fpu, fpu.empty(0), fpu.operand(0), Parts{}, Nans::kSignal);
}

// SDM Vol. 2, FXAM: C3, C2, C0 by class, C1 the sign even of an empty register.
void xam(Cpu& cpu, const Insn& insn) {
  X87 fpu = x87_start(cpu, insn);
  static constexpr unsigned kClass[] = {kX87C3, kX87C2, kX87C2 | kX87C0, kX87C0, kX87C0, 0};
  const Parts value = fpu.operand(0);
  unsigned bits = kClass[static_cast<unsigned>(value.kind)];
  if (value.denormal) bits = kX87C3 | kX87C2;
  if (fpu.empty(0)) bits = kX87C3 | kX87C0;
  fpu.condition(kX87Conditions, bits | (value.sign ? kX87C1 : 0u));
}

}  // namespace x87

}  // namespace hv::softcpu

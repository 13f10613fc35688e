// The x87's operations on ST(0), or on ST(0) and ST(1), with their result in ST(0).
#include "softcpu/exec_x87.h"

namespace hv::softcpu::x87 {

using namespace softfloat;

namespace {

// The sign alone changes: any encoding will do, and nothing is raised.
void change_sign(Cpu& cpu, const Insn& insn, unsigned keep, unsigned flip) {
  X87 fpu = x87_start(cpu, insn);
  if (fpu.empty(0)) {
    if (fpu.underflow()) fpu.set(0, kIndefinite80);
    return;
  }
  fpu.condition(kX87C1, 0);
  std::uint16_t& word = fpu.st(0).sign_exponent;
  word = static_cast<std::uint16_t>((word & keep) ^ flip);
}

template <class Operation>
void unary(Cpu& cpu, const Insn& insn, Operation&& operation) {
  X87 fpu = x87_start(cpu, insn);
  if (fpu.empty(0)) {
    if (fpu.underflow()) fpu.set(0, kIndefinite80);
    return;
  }
  FloatStatus status = fpu.begin();
  const F80 result = operation(fpu.operand(0), status);
  x87_deliver(fpu, 0, result, status);
}

void remainder(Cpu& cpu, const Insn& insn, Quotient kind) {
  X87 fpu = x87_start(cpu, insn);
  fpu.condition(kX87C2, 0);
  if (fpu.empty(0) || fpu.empty(1)) {
    if (fpu.underflow()) fpu.set(0, kIndefinite80);
    return;
  }
  FloatStatus status = fpu.begin();
  const Remainder result = f80_remainder(fpu.operand(0), fpu.operand(1), kind, status);
  if (!x87_deliver(fpu, 0, result.value, status)) return;
  if (!result.computed) return;
  const unsigned q = result.quotient;
  fpu.condition(kX87Conditions, ((q & 4) != 0 ? kX87C0 : 0u) | ((q & 2) != 0 ? kX87C3 : 0u) |
                                    ((q & 1) != 0 ? kX87C1 : 0u) |
                                    (result.complete ? 0u : kX87C2));
}

}  // namespace

void chs(Cpu& cpu, const Insn& insn) { change_sign(cpu, insn, 0xffff, 0x8000); }
void fabs(Cpu& cpu, const Insn& insn) { change_sign(cpu, insn, 0x7fff, 0); }
void sqrt(Cpu& cpu, const Insn& insn) { unary(cpu, insn, f80_sqrt); }
void rndint(Cpu& cpu, const Insn& insn) { unary(cpu, insn, f80_round); }

void scale(Cpu& cpu, const Insn& insn) {
  X87 fpu = x87_start(cpu, insn);
  if (fpu.empty(0) || fpu.empty(1)) {
    if (fpu.underflow()) fpu.set(0, kIndefinite80);
    return;
  }
  FloatStatus status = fpu.begin();
  const F80 result = f80_scale(fpu.operand(0), fpu.operand(1), status);
  x87_deliver(fpu, 0, result, status);
}

void xtract(Cpu& cpu, const Insn& insn) {
  X87 fpu = x87_start(cpu, insn);
  const bool underflows = fpu.empty(0);
  if (underflows || !fpu.empty(7)) {
    if (!(underflows ? fpu.underflow() : fpu.overflow())) return;
    fpu.set(0, kIndefinite80);
    fpu.push(kIndefinite80);
    return;
  }
  FloatStatus status = fpu.begin();
  const Extracted result = f80_extract(fpu.operand(0), status);
  if (x87_deliver(fpu, 0, result.exponent, status)) fpu.push(result.significand);
}

void prem(Cpu& cpu, const Insn& insn) { remainder(cpu, insn, Quotient::kTruncated); }
void prem1(Cpu& cpu, const Insn& insn) { remainder(cpu, insn, Quotient::kNearest); }

}  // namespace hv::softcpu::x87

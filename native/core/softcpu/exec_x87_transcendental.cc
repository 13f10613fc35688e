// F2XM1, FYL2X, FYL2XP1, FPTAN, FPATAN, FSIN, FCOS, FSINCOS: their stack and exceptions.
#include "softcpu/exec_x87.h"
#include "softcpu/host_x87.h"

namespace hv::softcpu::x87 {

using namespace softfloat;

namespace {

// How an instruction leaves the stack: its result replaces ST(0), replaces ST(1) after a pop, or
// comes as two, the second pushed.
enum class Shape : std::uint8_t { kReplaces, kPops, kPushes };

void deliver(X87& fpu, Shape shape, const F80& first, const F80& second) {
  switch (shape) {
    case Shape::kReplaces: fpu.set(0, first); return;
    case Shape::kPops:
      fpu.pop();
      fpu.set(0, first);
      return;
    case Shape::kPushes:
      fpu.set(0, second);
      fpu.push(first);
      return;
  }
}

void run(Cpu& cpu, const Insn& insn, Transcendental which, Shape shape) {
  X87 fpu = x87_start(cpu, insn);
  const bool reduces = shape != Shape::kPops && which != Transcendental::k2xm1;
  if (reduces) fpu.condition(kX87C2, 0);
  const bool missing = fpu.empty(0) || (shape == Shape::kPops && fpu.empty(1));
  if (missing || (shape == Shape::kPushes && !fpu.empty(7))) {
    if (missing ? fpu.underflow() : fpu.overflow())
      deliver(fpu, shape, kIndefinite80, kIndefinite80);
    return;
  }
  const TranscendentalResult result =
      host::transcendental(which, fpu.st(0), fpu.st(1), cpu.fpu.control);
  fpu.condition(kX87C1, result.status & kX87C1);
  fpu.raise(result.status & kAllFlags);
  if (reduces && (result.status & kX87C2) != 0) return fpu.condition(kX87C2, kX87C2);
  const unsigned stopping = kInvalid | kDenormal | kZeroDivide;
  if ((result.status & ~cpu.fpu.control & stopping) == 0)
    deliver(fpu, shape, result.first, result.second);
}

}  // namespace

void two_xm1(Cpu& cpu, const Insn& insn) {
  run(cpu, insn, Transcendental::k2xm1, Shape::kReplaces);
}
void yl2x(Cpu& cpu, const Insn& insn) { run(cpu, insn, Transcendental::kYl2x, Shape::kPops); }
void yl2xp1(Cpu& cpu, const Insn& insn) { run(cpu, insn, Transcendental::kYl2xp1, Shape::kPops); }
void ptan(Cpu& cpu, const Insn& insn) { run(cpu, insn, Transcendental::kPtan, Shape::kPushes); }
void patan(Cpu& cpu, const Insn& insn) { run(cpu, insn, Transcendental::kPatan, Shape::kPops); }
void sin(Cpu& cpu, const Insn& insn) { run(cpu, insn, Transcendental::kSin, Shape::kReplaces); }
void cos(Cpu& cpu, const Insn& insn) { run(cpu, insn, Transcendental::kCos, Shape::kReplaces); }
void sincos(Cpu& cpu, const Insn& insn) {
  run(cpu, insn, Transcendental::kSincos, Shape::kPushes);
}

}  // namespace hv::softcpu::x87

// Running one SSE floating-point instruction: on the host where it can, else lane by lane in
// portable arithmetic; then the flags, and #XM before anything is written.
//
// SDM Vol. 1, "SIMD Floating-Point Exceptions": all lanes are looked at before the instruction
// decides. An unmasked invalid, denormal or zero-divide in any lane leaves all results uncomputed,
// so no lane reports overflow, underflow or inexact.
#pragma once
#include "softcpu/host/simd.h"
#include "softcpu/simd_operand.h"
#include "softcpu/softfloat/softfloat.h"

namespace hv::softcpu::simd {

using softfloat::FloatStatus;

inline constexpr u32 kMxcsrFlags = 0x3f, kMxcsrMasks = 0x1f80, kMxcsrMaskUnderflow = 0x800;
inline constexpr u32 kBeforeComputing =
    softfloat::kInvalid | softfloat::kDenormal | softfloat::kZeroDivide;

// The lanes of one instruction, and what they raised together.
class SoftRun {
 public:
  explicit SoftRun(u32 mxcsr) : fresh_(softfloat::status_of_mxcsr(mxcsr)) {}

  softfloat::Rounding rounding() const { return fresh_.rounding; }
  template <class F>
  auto lane(F&& f) {
    FloatStatus status = fresh_;
    const auto result = f(status);
    raised_ |= status.flags;
    return result;
  }
  // r[i] = f(a[i], b[i])
  template <class T, class F>
  Xmm each(Xmm a, Xmm b, F&& f) {
    Lanes<T, Xmm> r;
    const auto x = lanes<T>(a), y = lanes<T>(b);
    for (std::size_t i = 0; i < r.size(); ++i)
      r[i] = lane([&](FloatStatus& status) { return f(x[i], y[i], status); });
    return join<Xmm, T>(r);
  }
  // Lane 0 only; the others are those of `a`.
  template <class T, class F>
  Xmm first(Xmm a, Xmm b, F&& f) {
    auto r = lanes<T>(a);
    r[0] = lane([&](FloatStatus& status) { return f(r[0], lanes<T>(b)[0], status); });
    return join<Xmm, T>(r);
  }

  // Between the steps of an instruction that is several operations in turn. False: stop here.
  bool next_step() {
    settled_ = flags();
    raised_ = 0;
    return !stopped(settled_);
  }
  u32 flags() const {
    const u32 before = raised_ & kBeforeComputing;
    return settled_ | (stopped(before) ? before : raised_);
  }

 private:
  bool stopped(u32 flags) const { return (flags & ~u32{fresh_.masks}) != 0; }
  FloatStatus fresh_;
  u32 raised_ = 0, settled_ = 0;  // in this step, in those before
};

// Sets the flags; raises when one of them is unmasked.
[[noreturn]] void raise_unmasked(Cpu& cpu);
inline void settle(Cpu& cpu, u32 flags) {
  cpu.mxcsr |= flags;
  if ((flags & ~(cpu.mxcsr >> 7)) != 0) [[unlikely]] raise_unmasked(cpu);
}

using HostFunction = bool (*)(Xmm& a, const Xmm& b, u32& csr);
using SoftFunction = Xmm (*)(Xmm a, Xmm b, unsigned imm, SoftRun& run);

template <SoftFunction kSoft>
inline Xmm evaluate_soft(Cpu& cpu, Xmm a, Xmm b, unsigned imm = 0) {
  SoftRun run{cpu.mxcsr};
  const Xmm result = kSoft(a, b, imm, run);
  settle(cpu, run.flags());
  return result;
}

// The host runs with every exception masked. What it raises stands unless the guest unmasked one
// of them; then, and with underflow unmasked (which changes what counts as one), the portable
// arithmetic finds out what the guest may see.
template <HostFunction kHost, SoftFunction kSoft>
inline Xmm evaluate(Cpu& cpu, Xmm a, Xmm b, unsigned imm = 0) {
  u32 csr = (cpu.mxcsr & ~kMxcsrFlags) | kMxcsrMasks;
  Xmm result = a;
  const bool may = host::use_sse && (cpu.mxcsr & kMxcsrMaskUnderflow) != 0;
  if (may && kHost(result, b, csr)) [[likely]] {
    const u32 raised = csr & kMxcsrFlags;
    if ((raised & ~(cpu.mxcsr >> 7)) == 0) [[likely]] {
      cpu.mxcsr |= raised;
      return result;
    }
  }
  return evaluate_soft<kSoft>(cpu, a, b, imm);
}

// A source that is memory of T's width or the low lane of a register, zeros above.
template <class T>
inline Xmm source(Cpu& cpu, const Insn& i) {
  if constexpr (sizeof(T) == sizeof(Xmm))
    return xmm_rm(cpu, i);
  else
    return {low_rm<T>(cpu, i), 0};
}

// reg = f(reg, source), the source of type T.
template <class T, HostFunction kHost, SoftFunction kSoft>
void float2(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  const Xmm b = source<T>(cpu, i);
  Xmm& reg = cpu.sse.xmm[i.reg];
  reg = evaluate<kHost, kSoft>(cpu, reg, b, static_cast<unsigned>(i.imm));
}
template <class T, SoftFunction kSoft>
void float2_soft(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  const Xmm b = source<T>(cpu, i);
  Xmm& reg = cpu.sse.xmm[i.reg];
  reg = evaluate_soft<kSoft>(cpu, reg, b, static_cast<unsigned>(i.imm));
}

}  // namespace hv::softcpu::simd

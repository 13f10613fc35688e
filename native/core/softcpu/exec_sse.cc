// From SIMD operations to handlers, and the checks they all start with.
#include "softcpu/cpu.h"
#include "softcpu/exec_simd.h"
#include "softcpu/opcodes.h"
#include "softcpu/simd_operand.h"

namespace hv::softcpu {

Handler bind_simd(const Insn& insn) {
  constexpr Handler (*kGroups[])(const Insn&) = {
      simd::bind_moves,      simd::bind_integer,  simd::bind_shuffles,    simd::bind_arithmetic,
      simd::bind_compares, simd::bind_conversions, simd::bind_mmx, simd::bind_strings,
  };
  for (const auto bind_group : kGroups)
    if (const Handler handler = bind_group(insn)) return handler;
  return nullptr;
}

// SDM Vol. 2, "Exceptions Type 4" and kin: the checks before the memory operand is looked at.
void Cpu::check_sse() {
  if ((cr0 & simd::kCr0Em) != 0 || (cr4 & simd::kCr4Osfxsr) == 0) raise(Vector::kUd);
  if ((cr0 & simd::kCr0Ts) != 0) raise(Vector::kNm);
}

// SDM Vol. 3, "Exceptions That Can Occur When Executing MMX Instructions".
void Cpu::check_mmx() {
  if ((cr0 & simd::kCr0Em) != 0) raise(Vector::kUd);
  if ((cr0 & simd::kCr0Ts) != 0) raise(Vector::kNm);
  if ((fpu.status & simd::kErrorSummary) != 0) check_fpu(true);
}

}  // namespace hv::softcpu

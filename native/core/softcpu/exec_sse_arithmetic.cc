// SSE floating-point arithmetic: packed and scalar, horizontal, dot products, rounding, estimates.
#include "softcpu/exec_simd.h"
#include "softcpu/simd_float.h"

namespace hv::softcpu::simd {

void raise_unmasked(Cpu& cpu) {
  cpu.raise((cpu.cr4 & kCr4Osxmmexcpt) != 0 ? Vector::kXm : Vector::kUd);
}

namespace {

// One lane, by the width of its arguments.
namespace lane {
u32 add(u32 a, u32 b, FloatStatus& s) { return softfloat::f32_add(a, b, s); }
u64 add(u64 a, u64 b, FloatStatus& s) { return softfloat::f64_add(a, b, s); }
u32 sub(u32 a, u32 b, FloatStatus& s) { return softfloat::f32_sub(a, b, s); }
u64 sub(u64 a, u64 b, FloatStatus& s) { return softfloat::f64_sub(a, b, s); }
u32 mul(u32 a, u32 b, FloatStatus& s) { return softfloat::f32_mul(a, b, s); }
u64 mul(u64 a, u64 b, FloatStatus& s) { return softfloat::f64_mul(a, b, s); }
u32 div(u32 a, u32 b, FloatStatus& s) { return softfloat::f32_div(a, b, s); }
u64 div(u64 a, u64 b, FloatStatus& s) { return softfloat::f64_div(a, b, s); }
u32 min(u32 a, u32 b, FloatStatus& s) { return softfloat::f32_min(a, b, s); }
u64 min(u64 a, u64 b, FloatStatus& s) { return softfloat::f64_min(a, b, s); }
u32 max(u32 a, u32 b, FloatStatus& s) { return softfloat::f32_max(a, b, s); }
u64 max(u64 a, u64 b, FloatStatus& s) { return softfloat::f64_max(a, b, s); }
u32 sqrt(u32, u32 b, FloatStatus& s) { return softfloat::f32_sqrt(b, s); }
u64 sqrt(u64, u64 b, FloatStatus& s) { return softfloat::f64_sqrt(b, s); }
u32 round(u32 a, softfloat::Rounding how, bool quiet, FloatStatus& s) {
  return softfloat::f32_round(a, how, quiet, s);
}
u64 round(u64 a, softfloat::Rounding how, bool quiet, FloatStatus& s) {
  return softfloat::f64_round(a, how, quiet, s);
}
}  // namespace lane

template <class T>
using LaneFunction = T (*)(T, T, FloatStatus&);

template <class T, LaneFunction<T> kLane>
Xmm packed(Xmm a, Xmm b, unsigned, SoftRun& run) { return run.each<T>(a, b, kLane); }
template <class T, LaneFunction<T> kLane>
Xmm scalar(Xmm a, Xmm b, unsigned, SoftRun& run) { return run.first<T>(a, b, kLane); }

// ADDSUBPS: even lanes subtract, odd lanes add.
template <class T>
Xmm add_subtract(Xmm a, Xmm b, unsigned, SoftRun& run) {
  unsigned n = 0;
  return run.each<T>(a, b, [&](T x, T y, FloatStatus& status) {
    return n++ % 2 == 0 ? lane::sub(x, y, status) : lane::add(x, y, status);
  });
}
template <class T, LaneFunction<T> kLane>
Xmm pairs(Xmm a, Xmm b, unsigned, SoftRun& run) {
  return horizontal<T>(a, b, [&](T x, T y) {
    return run.lane([&](FloatStatus& status) { return kLane(x, y, status); });
  });
}

// ROUNDPS: bit 2 of the immediate takes the rounding from MXCSR instead of bits 1:0; bit 3 hides
// the inexact exception.
template <class T>
struct RoundLane {
  softfloat::Rounding how;
  bool quiet;
  T operator()(T, T b, FloatStatus& status) const { return lane::round(b, how, quiet, status); }
  static RoundLane of(unsigned imm, const SoftRun& run) {
    const auto chosen = static_cast<softfloat::Rounding>(imm & 3);
    return {(imm & 4) != 0 ? run.rounding() : chosen, (imm & 8) != 0};
  }
};
template <class T>
Xmm round_packed(Xmm a, Xmm b, unsigned imm, SoftRun& run) {
  return run.each<T>(a, b, RoundLane<T>::of(imm, run));
}
template <class T>
Xmm round_scalar(Xmm a, Xmm b, unsigned imm, SoftRun& run) {
  return run.first<T>(a, b, RoundLane<T>::of(imm, run));
}

// DPPS and DPPD: the products that bits 7:4 choose, summed pair by pair, to the lanes that bits
// 3:0 choose; zero elsewhere. Each step rounds, and an unmasked exception in it ends the work.
template <class T>
Xmm dot_product(Xmm a, Xmm b, unsigned imm, SoftRun& run) {
  const auto x = lanes<T>(a), y = lanes<T>(b);
  Lanes<T, Xmm> sum{}, r{};
  for (std::size_t i = 0; i < sum.size(); ++i)
    if ((imm >> (4 + i) & 1) != 0)
      sum[i] = run.lane([&](FloatStatus& status) { return lane::mul(x[i], y[i], status); });
  for (std::size_t left = sum.size() / 2; left != 0 && run.next_step(); left /= 2)
    for (std::size_t i = 0; i < left; ++i)
      sum[i] = run.lane(
          [&](FloatStatus& status) { return lane::add(sum[2 * i], sum[2 * i + 1], status); });
  for (std::size_t i = 0; i < r.size(); ++i)
    if ((imm >> i & 1) != 0) r[i] = sum[0];
  return join<Xmm, T>(r);
}

// ---- estimates --------------------------------------------------------------------------------
// SDM Vol. 2, "RCPPS", "RSQRTPS": no exceptions, no MXCSR, denormals count as zero. The portable
// form gives the rounded quotient, well within the permitted 1.5 * 2^-12.
FloatStatus quiet_status() {
  FloatStatus status;
  status.denormals_are_zero = status.flush_to_zero = true;
  return status;
}
constexpr u32 kOne = 0x3f80'0000;
u32 reciprocal(u32 a) {
  FloatStatus status = quiet_status();
  return softfloat::f32_div(kOne, a, status);
}
u32 reciprocal_root(u32 a) {
  FloatStatus status = quiet_status();
  return softfloat::f32_div(kOne, softfloat::f32_sqrt(a, status), status);
}

template <class T, HostFunction kHost, u32 (*kLane)(u32)>
void estimate(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  const Xmm b = source<T>(cpu, i);
  Xmm& reg = cpu.sse.xmm[i.reg];
  u32 unused = 0;
  if (host::use_sse && kHost(reg, b, unused)) return;
  auto r = lanes<u32>(reg);
  const auto y = lanes<u32>(b);
  for (std::size_t n = 0; n < sizeof(T) / sizeof(u32); ++n) r[n] = kLane(y[n]);
  reg = join<Xmm, u32>(r);
}

}  // namespace

Handler bind_arithmetic(const Insn& insn) {
  switch (insn.op) {
#define FLOAT4(opcode, Name, name)                                                             \
  case Op::k##Name##ps: return float2<Xmm, host::name##ps, packed<u32, lane::name>>;           \
  case Op::k##Name##pd: return float2<Xmm, host::name##pd, packed<u64, lane::name>>;           \
  case Op::k##Name##ss: return float2<u32, host::name##ss, scalar<u32, lane::name>>;           \
  case Op::k##Name##sd: return float2<u64, host::name##sd, scalar<u64, lane::name>>;
#include "softcpu/simd_tables.def"
    case Op::kAddsubps: return float2_soft<Xmm, add_subtract<u32>>;
    case Op::kAddsubpd: return float2_soft<Xmm, add_subtract<u64>>;
    case Op::kHaddps: return float2_soft<Xmm, pairs<u32, lane::add>>;
    case Op::kHaddpd: return float2_soft<Xmm, pairs<u64, lane::add>>;
    case Op::kHsubps: return float2_soft<Xmm, pairs<u32, lane::sub>>;
    case Op::kHsubpd: return float2_soft<Xmm, pairs<u64, lane::sub>>;
    case Op::kRoundps: return float2_soft<Xmm, round_packed<u32>>;
    case Op::kRoundpd: return float2_soft<Xmm, round_packed<u64>>;
    case Op::kRoundss: return float2_soft<u32, round_scalar<u32>>;
    case Op::kRoundsd: return float2_soft<u64, round_scalar<u64>>;
    case Op::kDpps: return float2_soft<Xmm, dot_product<u32>>;
    case Op::kDppd: return float2_soft<Xmm, dot_product<u64>>;
    case Op::kRcpps: return estimate<Xmm, host::rcpps, reciprocal>;
    case Op::kRcpss: return estimate<u32, host::rcpss, reciprocal>;
    case Op::kRsqrtps: return estimate<Xmm, host::rsqrtps, reciprocal_root>;
    case Op::kRsqrtss: return estimate<u32, host::rsqrtss, reciprocal_root>;
    default: return nullptr;
  }
}

}  // namespace hv::softcpu::simd

// Conversions between integers, float32 and float64, in xmm, mm and general registers.
#include "softcpu/exec_simd.h"
#include "softcpu/simd_float.h"

namespace hv::softcpu::simd {

namespace {

using softfloat::Rounding;

// ---- portable forms ---------------------------------------------------------------------------
Xmm ps_to_pd(Xmm, Xmm b, unsigned, SoftRun& run) {
  const auto y = lanes<u32>(b);
  Xmm r;
  for (std::size_t i = 0; i < 2; ++i)
    r.qword[i] = run.lane([&](FloatStatus& s) { return softfloat::f32_to_f64(y[i], s); });
  return r;
}
Xmm pd_to_ps(Xmm, Xmm b, unsigned, SoftRun& run) {
  Lanes<u32, Xmm> r{};
  for (std::size_t i = 0; i < 2; ++i)
    r[i] = run.lane([&](FloatStatus& s) { return softfloat::f64_to_f32(b.qword[i], s); });
  return join<Xmm, u32>(r);
}
Xmm ss_to_sd(Xmm a, Xmm b, unsigned, SoftRun& run) {
  a.qword[0] = run.lane([&](FloatStatus& s) { return softfloat::f32_to_f64(lanes<u32>(b)[0], s); });
  return a;
}
Xmm sd_to_ss(Xmm a, Xmm b, unsigned, SoftRun& run) {
  auto r = lanes<u32>(a);
  r[0] = run.lane([&](FloatStatus& s) { return softfloat::f64_to_f32(b.qword[0], s); });
  return join<Xmm, u32>(r);
}
Xmm dq_to_ps(Xmm a, Xmm b, unsigned, SoftRun& run) {
  return run.each<u32>(a, b, [](u32, u32 y, FloatStatus& s) {
    return softfloat::i32_to_f32(static_cast<i32>(y), s);
  });
}

template <bool kTruncate>
Rounding rounding(const SoftRun& run) {
  return kTruncate ? Rounding::kTowardZero : run.rounding();
}
template <bool kTruncate>
Xmm ps_to_dq(Xmm a, Xmm b, unsigned, SoftRun& run) {
  return run.each<u32>(a, b, [&](u32, u32 y, FloatStatus& s) {
    return static_cast<u32>(softfloat::f32_to_i32(y, rounding<kTruncate>(run), s));
  });
}
template <bool kTruncate>
Xmm pd_to_dq(Xmm, Xmm b, unsigned, SoftRun& run) {
  Lanes<u32, Xmm> r{};
  for (std::size_t i = 0; i < 2; ++i)
    r[i] = run.lane([&](FloatStatus& s) {
      return static_cast<u32>(softfloat::f64_to_i32(b.qword[i], rounding<kTruncate>(run), s));
    });
  return join<Xmm, u32>(r);
}

// Integers in general registers travel in qword[0].
Xmm si32_to_ss(Xmm a, Xmm b, unsigned, SoftRun& run) {
  return run.first<u32>(a, b, [](u32, u32 y, FloatStatus& s) {
    return softfloat::i32_to_f32(static_cast<i32>(y), s);
  });
}
Xmm si64_to_ss(Xmm a, Xmm b, unsigned, SoftRun& run) {
  return run.first<u32>(a, b, [&](u32, u32, FloatStatus& s) {
    return softfloat::i64_to_f32(static_cast<i64>(b.qword[0]), s);
  });
}
Xmm si64_to_sd(Xmm a, Xmm b, unsigned, SoftRun& run) {
  return run.first<u64>(a, b, [](u64, u64 y, FloatStatus& s) {
    return softfloat::i64_to_f64(static_cast<i64>(y), s);
  });
}

u64 integer(u32 a, Rounding how, bool wide, FloatStatus& s) {
  return wide ? static_cast<u64>(softfloat::f32_to_i64(a, how, s))
              : static_cast<u32>(softfloat::f32_to_i32(a, how, s));
}
u64 integer(u64 a, Rounding how, bool wide, FloatStatus& s) {
  return wide ? static_cast<u64>(softfloat::f64_to_i64(a, how, s))
              : static_cast<u32>(softfloat::f64_to_i32(a, how, s));
}
template <class T, bool kTruncate, bool kWide>
Xmm to_integer(Xmm, Xmm b, unsigned, SoftRun& run) {
  const u64 r = run.lane([&](FloatStatus& s) {
    return integer(lanes<T>(b)[0], rounding<kTruncate>(run), kWide, s);
  });
  return {r, 0};
}

// ---- handlers ---------------------------------------------------------------------------------
// Always exact, so MXCSR has no part in it.
u64 exact_f64(u32 a) { return std::bit_cast<u64>(static_cast<double>(static_cast<i32>(a))); }
void cvtdq2pd(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  const u64 b = low_rm<u64>(cpu, i);
  cpu.sse.xmm[i.reg] = {exact_f64(static_cast<u32>(b)), exact_f64(static_cast<u32>(b >> 32))};
}
void cvtsi2sd_32(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  const u32 b = i.memory != 0 ? load<u32>(cpu, i) : cpu.reg<u32>(i.rm);
  cpu.sse.xmm[i.reg].qword[0] = exact_f64(b);
}

template <class T, HostFunction kHost, SoftFunction kSoft>
void from_general(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  const T b = i.memory != 0 ? load<T>(cpu, i) : cpu.reg<T>(i.rm);
  Xmm& reg = cpu.sse.xmm[i.reg];
  reg = evaluate<kHost, kSoft>(cpu, reg, Xmm{b, 0});
}
template <class T, HostFunction kHost, SoftFunction kSoft>
void to_general(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  const Xmm b = source<T>(cpu, i);
  cpu.set_reg<u64>(i.reg, evaluate<kHost, kSoft>(cpu, Xmm{}, b).qword[0]);
}

// To and from mm registers: the xmm conversions on two lanes. The other two are zero, which
// converts exactly. The x87 is in MMX mode also after a #XM.
template <class T, HostFunction kHost, SoftFunction kSoft>
void to_mm(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  enter_mmx(cpu);
  const Xmm b = source<T>(cpu, i);
  touch_x87(cpu);
  set_mm(cpu, i.reg, Mm{evaluate<kHost, kSoft>(cpu, Xmm{}, b).qword[0]});
}
// A memory operand leaves the x87 alone: SDM Vol. 2, "CVTPI2PD", says so, and CPUs do the same for
// CVTPI2PS.
u64 mm_source(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  if (i.memory != 0) return load<u64>(cpu, i);
  enter_mmx(cpu);
  touch_x87(cpu);
  return mm(cpu, i.rm).qword;
}
void cvtpi2ps(Cpu& cpu, const Insn& i) {
  const Xmm b{mm_source(cpu, i), 0};
  cpu.sse.xmm[i.reg].qword[0] = evaluate<host::cvtdq2ps, dq_to_ps>(cpu, Xmm{}, b).qword[0];
}
void cvtpi2pd(Cpu& cpu, const Insn& i) {
  const u64 b = mm_source(cpu, i);
  cpu.sse.xmm[i.reg] = {exact_f64(static_cast<u32>(b)), exact_f64(static_cast<u32>(b >> 32))};
}

template <class T, HostFunction kHost32, HostFunction kHost64, bool kTruncate>
Handler bind_to_general(bool wide) {
  return wide ? to_general<T, kHost64, to_integer<T, kTruncate, true>>
              : to_general<T, kHost32, to_integer<T, kTruncate, false>>;
}

Handler bind_general(const Insn& insn) {
  const bool wide = insn.size == k64;
  switch (insn.op) {
    case Op::kCvtsi2ss:
      return wide ? from_general<u64, host::cvtsi2ss_q, si64_to_ss>
                  : from_general<u32, host::cvtsi2ss_k, si32_to_ss>;
    case Op::kCvtsi2sd:
      return wide ? from_general<u64, host::cvtsi2sd_q, si64_to_sd> : cvtsi2sd_32;
    case Op::kCvtss2si:
      return bind_to_general<u32, host::cvtss2si_k, host::cvtss2si_q, false>(wide);
    case Op::kCvttss2si:
      return bind_to_general<u32, host::cvttss2si_k, host::cvttss2si_q, true>(wide);
    case Op::kCvtsd2si:
      return bind_to_general<u64, host::cvtsd2si_k, host::cvtsd2si_q, false>(wide);
    case Op::kCvttsd2si:
      return bind_to_general<u64, host::cvttsd2si_k, host::cvttsd2si_q, true>(wide);
    default: return nullptr;
  }
}

}  // namespace

Handler bind_conversions(const Insn& insn) {
  switch (insn.op) {
    case Op::kCvtps2pd: return float2<u64, host::cvtps2pd, ps_to_pd>;
    case Op::kCvtpd2ps: return float2<Xmm, host::cvtpd2ps, pd_to_ps>;
    case Op::kCvtss2sd: return float2<u32, host::cvtss2sd, ss_to_sd>;
    case Op::kCvtsd2ss: return float2<u64, host::cvtsd2ss, sd_to_ss>;
    case Op::kCvtdq2ps: return float2<Xmm, host::cvtdq2ps, dq_to_ps>;
    case Op::kCvtps2dq: return float2<Xmm, host::cvtps2dq, ps_to_dq<false>>;
    case Op::kCvttps2dq: return float2<Xmm, host::cvttps2dq, ps_to_dq<true>>;
    case Op::kCvtpd2dq: return float2<Xmm, host::cvtpd2dq, pd_to_dq<false>>;
    case Op::kCvttpd2dq: return float2<Xmm, host::cvttpd2dq, pd_to_dq<true>>;
    case Op::kCvtdq2pd: return cvtdq2pd;
    case Op::kCvtpi2ps: return cvtpi2ps;
    case Op::kCvtpi2pd: return cvtpi2pd;
    case Op::kCvtps2pi: return to_mm<u64, host::cvtps2dq, ps_to_dq<false>>;
    case Op::kCvttps2pi: return to_mm<u64, host::cvttps2dq, ps_to_dq<true>>;
    case Op::kCvtpd2pi: return to_mm<Xmm, host::cvtpd2dq, pd_to_dq<false>>;
    case Op::kCvttpd2pi: return to_mm<Xmm, host::cvttpd2dq, pd_to_dq<true>>;
    default: return bind_general(insn);
  }
}

}  // namespace hv::softcpu::simd

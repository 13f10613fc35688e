// SSE floating-point comparisons: CMPPS and kin to masks, COMISS and kin to RFLAGS.
#include "softcpu/exec_simd.h"
#include "softcpu/simd_float.h"

namespace hv::softcpu::simd {

namespace {

using softfloat::Nans;
using softfloat::Relation;

Relation relation(u32 a, u32 b, Nans nans, FloatStatus& status) {
  return softfloat::f32_compare(a, b, nans, status);
}
Relation relation(u64 a, u64 b, Nans nans, FloatStatus& status) {
  return softfloat::f64_compare(a, b, nans, status);
}

// SDM Vol. 2, "Comparison Predicate for CMPPD and CMPPS Instructions": EQ LT LE UNORD, and with
// bit 2 their opposites. Only LT and LE, and theirs, complain about a quiet NaN.
constexpr bool signals(unsigned predicate) {
  return (predicate & 3) == 1 || (predicate & 3) == 2;
}
constexpr bool holds(unsigned predicate, Relation r) {
  bool result = false;
  switch (predicate & 3) {
    case 0: result = r == Relation::kEqual; break;
    case 1: result = r == Relation::kLess; break;
    case 2: result = r == Relation::kLess || r == Relation::kEqual; break;
    case 3: result = r == Relation::kUnordered; break;
  }
  return result != ((predicate & 4) != 0);
}

template <class T>
struct CompareLane {
  unsigned predicate;
  T operator()(T a, T b, FloatStatus& status) const {
    const Nans nans = signals(predicate) ? Nans::kSignal : Nans::kQuiet;
    return mask<T>(holds(predicate, relation(a, b, nans, status)));
  }
};
template <class T>
Xmm compare_packed(Xmm a, Xmm b, unsigned imm, SoftRun& run) {
  return run.each<T>(a, b, CompareLane<T>{imm & 7});
}
template <class T>
Xmm compare_scalar(Xmm a, Xmm b, unsigned imm, SoftRun& run) {
  return run.first<T>(a, b, CompareLane<T>{imm & 7});
}

// ZF, PF and CF: unordered 111, greater 000, less 001, equal 100.
template <class T, Nans kNans>
Xmm compare_to_flags(Xmm a, Xmm b, unsigned, SoftRun& run) {
  const auto r = run.lane([&](FloatStatus& status) {
    return relation(lanes<T>(a)[0], lanes<T>(b)[0], kNans, status);
  });
  switch (r) {
    case Relation::kUnordered: return {0x45, 0};
    case Relation::kLess: return {0x01, 0};
    case Relation::kEqual: return {0x40, 0};
    case Relation::kGreater: break;
  }
  return {0, 0};
}

template <class T, HostFunction kHost, Nans kNans>
void flags(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  const Xmm b = source<T>(cpu, i);
  const Xmm result = evaluate<kHost, compare_to_flags<T, kNans>>(cpu, cpu.sse.xmm[i.reg], b);
  cpu.flags.set(result.qword[0]);
}

// Hardware takes only the low three bits of the immediate.
#define HV_PREDICATES(name, T, soft)                                                      \
  Handler bind_##name(unsigned predicate) {                                               \
    constexpr Handler kHandlers[] = {                                                     \
        float2<T, host::name##_0, soft>, float2<T, host::name##_1, soft>,                 \
        float2<T, host::name##_2, soft>, float2<T, host::name##_3, soft>,                 \
        float2<T, host::name##_4, soft>, float2<T, host::name##_5, soft>,                 \
        float2<T, host::name##_6, soft>, float2<T, host::name##_7, soft>};                \
    return kHandlers[predicate & 7];                                                      \
  }
HV_PREDICATES(cmpps, Xmm, compare_packed<u32>)
HV_PREDICATES(cmppd, Xmm, compare_packed<u64>)
HV_PREDICATES(cmpss, u32, compare_scalar<u32>)
HV_PREDICATES(cmpsd, u64, compare_scalar<u64>)
#undef HV_PREDICATES

}  // namespace

Handler bind_compares(const Insn& insn) {
  const auto predicate = static_cast<unsigned>(insn.imm);
  switch (insn.op) {
    case Op::kCmpps: return bind_cmpps(predicate);
    case Op::kCmppd: return bind_cmppd(predicate);
    case Op::kCmpss: return bind_cmpss(predicate);
    case Op::kCmpsdXmm: return bind_cmpsd(predicate);
    case Op::kComiss: return flags<u32, host::comiss, Nans::kSignal>;
    case Op::kComisd: return flags<u64, host::comisd, Nans::kSignal>;
    case Op::kUcomiss: return flags<u32, host::ucomiss, Nans::kQuiet>;
    case Op::kUcomisd: return flags<u64, host::ucomisd, Nans::kQuiet>;
    default: return nullptr;
  }
}

}  // namespace hv::softcpu::simd

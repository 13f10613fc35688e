// float32 and float64 against fixed vectors everywhere, and against the host's SSE on x86-64:
// results and flags, every rounding mode, with and without FZ and DAZ.
// SOFTFLOAT_CASES=n in the environment sets the number of cases an operation gets.
#include "softcpu/softfloat/softfloat.h"

#include <bit>

#include "base/test.h"
#include "softcpu/softfloat/test_operands.h"

using namespace hv::softfloat;
using namespace hv::softfloat::test;

namespace {

constexpr f32 kOne32 = 0x3f800000, kInf32 = 0x7f800000, kDefaultNan32 = 0xffc00000;
constexpr f64 kOne64 = 0x3ff0000000000000, kDefaultNan64 = 0xfff8000000000000;

FloatStatus rounding_to(Rounding rounding) {
  FloatStatus status;
  status.rounding = rounding;
  return status;
}

}  // namespace

TEST(one_third_rounds_by_mode) {
  FloatStatus nearest, up = rounding_to(Rounding::kUp), zero = rounding_to(Rounding::kTowardZero);
  const f32 three = 0x40400000;
  EXPECT_EQ(f32_div(kOne32, three, nearest), 0x3eaaaaabu);
  EXPECT_EQ(f32_div(kOne32, three, up), 0x3eaaaaabu);
  EXPECT_EQ(f32_div(kOne32, three, zero), 0x3eaaaaaau);
  EXPECT_EQ(nearest.flags, kInexact);
}

TEST(invalid_operations_give_the_default_nan) {
  FloatStatus status;
  EXPECT_EQ(f32_sub(kInf32, kInf32, status), kDefaultNan32);
  EXPECT_EQ(f32_mul(0, kInf32, status), kDefaultNan32);
  EXPECT_EQ(f64_div(0, 0, status), kDefaultNan64);
  EXPECT_EQ(f64_sqrt(kOne64 | (1ull << 63), status), kDefaultNan64);
  EXPECT_EQ(status.flags, kInvalid);
}

TEST(the_first_nan_wins_and_becomes_quiet) {
  FloatStatus status;
  EXPECT_EQ(f32_add(0x7f800001, 0x7fc12345, status), 0x7fc00001u);
  EXPECT_EQ(status.flags, kInvalid);
  status.flags = 0;
  EXPECT_EQ(f32_add(kOne32, 0xffc00007, status), 0xffc00007u);
  EXPECT_EQ(status.flags, 0);
}

TEST(tiny_results_follow_flush_to_zero) {
  const f32 smallest_normal = 0x00800000, half = 0x3f000000;
  FloatStatus status;
  EXPECT_EQ(f32_mul(smallest_normal, half, status), 0x00400000u);
  EXPECT_EQ(status.flags, 0);  // exact
  status.flush_to_zero = true;
  EXPECT_EQ(f32_mul(smallest_normal | 0x80000000, half, status), 0x80000000u);
  EXPECT_EQ(status.flags, kUnderflow | kInexact);
}

TEST(denormal_operands_are_told_or_read_as_zero) {
  FloatStatus status;
  EXPECT_EQ(f64_add(1, 0, status), 1u);
  EXPECT_EQ(status.flags, kDenormal);
  status = {};
  status.denormals_are_zero = true;
  EXPECT_EQ(f64_add(1, 0, status), 0u);
  EXPECT_EQ(status.flags, 0);
}

TEST(zero_divide) {
  FloatStatus status;
  EXPECT_EQ(f32_div(kOne32 | 0x80000000, 0, status), kInf32 | 0x80000000);
  EXPECT_EQ(status.flags, kZeroDivide);
}

TEST(integers_out_of_range_are_the_lowest) {
  FloatStatus status;
  EXPECT_EQ(f32_to_i32(0x4f000000, Rounding::kTowardZero, status), INT32_MIN);
  EXPECT_EQ(status.flags, kInvalid);
  status.flags = 0;
  EXPECT_EQ(f32_to_i32(0xcf000000, Rounding::kTowardZero, status), INT32_MIN);
  EXPECT_EQ(status.flags, 0);
  EXPECT_EQ(f64_to_i64(0x4004000000000000, Rounding::kNearestEven, status), 2);  // 2.5
  EXPECT_EQ(status.flags, kInexact);
}

TEST(comparisons_tell_unordered) {
  FloatStatus status;
  EXPECT(f32_compare(kOne32, 0x7fc00000, Nans::kQuiet, status) == Relation::kUnordered);
  EXPECT_EQ(status.flags, 0);
  EXPECT(f32_compare(kOne32, 0x7fc00000, Nans::kSignal, status) == Relation::kUnordered);
  EXPECT_EQ(status.flags, kInvalid);
  EXPECT(f32_compare(0x80000000, 0, Nans::kSignal, status) == Relation::kEqual);
}

TEST(an_unmasked_invalid_hides_what_follows) {
  FloatStatus status;
  status.masks = kAllFlags & ~kDenormal;
  f64_mul(1, 1, status);
  EXPECT_EQ(status.flags, kDenormal);  // no underflow: nothing was computed
}

#if defined(__x86_64__)
// ---- the host's SSE -----------------------------------------------------------------------------
namespace {

struct Outcome {
  std::uint64_t value = 0;
  unsigned flags = 0;
};

constexpr std::uint32_t kHostDefault = 0x1f80;

// Runs one instruction under `mxcsr` with %0 as first (and result) and %3 as second operand.
#define SSE_BINARY(name, T, instruction)                                                       \
  Outcome name(std::uint64_t x, std::uint64_t y, std::uint32_t mxcsr) {                        \
    T a = std::bit_cast<T>(static_cast<decltype(bits_of(T{}))>(x));                            \
    const T b = std::bit_cast<T>(static_cast<decltype(bits_of(T{}))>(y));                      \
    std::uint32_t after = 0;                                                                   \
    asm volatile("ldmxcsr %2\n\t" instruction " %3, %0\n\tstmxcsr %1\n\tldmxcsr %4"            \
                 : "+x"(a), "=m"(after)                                                        \
                 : "m"(mxcsr), "x"(b), "m"(kHostDefault));                                     \
    return {bits_of(a), after & 63};                                                           \
  }
#define SSE_CONVERT(name, To, ToBits, From, FromBits, constraint_to, constraint_from, text)    \
  Outcome name(std::uint64_t x, std::uint64_t, std::uint32_t mxcsr) {                          \
    const From a = std::bit_cast<From>(static_cast<FromBits>(x));                              \
    To to{};                                                                                   \
    std::uint32_t after = 0;                                                                   \
    asm volatile("ldmxcsr %2\n\t" text " %3, %0\n\tstmxcsr %1\n\tldmxcsr %4"                   \
                 : constraint_to(to), "=m"(after)                                              \
                 : "m"(mxcsr), constraint_from(a), "m"(kHostDefault));                         \
    return {std::bit_cast<ToBits>(to), after & 63};                                            \
  }

std::uint32_t bits_of(float value) { return std::bit_cast<std::uint32_t>(value); }
std::uint64_t bits_of(double value) { return std::bit_cast<std::uint64_t>(value); }

SSE_BINARY(addss, float, "addss") SSE_BINARY(subss, float, "subss")
SSE_BINARY(mulss, float, "mulss") SSE_BINARY(divss, float, "divss")
SSE_BINARY(minss, float, "minss") SSE_BINARY(maxss, float, "maxss")
SSE_BINARY(sqrtss, float, "sqrtss")
SSE_BINARY(addsd, double, "addsd") SSE_BINARY(subsd, double, "subsd")
SSE_BINARY(mulsd, double, "mulsd") SSE_BINARY(divsd, double, "divsd")
SSE_BINARY(minsd, double, "minsd") SSE_BINARY(maxsd, double, "maxsd")
SSE_BINARY(sqrtsd, double, "sqrtsd")
SSE_BINARY(roundss, float, "roundss $4,") SSE_BINARY(roundsd, double, "roundsd $4,")
SSE_BINARY(roundss_quiet, float, "roundss $9,") SSE_BINARY(roundsd_quiet, double, "roundsd $9,")
SSE_CONVERT(cvtss2sd, double, std::uint64_t, float, std::uint32_t, "=x", "x", "cvtss2sd")
SSE_CONVERT(cvtsd2ss, float, std::uint32_t, double, std::uint64_t, "=x", "x", "cvtsd2ss")
SSE_CONVERT(cvtss2si, std::int32_t, std::uint32_t, float, std::uint32_t, "=r", "x", "cvtss2si")
SSE_CONVERT(cvtsd2si, std::int32_t, std::uint32_t, double, std::uint64_t, "=r", "x", "cvtsd2si")
SSE_CONVERT(cvtss2siq, std::int64_t, std::uint64_t, float, std::uint32_t, "=r", "x", "cvtss2si")
SSE_CONVERT(cvtsd2siq, std::int64_t, std::uint64_t, double, std::uint64_t, "=r", "x", "cvtsd2si")
SSE_CONVERT(cvttsd2si, std::int32_t, std::uint32_t, double, std::uint64_t, "=r", "x", "cvttsd2si")
SSE_CONVERT(cvtsi2ss, float, std::uint32_t, std::int32_t, std::uint32_t, "=x", "r", "cvtsi2ssl")
SSE_CONVERT(cvtsi2ssq, float, std::uint32_t, std::int64_t, std::uint64_t, "=x", "r", "cvtsi2ssq")
SSE_CONVERT(cvtsi2sdq, double, std::uint64_t, std::int64_t, std::uint64_t, "=x", "r", "cvtsi2sdq")

// The result of COMISS and kin: CF, ZF, PF as SETcc sees them.
#define SSE_COMPARE(name, T, instruction)                                                      \
  Outcome name(std::uint64_t x, std::uint64_t y, std::uint32_t mxcsr) {                        \
    const T a = std::bit_cast<T>(static_cast<decltype(bits_of(T{}))>(x));                      \
    const T b = std::bit_cast<T>(static_cast<decltype(bits_of(T{}))>(y));                      \
    std::uint32_t after = 0;                                                                   \
    bool carry = false, zero = false, parity = false;                                          \
    asm volatile("ldmxcsr %4\n\t" instruction " %6, %5\n\tstmxcsr %0\n\tldmxcsr %7"            \
                 : "=m"(after), "=@ccc"(carry), "=@ccz"(zero), "=@ccp"(parity)                 \
                 : "m"(mxcsr), "x"(a), "x"(b), "m"(kHostDefault));                             \
    const Relation relation = parity  ? Relation::kUnordered                                   \
                              : zero  ? Relation::kEqual                                       \
                              : carry ? Relation::kLess                                        \
                                      : Relation::kGreater;                                    \
    return {static_cast<std::uint64_t>(relation), after & 63};                                 \
  }
SSE_COMPARE(comiss, float, "comiss") SSE_COMPARE(ucomiss, float, "ucomiss")
SSE_COMPARE(comisd, double, "comisd") SSE_COMPARE(ucomisd, double, "ucomisd")

using Native = Outcome (*)(std::uint64_t, std::uint64_t, std::uint32_t);
using Ours = std::uint64_t (*)(std::uint64_t, std::uint64_t, FloatStatus&);
enum class Operands { kFloat32, kFloat64, kInteger };

struct Operation {
  const char* name;
  Operands operands;
  Native native;
  Ours ours;
};

#define OURS(expression)                                                                 \
  []([[maybe_unused]] std::uint64_t x, [[maybe_unused]] std::uint64_t y, FloatStatus& s)   \
      -> std::uint64_t { return static_cast<std::uint64_t>(expression); }
#define X static_cast<f32>(x)
#define Y static_cast<f32>(y)
constexpr Operation kOperations[] = {
    {"addss", Operands::kFloat32, addss, OURS(f32_add(X, Y, s))},
    {"subss", Operands::kFloat32, subss, OURS(f32_sub(X, Y, s))},
    {"mulss", Operands::kFloat32, mulss, OURS(f32_mul(X, Y, s))},
    {"divss", Operands::kFloat32, divss, OURS(f32_div(X, Y, s))},
    {"minss", Operands::kFloat32, minss, OURS(f32_min(X, Y, s))},
    {"maxss", Operands::kFloat32, maxss, OURS(f32_max(X, Y, s))},
    {"sqrtss", Operands::kFloat32, sqrtss, OURS(f32_sqrt(Y, s))},
    {"addsd", Operands::kFloat64, addsd, OURS(f64_add(x, y, s))},
    {"subsd", Operands::kFloat64, subsd, OURS(f64_sub(x, y, s))},
    {"mulsd", Operands::kFloat64, mulsd, OURS(f64_mul(x, y, s))},
    {"divsd", Operands::kFloat64, divsd, OURS(f64_div(x, y, s))},
    {"minsd", Operands::kFloat64, minsd, OURS(f64_min(x, y, s))},
    {"maxsd", Operands::kFloat64, maxsd, OURS(f64_max(x, y, s))},
    {"sqrtsd", Operands::kFloat64, sqrtsd, OURS(f64_sqrt(y, s))},
    {"roundss", Operands::kFloat32, roundss, OURS(f32_round(Y, s.rounding, false, s))},
    {"roundsd", Operands::kFloat64, roundsd, OURS(f64_round(y, s.rounding, false, s))},
    {"roundss down", Operands::kFloat32, roundss_quiet, OURS(f32_round(Y, Rounding::kDown, true, s))},
    {"roundsd down", Operands::kFloat64, roundsd_quiet, OURS(f64_round(y, Rounding::kDown, true, s))},
    {"cvtss2sd", Operands::kFloat32, cvtss2sd, OURS(f32_to_f64(X, s))},
    {"cvtsd2ss", Operands::kFloat64, cvtsd2ss, OURS(f64_to_f32(x, s))},
    {"cvtss2si", Operands::kFloat32, cvtss2si,
     OURS(static_cast<std::uint32_t>(f32_to_i32(X, s.rounding, s)))},
    {"cvtsd2si", Operands::kFloat64, cvtsd2si,
     OURS(static_cast<std::uint32_t>(f64_to_i32(x, s.rounding, s)))},
    {"cvtss2siq", Operands::kFloat32, cvtss2siq, OURS(f32_to_i64(X, s.rounding, s))},
    {"cvtsd2siq", Operands::kFloat64, cvtsd2siq, OURS(f64_to_i64(x, s.rounding, s))},
    {"cvttsd2si", Operands::kFloat64, cvttsd2si,
     OURS(static_cast<std::uint32_t>(f64_to_i32(x, Rounding::kTowardZero, s)))},
    {"cvtsi2ss", Operands::kInteger, cvtsi2ss, OURS(i32_to_f32(static_cast<std::int32_t>(x), s))},
    {"cvtsi2ssq", Operands::kInteger, cvtsi2ssq, OURS(i64_to_f32(static_cast<std::int64_t>(x), s))},
    {"cvtsi2sdq", Operands::kInteger, cvtsi2sdq, OURS(i64_to_f64(static_cast<std::int64_t>(x), s))},
    {"comiss", Operands::kFloat32, comiss, OURS(f32_compare(X, Y, Nans::kSignal, s))},
    {"ucomiss", Operands::kFloat32, ucomiss, OURS(f32_compare(X, Y, Nans::kQuiet, s))},
    {"comisd", Operands::kFloat64, comisd, OURS(f64_compare(x, y, Nans::kSignal, s))},
    {"ucomisd", Operands::kFloat64, ucomisd, OURS(f64_compare(x, y, Nans::kQuiet, s))},
};

std::uint64_t operand(Random& random, Operands kind) {
  switch (kind) {
    case Operands::kFloat32: return float32(random);
    case Operands::kFloat64: return float64(random);
    case Operands::kInteger: break;
  }
  return static_cast<std::uint64_t>(integer(random));
}

void compare_with_host(const Operation& operation) {
  Random random{0x5eed};
  const unsigned count = cases();
  int shown = 0;
  for (unsigned i = 0; i < count && shown < 10; ++i) {
    const std::uint64_t x = operand(random, operation.operands);
    const std::uint64_t y = operand(random, operation.operands);
    const std::uint32_t mxcsr = 0x1f80 | (static_cast<std::uint32_t>(random.next()) & 0xe040);
    const Outcome host = operation.native(x, y, mxcsr);
    FloatStatus status = status_of_mxcsr(mxcsr);
    const std::uint64_t value = operation.ours(x, y, status);
    if (value == host.value && status.flags == host.flags) continue;
    ++shown;
    EXPECT(false);
    std::fprintf(stderr, "%s %llx %llx mxcsr %x: host %llx flags %x, ours %llx flags %x\n",
                 operation.name, static_cast<unsigned long long>(x),
                 static_cast<unsigned long long>(y), mxcsr,
                 static_cast<unsigned long long>(host.value), host.flags,
                 static_cast<unsigned long long>(value), unsigned{status.flags});
  }
}

}  // namespace

TEST(agrees_with_the_hosts_sse) {
  for (const Operation& operation : kOperations) compare_with_host(operation);
}
#endif

TEST_MAIN()

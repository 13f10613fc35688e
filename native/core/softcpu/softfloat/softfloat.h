// IEEE 754 arithmetic in integers, with the choices that x86 makes: what every SSE instruction
// needs of float32 and float64. float80.h has the x87's. Values are bit patterns, so that no host
// compiler ever touches a NaN.
//
// An operation ORs what it raises into status.flags and never clears. It obeys the order of SDM
// Vol. 1, "SIMD Floating-Point Exception Priority": a NaN or another invalid operand hides
// denormals, and where a raised invalid, denormal or zero-divide is unmasked, nothing is computed
// (no overflow, underflow or inexact, and the result is of no use).
#pragma once
#include <cstdint>

namespace hv::softfloat {

using f32 = std::uint32_t;
using f64 = std::uint64_t;

// The encoding of MXCSR.RC and of the x87 control word's RC.
enum class Rounding : std::uint8_t { kNearestEven, kDown, kUp, kTowardZero };

// The exception bits as MXCSR and the x87 status word hold them.
enum Flag : std::uint8_t {
  kInvalid = 1, kDenormal = 2, kZeroDivide = 4, kOverflow = 8, kUnderflow = 16, kInexact = 32,
  kAllFlags = 63
};

struct FloatStatus {
  Rounding rounding = Rounding::kNearestEven;
  std::uint8_t flags = 0;             // Flag
  std::uint8_t masks = kAllFlags;     // a set bit masks the exception, as in both control words
  bool flush_to_zero = false;         // MXCSR.FZ; works only while underflow is masked
  bool denormals_are_zero = false;    // MXCSR.DAZ
  std::uint8_t precision = 64;        // x87 only: bits of the significand, 24, 53 or 64
  bool rounded_up = false;            // x87 only: the magnitude was rounded up (C1)

  bool unmasked(unsigned which) const { return (flags & which & ~unsigned{masks}) != 0; }
};

// From MXCSR (SDM Vol. 1, "MXCSR Control and Status Register"), with no flags raised yet.
constexpr FloatStatus status_of_mxcsr(std::uint32_t mxcsr) {
  FloatStatus status;
  status.rounding = static_cast<Rounding>((mxcsr >> 13) & 3);
  status.masks = static_cast<std::uint8_t>((mxcsr >> 7) & kAllFlags);
  status.flush_to_zero = (mxcsr & 0x8000) != 0;
  status.denormals_are_zero = (mxcsr & 0x40) != 0;
  return status;
}

// Of two NaNs the first operand's is the result, made quiet; the default NaN is negative.
f32 f32_add(f32 a, f32 b, FloatStatus& status);
f32 f32_sub(f32 a, f32 b, FloatStatus& status);
f32 f32_mul(f32 a, f32 b, FloatStatus& status);
f32 f32_div(f32 a, f32 b, FloatStatus& status);
f32 f32_sqrt(f32 a, FloatStatus& status);
f64 f64_add(f64 a, f64 b, FloatStatus& status);
f64 f64_sub(f64 a, f64 b, FloatStatus& status);
f64 f64_mul(f64 a, f64 b, FloatStatus& status);
f64 f64_div(f64 a, f64 b, FloatStatus& status);
f64 f64_sqrt(f64 a, FloatStatus& status);

// MINPS and kin: not commutative. Any NaN, or two zeros: the second operand, unchanged.
f32 f32_min(f32 a, f32 b, FloatStatus& status);
f32 f32_max(f32 a, f32 b, FloatStatus& status);
f64 f64_min(f64 a, f64 b, FloatStatus& status);
f64 f64_max(f64 a, f64 b, FloatStatus& status);

enum class Relation : std::uint8_t { kLess, kEqual, kGreater, kUnordered };
// Quiet: only a signalling NaN is invalid (UCOMISS, CMPEQPS). Else any NaN is (COMISS, CMPLTPS).
enum class Nans : std::uint8_t { kSignal, kQuiet };
Relation f32_compare(f32 a, f32 b, Nans nans, FloatStatus& status);
Relation f64_compare(f64 a, f64 b, Nans nans, FloatStatus& status);

// ROUNDPS and kin; `quiet_inexact` is the immediate's bit 3.
f32 f32_round(f32 a, Rounding rounding, bool quiet_inexact, FloatStatus& status);
f64 f64_round(f64 a, Rounding rounding, bool quiet_inexact, FloatStatus& status);

// Conversions. To an integer: NaN or too big is invalid and gives the lowest integer. CVTTSS2SI
// and kin pass Rounding::kTowardZero, the others status.rounding.
std::int32_t f32_to_i32(f32 a, Rounding rounding, FloatStatus& status);
std::int64_t f32_to_i64(f32 a, Rounding rounding, FloatStatus& status);
std::int32_t f64_to_i32(f64 a, Rounding rounding, FloatStatus& status);
std::int64_t f64_to_i64(f64 a, Rounding rounding, FloatStatus& status);
f32 i32_to_f32(std::int32_t a, FloatStatus& status);
f32 i64_to_f32(std::int64_t a, FloatStatus& status);
f64 i32_to_f64(std::int32_t a);  // always exact
f64 i64_to_f64(std::int64_t a, FloatStatus& status);
f64 f32_to_f64(f32 a, FloatStatus& status);
f32 f64_to_f32(f64 a, FloatStatus& status);

}  // namespace hv::softfloat

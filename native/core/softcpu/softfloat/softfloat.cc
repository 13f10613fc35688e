// float32 and float64 as SSE computes them. One body for both formats; the public names are at the
// end.
#include "softcpu/softfloat/softfloat.h"

#include "softcpu/softfloat/parts.h"

namespace hv::softfloat {

namespace {

Parts operand(std::uint64_t bits, const Format& format, const FloatStatus& status) {
  const Parts parts = unpack(bits, format);
  if (parts.denormal && status.denormals_are_zero) return {.sign = parts.sign};
  return parts;
}

// True when one of `raised` is unmasked: the instruction will not write its result.
bool stops(unsigned raised, FloatStatus& status) {
  status.flags = static_cast<std::uint8_t>(status.flags | raised);
  return (raised & ~unsigned{status.masks}) != 0;
}

std::uint64_t invalid(const Format& format, FloatStatus& status) {
  stops(kInvalid, status);
  return format.default_nan();
}

unsigned denormal_flag(const Parts& a) { return flag_if(a.denormal, kDenormal); }

// Rounds and packs what was computed. What an unmasked overflow or underflow returns is of no use
// to SSE, which stores nothing then.
std::uint64_t finish(const Wide& value, const Format& format, FloatStatus& status) {
  const Rounded result = round_to_range(value, format.range(), status.rounding);
  const std::uint64_t sign = value.sign ? format.sign_bit() : 0;
  if (result.overflow) {
    const bool masked = (status.masks & kOverflow) != 0;
    stops(kOverflow | flag_if(masked || result.inexact, kInexact), status);
    const std::uint64_t infinity = format.infinity();
    return sign | (overflows_to_infinity(value.sign, status.rounding) ? infinity : infinity - 1);
  }
  const bool masked = (status.masks & kUnderflow) != 0;
  if (result.tiny && masked && status.flush_to_zero) {
    stops(kUnderflow | kInexact, status);
    return sign;
  }
  if (result.tiny && !masked) {
    // The handler is promised the result as if the exponent had no bound.
    const Rounded unbounded = round_unbounded(value, format.range().precision, status.rounding);
    stops(kUnderflow | flag_if(unbounded.inexact, kInexact), status);
    return 0;
  }
  const bool underflow = result.tiny && result.inexact;
  stops(flag_if(underflow, kUnderflow) | flag_if(result.inexact, kInexact), status);
  return pack(value.sign, result, format);
}

// SDM Vol. 1, "Rules for handling NaNs", the SSE column.
std::uint64_t choose_nan(const Parts& a, const Parts& b, const Format& format,
                         FloatStatus& status) {
  if (a.kind == Kind::kSignallingNan || b.kind == Kind::kSignallingNan) stops(kInvalid, status);
  return pack_nan(a.is_nan() ? a : b, format);
}

std::uint64_t infinity_of(bool sign, const Format& format) {
  return (sign ? format.sign_bit() : 0) | format.infinity();
}

std::uint64_t add(std::uint64_t x, std::uint64_t y, bool negate, const Format& format,
                  FloatStatus& status) {
  const Parts a = operand(x, format, status);
  Parts b = operand(y, format, status);
  if (a.is_nan() || b.is_nan()) return choose_nan(a, b, format, status);
  b.sign = b.sign != negate;
  const bool a_infinite = a.kind == Kind::kInfinity, b_infinite = b.kind == Kind::kInfinity;
  if (a_infinite && b_infinite && a.sign != b.sign) return invalid(format, status);
  if (stops(denormal_flag(a) | denormal_flag(b), status)) return 0;
  if (a_infinite || b_infinite) return infinity_of(a_infinite ? a.sign : b.sign, format);
  return finish(exact_add(a, b, status.rounding), format, status);
}

std::uint64_t multiply(std::uint64_t x, std::uint64_t y, const Format& format,
                       FloatStatus& status) {
  const Parts a = operand(x, format, status), b = operand(y, format, status);
  if (a.is_nan() || b.is_nan()) return choose_nan(a, b, format, status);
  const bool infinite = a.kind == Kind::kInfinity || b.kind == Kind::kInfinity;
  const bool zero = a.kind == Kind::kZero || b.kind == Kind::kZero;
  if (infinite && zero) return invalid(format, status);
  if (stops(denormal_flag(a) | denormal_flag(b), status)) return 0;
  if (infinite) return infinity_of(a.sign != b.sign, format);
  return finish(exact_mul(a, b), format, status);
}

std::uint64_t divide(std::uint64_t x, std::uint64_t y, const Format& format, FloatStatus& status) {
  const Parts a = operand(x, format, status), b = operand(y, format, status);
  if (a.is_nan() || b.is_nan()) return choose_nan(a, b, format, status);
  const bool sign = a.sign != b.sign;
  const bool a_infinite = a.kind == Kind::kInfinity, b_infinite = b.kind == Kind::kInfinity;
  if (a.kind == b.kind && a.kind != Kind::kFinite) return invalid(format, status);
  if (b.kind == Kind::kZero && a.kind == Kind::kFinite) {
    stops(kZeroDivide, status);
    return infinity_of(sign, format);
  }
  if (stops(denormal_flag(a) | denormal_flag(b), status)) return 0;
  if (a_infinite) return infinity_of(sign, format);
  if (b_infinite) return sign ? format.sign_bit() : 0;
  return finish(exact_div(a, b), format, status);
}

std::uint64_t square_root(std::uint64_t x, const Format& format, FloatStatus& status) {
  const Parts a = operand(x, format, status);
  if (a.is_nan()) return choose_nan(a, a, format, status);
  if (a.sign && a.kind != Kind::kZero) return invalid(format, status);
  if (stops(denormal_flag(a), status)) return 0;
  if (a.kind == Kind::kInfinity) return format.infinity();
  return finish(exact_sqrt(a), format, status);
}

std::uint64_t extreme(std::uint64_t x, std::uint64_t y, Relation wanted, const Format& format,
                      FloatStatus& status) {
  const Parts a = operand(x, format, status), b = operand(y, format, status);
  // A denormal that counts as zero is also returned as one.
  const auto bits = [&](const Parts& of, std::uint64_t from) {
    return of.kind == Kind::kZero ? (of.sign ? format.sign_bit() : 0) : from;
  };
  if (a.is_nan() || b.is_nan()) {
    stops(kInvalid, status);
    return bits(b, y);
  }
  stops(denormal_flag(a) | denormal_flag(b), status);
  return compare_parts(a, b) == wanted ? bits(a, x) : bits(b, y);
}

Relation compare(std::uint64_t x, std::uint64_t y, Nans nans, const Format& format,
                 FloatStatus& status) {
  const Parts a = operand(x, format, status), b = operand(y, format, status);
  if (a.is_nan() || b.is_nan()) {
    const bool signalling = a.kind == Kind::kSignallingNan || b.kind == Kind::kSignallingNan;
    if (signalling || nans == Nans::kSignal) stops(kInvalid, status);
    return Relation::kUnordered;
  }
  stops(denormal_flag(a) | denormal_flag(b), status);
  return compare_parts(a, b);
}

std::uint64_t round_integral(std::uint64_t x, Rounding rounding, bool quiet_inexact,
                             const Format& format, FloatStatus& status) {
  const Parts a = operand(x, format, status);
  if (a.is_nan()) return choose_nan(a, a, format, status);
  if (a.kind == Kind::kInfinity) return x;
  const Integral result = to_integral(a, rounding);
  if (result.inexact && !quiet_inexact) stops(kInexact, status);
  const Rounded rounded{.significand = result.value.significand,
                        .exponent = result.value.exponent};
  return pack(a.sign, rounded, format);
}

template <class Int>
Int to_int(std::uint64_t x, Rounding rounding, const Format& format, FloatStatus& status) {
  constexpr unsigned kBits = sizeof(Int) * 8;
  const Parts a = operand(x, format, status);
  const Integer result = a.is_finite() ? to_integer(a, kBits, rounding) : Integer{.fits = false};
  if (!result.fits) {
    stops(kInvalid, status);
    return static_cast<Int>(Int{1} << (kBits - 1));
  }
  if (result.inexact) stops(kInexact, status);
  return static_cast<Int>(result.value);
}

std::uint64_t from_int(std::int64_t value, const Format& format, FloatStatus& status) {
  return finish(widen(parts_of_integer(value)), format, status);
}

std::uint64_t convert(std::uint64_t x, const Format& from, const Format& to, FloatStatus& status) {
  const Parts a = operand(x, from, status);
  if (a.is_nan()) return choose_nan(a, a, to, status);
  if (stops(denormal_flag(a), status)) return 0;
  if (a.kind == Kind::kInfinity) return infinity_of(a.sign, to);
  return finish(widen(a), to, status);
}

constexpr f32 low(std::uint64_t bits) { return static_cast<f32>(bits); }

}  // namespace

f32 f32_add(f32 a, f32 b, FloatStatus& s) { return low(add(a, b, false, kFloat32, s)); }
f32 f32_sub(f32 a, f32 b, FloatStatus& s) { return low(add(a, b, true, kFloat32, s)); }
f32 f32_mul(f32 a, f32 b, FloatStatus& s) { return low(multiply(a, b, kFloat32, s)); }
f32 f32_div(f32 a, f32 b, FloatStatus& s) { return low(divide(a, b, kFloat32, s)); }
f32 f32_sqrt(f32 a, FloatStatus& s) { return low(square_root(a, kFloat32, s)); }
f64 f64_add(f64 a, f64 b, FloatStatus& s) { return add(a, b, false, kFloat64, s); }
f64 f64_sub(f64 a, f64 b, FloatStatus& s) { return add(a, b, true, kFloat64, s); }
f64 f64_mul(f64 a, f64 b, FloatStatus& s) { return multiply(a, b, kFloat64, s); }
f64 f64_div(f64 a, f64 b, FloatStatus& s) { return divide(a, b, kFloat64, s); }
f64 f64_sqrt(f64 a, FloatStatus& s) { return square_root(a, kFloat64, s); }

f32 f32_min(f32 a, f32 b, FloatStatus& s) {
  return low(extreme(a, b, Relation::kLess, kFloat32, s));
}
f32 f32_max(f32 a, f32 b, FloatStatus& s) {
  return low(extreme(a, b, Relation::kGreater, kFloat32, s));
}
f64 f64_min(f64 a, f64 b, FloatStatus& s) { return extreme(a, b, Relation::kLess, kFloat64, s); }
f64 f64_max(f64 a, f64 b, FloatStatus& s) {
  return extreme(a, b, Relation::kGreater, kFloat64, s);
}

Relation f32_compare(f32 a, f32 b, Nans nans, FloatStatus& s) {
  return compare(a, b, nans, kFloat32, s);
}
Relation f64_compare(f64 a, f64 b, Nans nans, FloatStatus& s) {
  return compare(a, b, nans, kFloat64, s);
}

f32 f32_round(f32 a, Rounding rounding, bool quiet_inexact, FloatStatus& s) {
  return low(round_integral(a, rounding, quiet_inexact, kFloat32, s));
}
f64 f64_round(f64 a, Rounding rounding, bool quiet_inexact, FloatStatus& s) {
  return round_integral(a, rounding, quiet_inexact, kFloat64, s);
}

std::int32_t f32_to_i32(f32 a, Rounding rounding, FloatStatus& s) {
  return to_int<std::int32_t>(a, rounding, kFloat32, s);
}
std::int64_t f32_to_i64(f32 a, Rounding rounding, FloatStatus& s) {
  return to_int<std::int64_t>(a, rounding, kFloat32, s);
}
std::int32_t f64_to_i32(f64 a, Rounding rounding, FloatStatus& s) {
  return to_int<std::int32_t>(a, rounding, kFloat64, s);
}
std::int64_t f64_to_i64(f64 a, Rounding rounding, FloatStatus& s) {
  return to_int<std::int64_t>(a, rounding, kFloat64, s);
}

f32 i32_to_f32(std::int32_t a, FloatStatus& s) { return low(from_int(a, kFloat32, s)); }
f32 i64_to_f32(std::int64_t a, FloatStatus& s) { return low(from_int(a, kFloat32, s)); }
f64 i32_to_f64(std::int32_t a) {
  FloatStatus exact;
  return from_int(a, kFloat64, exact);
}
f64 i64_to_f64(std::int64_t a, FloatStatus& s) { return from_int(a, kFloat64, s); }
f64 f32_to_f64(f32 a, FloatStatus& s) { return convert(a, kFloat32, kFloat64, s); }
f32 f64_to_f32(f64 a, FloatStatus& s) { return low(convert(a, kFloat64, kFloat32, s)); }

}  // namespace hv::softfloat

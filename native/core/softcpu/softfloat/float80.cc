#include "softcpu/softfloat/float80.h"

namespace hv::softfloat {

namespace {

constexpr std::int32_t kBias = 16383, kMinExponent = -16382, kMaxExponent = 16383;
constexpr std::int32_t kExponentAdjust = 24576;
constexpr std::uint16_t kInfinityExponent = 0x7fff;

// True when one of `raised` is unmasked.
bool stops(unsigned raised, FloatStatus& status) {
  status.flags = static_cast<std::uint8_t>(status.flags | raised);
  return (raised & ~unsigned{status.masks}) != 0;
}

unsigned denormals(const Parts& a, const Parts& b) {
  return flag_if(a.denormal || b.denormal, kDenormal);
}

F80 make(bool sign, unsigned biased, std::uint64_t significand) {
  return {significand, static_cast<std::uint16_t>(biased | (sign ? 0x8000u : 0u))};
}
F80 zero(bool sign) { return make(sign, 0, 0); }
F80 infinity(bool sign) { return make(sign, kInfinityExponent, kTop); }
F80 nan_of(const Parts& a) {
  return make(a.sign, kInfinityExponent, a.significand | (kTop >> 1));
}

// A number that fits, denormals included.
F80 pack80(bool sign, const Rounded& rounded) {
  if ((rounded.significand & kTop) == 0) return make(sign, 0, rounded.significand);
  return make(sign, static_cast<unsigned>(rounded.exponent + kBias), rounded.significand);
}

F80 deliver(bool sign, const Rounded& rounded, FloatStatus& status) {
  status.rounded_up = rounded.up;
  if (rounded.inexact) stops(kInexact, status);
  return pack80(sign, rounded);
}

F80 overflow(bool sign, Rounded unbounded, FloatStatus& status) {
  if (stops(kOverflow, status)) {
    unbounded.exponent -= kExponentAdjust;
    if (unbounded.exponent <= kMaxExponent) return deliver(sign, unbounded, status);
    // Only FSCALE's results can be so far out that moving the exponent does not help.
    stops(kInexact, status);
    status.rounded_up = true;
    return infinity(sign);
  }
  stops(kInexact, status);
  status.rounded_up = overflows_to_infinity(sign, status.rounding);
  if (status.rounded_up) return infinity(sign);
  return make(sign, kInfinityExponent - 1, ~0ull << (64 - status.precision));
}

F80 unmasked_underflow(bool sign, Rounded unbounded, FloatStatus& status) {
  stops(kUnderflow, status);
  unbounded.exponent += kExponentAdjust;
  if (unbounded.exponent >= kMinExponent) return deliver(sign, unbounded, status);
  stops(kInexact, status);
  return zero(sign);
}

// The special cases that all operations of two operands share: unsupported encodings and NaNs.
bool special(const Parts& a, const Parts& b, F80& result, FloatStatus& status) {
  if (a.kind == Kind::kUnsupported || b.kind == Kind::kUnsupported) {
    result = invalid80(status);
    return true;
  }
  if (!a.is_nan() && !b.is_nan()) return false;
  result = choose_nan80(a, b, status);
  return true;
}

F80 add(const Parts& a, Parts b, bool negate, FloatStatus& status) {
  F80 result;
  if (special(a, b, result, status)) return result;
  b.sign = b.sign != negate;
  const bool a_infinite = a.kind == Kind::kInfinity, b_infinite = b.kind == Kind::kInfinity;
  if (a_infinite && b_infinite && a.sign != b.sign) return invalid80(status);
  if (stops(denormals(a, b), status)) return {};
  if (a_infinite || b_infinite) return infinity(a_infinite ? a.sign : b.sign);
  return finish80(exact_add(a, b, status.rounding), status);
}

FloatStatus at_full_precision(const FloatStatus& status) {
  FloatStatus full = status;
  full.precision = 64;
  return full;
}

F80 finish_full(const Wide& value, FloatStatus& status) {
  FloatStatus full = at_full_precision(status);
  const F80 result = finish80(value, full);
  status.flags = full.flags;
  status.rounded_up = full.rounded_up;
  return result;
}

}  // namespace

Parts unpack(const F80& value) {
  const int biased = value.sign_exponent & 0x7fff;
  Parts parts{.significand = value.significand, .sign = (value.sign_exponent & 0x8000) != 0};
  const bool integer_bit = (value.significand & kTop) != 0;
  if (biased == 0) {
    if (value.significand == 0) return parts;
    const int shift = std::countl_zero(value.significand);
    parts.kind = Kind::kFinite;
    parts.denormal = true;  // a pseudo-denormal too
    parts.significand <<= shift;
    parts.exponent = kMinExponent - shift;
    return parts;
  }
  if (!integer_bit) {
    parts.kind = Kind::kUnsupported;
    return parts;
  }
  parts.exponent = biased - kBias;
  parts.kind = Kind::kFinite;
  if (biased != kInfinityExponent) return parts;
  const std::uint64_t fraction = value.significand << 1;
  parts.kind = fraction == 0             ? Kind::kInfinity
               : (fraction & kTop) != 0 ? Kind::kQuietNan
                                         : Kind::kSignallingNan;
  return parts;
}

F80 invalid80(FloatStatus& status) {
  stops(kInvalid, status);
  return kIndefinite80;
}

// SDM Vol. 1, "Rules for Handling NaNs", the x87 column.
F80 choose_nan80(const Parts& a, const Parts& b, FloatStatus& status) {
  const bool a_signals = a.kind == Kind::kSignallingNan, b_signals = b.kind == Kind::kSignallingNan;
  if (a_signals || b_signals) stops(kInvalid, status);
  if (!b.is_nan()) return nan_of(a);
  if (!a.is_nan()) return nan_of(b);
  if (a_signals != b_signals) return nan_of(a_signals ? b : a);
  if (a.significand != b.significand) return nan_of(a.significand > b.significand ? a : b);
  return nan_of(a.sign ? b : a);
}

F80 finish80(const Wide& value, FloatStatus& status) {
  if (value.significand == 0) return zero(value.sign);
  const Range range{status.precision, kMinExponent, kMaxExponent};
  const Rounded result = round_to_range(value, range, status.rounding);
  if (!result.overflow && !result.tiny) return deliver(value.sign, result, status);
  const Rounded unbounded = round_unbounded(value, status.precision, status.rounding);
  if (result.overflow) return overflow(value.sign, unbounded, status);
  if ((status.masks & kUnderflow) == 0) return unmasked_underflow(value.sign, unbounded, status);
  if (result.inexact) stops(kUnderflow, status);
  return deliver(value.sign, result, status);
}

F80 f80_add(const Parts& a, const Parts& b, FloatStatus& s) { return add(a, b, false, s); }
F80 f80_sub(const Parts& a, const Parts& b, FloatStatus& s) { return add(a, b, true, s); }

F80 f80_mul(const Parts& a, const Parts& b, FloatStatus& status) {
  F80 result;
  if (special(a, b, result, status)) return result;
  const bool infinite = a.kind == Kind::kInfinity || b.kind == Kind::kInfinity;
  if (infinite && (a.kind == Kind::kZero || b.kind == Kind::kZero)) return invalid80(status);
  if (stops(denormals(a, b), status)) return {};
  if (infinite) return infinity(a.sign != b.sign);
  return finish80(exact_mul(a, b), status);
}

F80 f80_div(const Parts& a, const Parts& b, FloatStatus& status) {
  F80 result;
  if (special(a, b, result, status)) return result;
  const bool sign = a.sign != b.sign;
  if (a.kind == b.kind && a.kind != Kind::kFinite) return invalid80(status);
  if (b.kind == Kind::kZero && a.kind == Kind::kFinite) {
    stops(kZeroDivide, status);
    return infinity(sign);
  }
  if (stops(denormals(a, b), status)) return {};
  if (a.kind == Kind::kInfinity) return infinity(sign);
  if (b.kind == Kind::kInfinity) return zero(sign);
  return finish80(exact_div(a, b), status);
}

F80 f80_sqrt(const Parts& a, FloatStatus& status) {
  F80 result;
  if (special(a, a, result, status)) return result;
  if (a.sign && a.kind != Kind::kZero) return invalid80(status);
  if (stops(denormals(a, a), status)) return {};
  if (a.kind == Kind::kInfinity) return infinity(false);
  return finish80(exact_sqrt(a), status);
}

F80 f80_round(const Parts& a, FloatStatus& status) {
  F80 result;
  if (special(a, a, result, status)) return result;
  if (a.kind == Kind::kInfinity) return infinity(a.sign);
  if (stops(denormals(a, a), status)) return {};
  const Integral integral = to_integral(a, status.rounding);
  if (integral.inexact) stops(kInexact, status);
  result = finish_full(widen(integral.value), status);
  status.rounded_up = integral.up;
  return result;
}

F80 f80_scale(const Parts& a, const Parts& b, FloatStatus& status) {
  F80 result;
  if (special(a, b, result, status)) return result;
  const bool b_infinite = b.kind == Kind::kInfinity;
  if (b_infinite && a.kind == (b.sign ? Kind::kInfinity : Kind::kZero)) return invalid80(status);
  if (stops(denormals(a, b), status)) return {};
  if (a.kind == Kind::kInfinity) return infinity(a.sign);
  if (b_infinite) return b.sign ? zero(a.sign) : infinity(a.sign);
  // Far more than any exponent can bear.
  constexpr std::int64_t kMost = 0x10000;
  const Integer by = to_integer(b, 32, Rounding::kTowardZero);
  const std::int64_t clamped = !by.fits || by.value > kMost || by.value < -kMost
                                   ? (b.sign ? -kMost : kMost)
                                   : by.value;
  Wide scaled = widen(a);
  scaled.exponent += static_cast<std::int32_t>(clamped);
  return finish_full(scaled, status);
}

Extracted f80_extract(const Parts& a, FloatStatus& status) {
  F80 result;
  if (special(a, a, result, status)) return {result, result};
  if (a.kind == Kind::kInfinity) return {infinity(false), infinity(a.sign)};
  if (a.kind == Kind::kZero) {
    stops(kZeroDivide, status);
    return {infinity(true), zero(a.sign)};
  }
  if (stops(denormals(a, a), status)) return {};
  return {f80_of_integer(a.exponent), make(a.sign, kBias, a.significand)};
}

Relation f80_compare(const Parts& a, const Parts& b, Nans nans, FloatStatus& status) {
  if (a.kind == Kind::kUnsupported || b.kind == Kind::kUnsupported) {
    stops(kInvalid, status);
    return Relation::kUnordered;
  }
  if (a.is_nan() || b.is_nan()) {
    const bool signals = a.kind == Kind::kSignallingNan || b.kind == Kind::kSignallingNan;
    if (signals || nans == Nans::kSignal) stops(kInvalid, status);
    return Relation::kUnordered;
  }
  stops(denormals(a, b), status);
  return compare_parts(a, b);
}

// ---- the remainder ----------------------------------------------------------------------------
namespace {

struct Step {
  Wide left;
  std::uint64_t quotient = 0;
};

// |a| - |b| * trunc(|a| / |b| / 2^skip) * 2^skip, where the quotient has `bits` + 1 bits at most.
Step reduce(const Parts& a, const Parts& b, unsigned bits, std::int32_t skip) {
  const Uint128 dividend = Uint128{a.significand} << bits;
  const Uint128 quotient = dividend / b.significand;
  const Uint128 left = dividend - quotient * b.significand;
  return {normalized(a.sign, b.exponent + skip + 64, left), low_half(quotient)};
}

// FPREM1's last step: where what is left is above half the divisor, one divisor more.
void to_nearest(const Parts& b, Step& step) {
  Parts left{.significand = step.left.significand, .exponent = step.left.exponent};
  if (left.significand == 0) return;
  left.kind = Kind::kFinite;
  Parts divisor = b;
  divisor.sign = false;
  Parts twice = left;
  ++twice.exponent;
  const Relation half = compare_parts(twice, divisor);
  const bool odd = (step.quotient & 1) != 0;
  if (half == Relation::kLess || (half == Relation::kEqual && !odd)) return;
  divisor.sign = true;
  const bool sign = step.left.sign;
  step.left = exact_add(left, divisor, Rounding::kNearestEven);
  step.left.sign = step.left.sign != sign;
  ++step.quotient;
}

Remainder divide_finite(const Parts& a, const Parts& b, Quotient kind, FloatStatus& status) {
  const std::int32_t difference = a.exponent - b.exponent;
  Remainder result;
  if (difference >= 64) {
    // Between 32 and 63 bits of the quotient at once, so that what is left lines up with 32.
    const std::int32_t bits = (difference & 31) | 32;
    result.computed = true;
    result.complete = false;
    result.value = finish_full(
        reduce(a, b, static_cast<unsigned>(bits), difference - bits).left, status);
    return result;
  }
  Step step{.left = widen(a)};
  if (difference >= 0) step = reduce(a, b, static_cast<unsigned>(difference), 0);
  if (kind == Quotient::kNearest) to_nearest(b, step);
  if (step.left.significand == 0) step.left.sign = a.sign;
  result.computed = true;
  result.quotient = step.quotient & 7;
  result.value = finish_full(step.left, status);
  return result;
}

}  // namespace

Remainder f80_remainder(const Parts& a, const Parts& b, Quotient kind, FloatStatus& status) {
  Remainder result;
  if (special(a, b, result.value, status)) return result;
  if (a.kind == Kind::kInfinity || b.kind == Kind::kZero) return {.value = invalid80(status)};
  if (stops(denormals(a, b), status)) return {};
  if (a.kind == Kind::kZero) return {.value = zero(a.sign), .computed = true};
  if (b.kind == Kind::kInfinity)
    return {.value = finish_full(widen(a), status), .computed = true};
  return divide_finite(a, b, kind, status);
}

}  // namespace hv::softfloat

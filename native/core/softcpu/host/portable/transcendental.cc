#include "softcpu/host/portable/transcendental.h"

#include "softcpu/host/portable/series.h"
#include "softcpu/x87.h"

namespace hv::softcpu::portable {

using namespace softfloat;

namespace {

F80 make(bool sign, unsigned biased, std::uint64_t significand) {
  return {significand, static_cast<std::uint16_t>(biased | (sign ? 0x8000u : 0u))};
}
F80 zero(bool sign) { return make(sign, 0, 0); }
F80 infinity(bool sign) { return make(sign, 0x7fff, kTop); }
F80 one(bool sign) { return make(sign, 0x3fff, kTop); }

void raise(unsigned flags, FloatStatus& status) {
  status.flags = static_cast<std::uint8_t>(status.flags | flags);
}

F80 round(const WideFloat& value, FloatStatus& status) {
  if (value.is_zero()) return zero(value.sign);
  return finish80(inexact(value), status);
}

// ---- what is the same for all: NaNs, unsupported encodings, denormals --------------------------
bool special(const Parts& a, const Parts& b, F80& result, FloatStatus& status) {
  if (a.kind == Kind::kUnsupported || b.kind == Kind::kUnsupported)
    return result = invalid80(status), true;
  if (a.is_nan() || b.is_nan()) return result = choose_nan80(a, b, status), true;
  return false;
}

bool infinite(const Parts& a) { return a.kind == Kind::kInfinity; }
bool is_zero(const Parts& a) { return a.kind == Kind::kZero; }
void note_denormals(const Parts& a, const Parts& b, FloatStatus& status) {
  raise(flag_if(a.denormal || b.denormal, kDenormal), status);
}

// ---- 2^x - 1: x from -1 to 1, undefined beyond (left as it is) ----------------------------------
F80 two_to_x_minus_one(const Parts& x, FloatStatus& status) {
  F80 result;
  if (special(x, x, result, status)) return result;
  if (infinite(x)) return x.sign ? one(true) : infinity(false);
  if (is_zero(x)) return zero(x.sign);
  note_denormals(x, x, status);
  if (x.exponent > 0) return finish80(widen(x), status);
  if (x.exponent == 0 && x.significand == kTop)
    return x.sign ? make(true, 0x3ffe, kTop) : one(false);
  return round(exp_minus_one(from_parts(x) * kLn2), status);
}

// ---- logarithms ---------------------------------------------------------------------------------

// log2 of a positive number: its exponent and twice atanh((m - 1) / (m + 1)) of a significand m
// between the roots of 1/2 and 2.
WideFloat log2_of(const WideFloat& x) {
  const WideFloat root2 = from_bits(0xb504f333f9de6484, 0, 0);
  WideFloat m = x;
  m.exponent = 0;
  const bool high = smaller(root2, m);
  if (high) m.exponent = -1;
  const WideFloat s = (m - kOne) / (m + kOne);
  const WideFloat fraction = s.is_zero() ? s : twice_atanh(s) / kLn2;
  return from_integer(x.exponent + (high ? 1 : 0)) + fraction;
}

bool is_one(const Parts& a) {
  return a.kind == Kind::kFinite && a.exponent == 0 && a.significand == kTop;
}

// y times a logarithm that is 0, infinite, or has `sign` and `kind`: SDM Vol. 2, FYL2X's table.
F80 scaled_special(const Parts& y, Kind kind, bool sign, FloatStatus& status) {
  const bool negative = y.sign != sign;
  const bool log_zero = kind == Kind::kZero, log_infinite = kind == Kind::kInfinity;
  if ((log_zero && infinite(y)) || (log_infinite && is_zero(y))) return invalid80(status);
  if (log_infinite || infinite(y)) return infinity(negative);
  return zero(negative);
}

// y * log, rounded; a power of two's logarithm is an integer and may be exact.
F80 scaled_log(const Parts& y, const WideFloat& log, FloatStatus& status) {
  const Wide factor = inexact(log);
  if (low_half(log.significand) == 0) {
    const Parts exact{factor.significand, factor.exponent, Kind::kFinite, factor.sign};
    return finish80(exact_mul(y, exact), status);
  }
  return round(from_parts(y) * log, status);
}

F80 y_log2_x(const Parts& x, const Parts& y, FloatStatus& status) {
  F80 result;
  if (special(x, y, result, status)) return result;
  if (x.sign && !is_zero(x)) return invalid80(status);
  if (is_zero(x)) {
    if (is_zero(y)) return invalid80(status);
    if (!infinite(y)) raise(kZeroDivide, status);
    return infinity(!y.sign);
  }
  if (is_one(x)) {
    if (!infinite(y)) note_denormals(y, y, status);
    return scaled_special(y, Kind::kZero, false, status);
  }
  if (infinite(x) && is_zero(y)) return invalid80(status);
  note_denormals(x, y, status);
  if (infinite(x)) return scaled_special(y, Kind::kInfinity, false, status);
  if (infinite(y) || is_zero(y)) return scaled_special(y, Kind::kFinite, x.exponent < 0, status);
  return scaled_log(y, log2_of(from_parts(x)), status);
}

// Undefined for x at or below -1; the argument's whole range is said to be narrower still.
F80 y_log2_x_plus_one(const Parts& x, const Parts& y, FloatStatus& status) {
  F80 result;
  if (special(x, y, result, status)) return result;
  if (x.sign && (infinite(x) || (!is_zero(x) && x.exponent >= 0))) return invalid80(status);
  if ((is_zero(x) && infinite(y)) || (infinite(x) && is_zero(y))) return invalid80(status);
  note_denormals(x, y, status);
  if (!x.is_finite() || !y.is_finite() || is_zero(x) || is_zero(y))
    return scaled_special(y, x.kind, x.sign, status);
  const WideFloat value = from_parts(x);
  if (x.exponent >= -2) return scaled_log(y, log2_of(value + kOne), status);
  const WideFloat s = value / (value + from_integer(2));
  return round(from_parts(y) * (twice_atanh(s) / kLn2), status);
}

// ---- the arctangent of y / x in the right quadrant ----------------------------------------------
F80 arctangent(const Parts& x, const Parts& y, FloatStatus& status) {
  F80 result;
  if (special(x, y, result, status)) return result;
  note_denormals(x, y, status);
  const auto quarters = [&](std::int64_t count) {
    WideFloat angle = kPi.scaled(-2) * from_integer(count);
    angle.sign = y.sign;
    return round(angle, status);
  };
  if (infinite(y)) return quarters(!infinite(x) ? 2 : x.sign ? 3 : 1);
  if (infinite(x) || is_zero(y)) return x.sign ? quarters(4) : zero(y.sign);
  if (is_zero(x)) return quarters(2);
  WideFloat a = from_parts(y), b = from_parts(x);
  a.sign = b.sign = false;
  const bool steep = smaller(b, a);
  WideFloat angle = arc_tangent(steep ? b / a : a / b);
  if (steep) angle = kPi.scaled(-1) - angle;
  if (x.sign) angle = kPi - angle;
  angle.sign = y.sign;
  return round(angle, status);
}

// ---- sine, cosine, tangent ----------------------------------------------------------------------

// x less a multiple of pi/2, and which multiple, modulo 4.
struct Reduced {
  WideFloat angle;
  unsigned quadrant = 0;
};

Reduced reduce(const Parts& x) {
  if (x.exponent < -1) return {from_parts(x), 0};
  // pi/2 in units of 2^-65; x in the same units, exactly.
  constexpr Uint128 kHalfPi = join(3, 0x243f6a8885a308d3);
  const Uint128 units = Uint128{x.significand} << (x.exponent + 2);
  Uint128 quotient = units / kHalfPi, left = units % kHalfPi;
  const bool over = left > kHalfPi / 2;
  if (over) {
    left = kHalfPi - left;
    ++quotient;
  }
  const unsigned turns = static_cast<unsigned>(quotient & 3);
  return {normalize(over != x.sign, 127 - 65, left), x.sign ? (0 - turns) & 3 : turns};
}

struct Angle {
  WideFloat sine, cosine;
};

Angle sine_and_cosine(const Parts& x) {
  const Reduced reduced = reduce(x);
  const SineCosine near = sine_cosine(reduced.angle);
  switch (reduced.quadrant) {
    case 0: return {near.sine, near.cosine};
    case 1: return {near.cosine, near.sine.negated()};
    case 2: return {near.sine.negated(), near.cosine.negated()};
    default: return {near.cosine.negated(), near.sine};
  }
}

TranscendentalResult trigonometric(Transcendental which, const Parts& x, FloatStatus& status) {
  const bool pair = which == Transcendental::kSincos, tangent = which == Transcendental::kPtan;
  TranscendentalResult result;
  if (special(x, x, result.first, status)) {
    result.second = result.first;
    return result;
  }
  if (infinite(x)) {
    result.first = result.second = invalid80(status);
    return result;
  }
  if (is_zero(x)) {
    result.first = which == Transcendental::kSin ? zero(x.sign) : one(false);
    result.second = zero(x.sign);
    return result;
  }
  if (x.exponent >= 63) {
    result.status = kX87C2;
    return result;
  }
  note_denormals(x, x, status);
  const Angle angle = sine_and_cosine(x);
  if (tangent) {
    result.second = round(angle.sine / angle.cosine, status);
    result.first = one(false);
    return result;
  }
  if (pair) result.second = round(angle.sine, status);
  result.first = round(which == Transcendental::kSin ? angle.sine : angle.cosine, status);
  return result;
}

}  // namespace

TranscendentalResult transcendental(Transcendental which, const F80& st0, const F80& st1,
                                    std::uint16_t control) {
  FpuState state;
  state.control = control;
  FloatStatus status = X87{state}.begin();
  status.precision = 64;
  const Parts x = unpack(st0), y = unpack(st1);
  TranscendentalResult result;
  switch (which) {
    case Transcendental::k2xm1: result.first = two_to_x_minus_one(x, status); break;
    case Transcendental::kYl2x: result.first = y_log2_x(x, y, status); break;
    case Transcendental::kYl2xp1: result.first = y_log2_x_plus_one(x, y, status); break;
    case Transcendental::kPatan: result.first = arctangent(x, y, status); break;
    default: result = trigonometric(which, x, status); break;
  }
  result.status = static_cast<std::uint16_t>(result.status | status.flags |
                                             (status.rounded_up ? kX87C1 : 0u));
  return result;
}

}  // namespace hv::softcpu::portable

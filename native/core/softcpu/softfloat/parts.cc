#include "softcpu/softfloat/parts.h"

#include <cmath>

namespace hv::softfloat {

namespace {

unsigned leading_zeros(Uint128 value) {
  const std::uint64_t high = high_half(value);
  const int count = high != 0 ? std::countl_zero(high) : 64 + std::countl_zero(low_half(value));
  return static_cast<unsigned>(count);
}

bool rounds_up(std::uint64_t fraction, bool odd, bool sign, Rounding rounding) {
  if (fraction == 0) return false;
  switch (rounding) {
    case Rounding::kNearestEven: return fraction > kTop || (fraction == kTop && odd);
    case Rounding::kDown: return sign;
    case Rounding::kUp: return !sign;
    case Rounding::kTowardZero: break;
  }
  return false;
}

// floor(sqrt(value)) for 2^126 <= value. The estimate is right to about 50 bits, one step of
// Newton's to about 63; the loops settle the rest.
std::uint64_t floor_sqrt(Uint128 value) {
  const double estimate = std::sqrt(static_cast<double>(high_half(value))) * 4294967296.0;
  std::uint64_t root = estimate >= 18446744073709551615.0 ? ~0ull
                                                          : static_cast<std::uint64_t>(estimate);
  const Uint128 sum = value / root + root;
  root = (sum >> 1) > ~0ull ? ~0ull : low_half(sum >> 1);
  while (Uint128{root} * root > value) --root;
  while (root != ~0ull && Uint128{root + 1} * (root + 1) <= value) ++root;
  return root;
}

struct Split {
  std::uint64_t integer, fraction;
};

// A magnitude below 2^64 in 64.64 fixed point; fractions below a quarter are told only as sticky.
Split split(const Parts& a) {
  if (a.kind == Kind::kZero) return {0, 0};
  if (a.exponent < -1) return {0, 1};
  if (a.exponent == -1) return {0, a.significand};
  if (a.exponent == 63) return {a.significand, 0};
  return {a.significand >> (63 - a.exponent), a.significand << (a.exponent + 1)};
}

}  // namespace

Wide normalized(bool sign, std::int32_t exponent, Uint128 value) {
  if (value == 0) return {.sign = sign};
  const unsigned shift = leading_zeros(value);
  value <<= shift;
  return {.significand = high_half(value),
          .rest = low_half(value),
          .exponent = exponent - static_cast<std::int32_t>(shift),
          .sign = sign};
}

Wide exact_add(const Parts& a, const Parts& b, Rounding rounding) {
  const bool zero_sign = a.sign == b.sign ? a.sign : rounding == Rounding::kDown;
  if (a.kind == Kind::kZero && b.kind == Kind::kZero) return {.sign = zero_sign};
  if (a.kind == Kind::kZero) return widen(b);
  if (b.kind == Kind::kZero) return widen(a);
  const bool swap = compare_parts({a.significand, a.exponent, a.kind},
                                  {b.significand, b.exponent, b.kind}) == Relation::kLess;
  const Parts& large = swap ? b : a;
  const Parts& small = swap ? a : b;
  // One bit of headroom, 63 below: a sticky bit never reaches the result's 64 bits and guard.
  const Uint128 x = Uint128{large.significand} << 63;
  const Uint128 y = shift_right_sticky(Uint128{small.significand} << 63,
                                       static_cast<unsigned>(large.exponent - small.exponent));
  if (a.sign == b.sign) return normalized(large.sign, large.exponent + 1, x + y);
  if (x == y) return {.sign = zero_sign};
  return normalized(large.sign, large.exponent + 1, x - y);
}

Wide exact_mul(const Parts& a, const Parts& b) {
  const bool sign = a.sign != b.sign;
  if (a.kind == Kind::kZero || b.kind == Kind::kZero) return {.sign = sign};
  return normalized(sign, a.exponent + b.exponent + 1, Uint128{a.significand} * b.significand);
}

Wide exact_div(const Parts& a, const Parts& b) {
  const bool sign = a.sign != b.sign;
  if (a.kind == Kind::kZero) return {.sign = sign};
  const bool below_one = a.significand < b.significand;
  const Uint128 dividend = Uint128{a.significand} << (below_one ? 64 : 63);
  const std::uint64_t quotient = low_half(dividend / b.significand);
  const Uint128 twice = (dividend - Uint128{quotient} * b.significand) << 1;
  // The guard bit and a sticky bit of what is left after it.
  const std::uint64_t guard = twice >= b.significand ? kTop : 0;
  const bool more = twice != 0 && twice != b.significand;
  return {.significand = quotient,
          .rest = guard | (more ? 1u : 0u),
          .exponent = a.exponent - b.exponent - (below_one ? 1 : 0),
          .sign = sign};
}

Wide exact_sqrt(const Parts& a) {
  if (a.kind == Kind::kZero) return {.sign = a.sign};
  const bool odd = (a.exponent & 1) != 0;
  const Uint128 square = Uint128{a.significand} << (odd ? 64 : 63);
  const std::uint64_t root = floor_sqrt(square);
  const Uint128 left = square - Uint128{root} * root;
  // (root + 1/2)^2 is root^2 + root + 1/4: never equal to an integer.
  const std::uint64_t guard = left > root ? kTop : 0;
  return {.significand = root,
          .rest = guard | (left != 0 ? 1u : 0u),
          .exponent = (a.exponent - (odd ? 1 : 0)) / 2,
          .sign = false};
}

Parts parts_of_integer(std::int64_t value) {
  if (value == 0) return {};
  const bool sign = value < 0;
  const std::uint64_t magnitude =
      sign ? 0 - static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value);
  const int shift = std::countl_zero(magnitude);
  return {.significand = magnitude << shift,
          .exponent = 63 - shift,
          .kind = Kind::kFinite,
          .sign = sign};
}

Cut cut(std::uint64_t significand, std::uint64_t rest, unsigned bits, bool sign,
        Rounding rounding) {
  const unsigned dropped = 64 - bits;
  const std::uint64_t unit = 1ull << dropped;
  const std::uint64_t low = significand & (unit - 1);
  const std::uint64_t fraction = dropped == 0 ? rest : (low << bits) | (rest != 0 ? 1u : 0u);
  Cut result{.significand = significand - low, .inexact = fraction != 0};
  result.up = rounds_up(fraction, (significand & unit) != 0, sign, rounding);
  if (!result.up) return result;
  result.significand += unit;
  result.carry = result.significand == 0;
  if (result.carry) result.significand = kTop;
  return result;
}

Rounded round_unbounded(const Wide& value, unsigned precision, Rounding rounding) {
  const Cut kept = cut(value.significand, value.rest, precision, value.sign, rounding);
  return {.significand = kept.significand,
          .exponent = value.exponent + (kept.carry ? 1 : 0),
          .inexact = kept.inexact,
          .up = kept.up};
}

Rounded round_to_range(const Wide& value, const Range& range, Rounding rounding) {
  if (value.significand == 0) return {.exponent = range.min_exponent};
  Rounded result = round_unbounded(value, range.precision, rounding);
  result.overflow = result.exponent > range.max_exponent;
  if (value.exponent >= range.min_exponent) return result;
  result.tiny = result.exponent < range.min_exponent;
  const Uint128 shifted =
      shift_right_sticky(join(value.significand, value.rest),
                         static_cast<unsigned>(range.min_exponent - value.exponent));
  const Cut kept =
      cut(high_half(shifted), low_half(shifted), range.precision, value.sign, rounding);
  return {.significand = kept.significand,
          .exponent = range.min_exponent,
          .inexact = kept.inexact,
          .up = kept.up,
          .tiny = result.tiny};
}

Integer to_integer(const Parts& a, unsigned bits, Rounding rounding) {
  if (a.exponent > 63 && a.kind == Kind::kFinite) return {.fits = false};
  const Split parts = split(a);
  const bool up = rounds_up(parts.fraction, (parts.integer & 1) != 0, a.sign, rounding);
  if (up && parts.integer == ~0ull) return {.fits = false};
  const std::uint64_t magnitude = parts.integer + (up ? 1 : 0);
  const std::uint64_t limit = (1ull << (bits - 1)) - (a.sign ? 0 : 1);
  if (magnitude > limit) return {.fits = false};
  return {.value = static_cast<std::int64_t>(a.sign ? 0 - magnitude : magnitude),
          .inexact = parts.fraction != 0,
          .up = up};
}

Integral to_integral(const Parts& a, Rounding rounding) {
  if (a.kind != Kind::kFinite || a.exponent >= 63) return {.value = a};
  if (a.exponent >= 0) {
    const Cut kept =
        cut(a.significand, 0, static_cast<unsigned>(a.exponent) + 1, a.sign, rounding);
    return {.value = {.significand = kept.significand,
                      .exponent = a.exponent + (kept.carry ? 1 : 0),
                      .kind = Kind::kFinite,
                      .sign = a.sign},
            .inexact = kept.inexact,
            .up = kept.up};
  }
  Integral result{.value = {.sign = a.sign}, .inexact = true};
  result.up = rounds_up(split(a).fraction, false, a.sign, rounding);
  if (result.up)
    result.value = {.significand = kTop, .exponent = 0, .kind = Kind::kFinite, .sign = a.sign};
  return result;
}

Relation compare_parts(const Parts& a, const Parts& b) {
  if (a.kind == Kind::kZero && b.kind == Kind::kZero) return Relation::kEqual;
  // A number's place on the line, without its sign: kind first, then exponent and significand.
  const auto below = [](const Parts& x, const Parts& y) {
    if (x.kind != y.kind) return x.kind < y.kind;
    if (x.kind != Kind::kFinite) return false;
    if (x.exponent != y.exponent) return x.exponent < y.exponent;
    return x.significand < y.significand;
  };
  const Relation greater = a.sign ? Relation::kLess : Relation::kGreater;
  const Relation less = a.sign ? Relation::kGreater : Relation::kLess;
  if (a.kind == Kind::kZero) return b.sign ? Relation::kGreater : Relation::kLess;
  if (b.kind == Kind::kZero) return greater;
  if (a.sign != b.sign) return greater;
  if (below(a, b)) return less;
  return below(b, a) ? greater : Relation::kEqual;
}

Parts unpack(std::uint64_t bits, const Format& format) {
  Parts parts;
  parts.sign = (bits & format.sign_bit()) != 0;
  const unsigned biased =
      static_cast<unsigned>(bits >> format.fraction_bits) & format.max_biased();
  const unsigned align = 64 - format.fraction_bits;
  const std::uint64_t fraction = bits << align;  // the leading one would be bit 64
  if (biased == format.max_biased()) {
    parts.significand = kTop | (fraction >> 1);
    parts.kind = fraction == 0             ? Kind::kInfinity
                 : (fraction & kTop) != 0 ? Kind::kQuietNan
                                           : Kind::kSignallingNan;
    return parts;
  }
  if (biased != 0) {
    parts.kind = Kind::kFinite;
    parts.significand = kTop | (fraction >> 1);
    parts.exponent = static_cast<std::int32_t>(biased) - format.bias();
    return parts;
  }
  if (fraction == 0) return parts;
  const int shift = std::countl_zero(fraction);
  parts.kind = Kind::kFinite;
  parts.denormal = true;
  parts.significand = fraction << shift;
  parts.exponent = -format.bias() - shift;
  return parts;
}

std::uint64_t pack(bool sign, const Rounded& rounded, const Format& format) {
  const std::uint64_t fraction = (rounded.significand & ~kTop) >> (63 - format.fraction_bits);
  const bool normal = (rounded.significand & kTop) != 0;
  const std::uint64_t biased =
      normal ? static_cast<std::uint64_t>(rounded.exponent + format.bias()) : 0;
  return (sign ? format.sign_bit() : 0) | (biased << format.fraction_bits) | fraction;
}

std::uint64_t pack_nan(const Parts& nan, const Format& format) {
  const std::uint64_t fraction = (nan.significand & ~kTop) >> (63 - format.fraction_bits);
  return (nan.sign ? format.sign_bit() : 0) | format.infinity() | format.quiet_bit() | fraction;
}

}  // namespace hv::softfloat

// A floating-point number taken apart, the same for every format, and the exact operations on such
// numbers. Whoever packs the result rounds it once.
#pragma once
#include <bit>
#include <cstdint>

#include "softcpu/softfloat/softfloat.h"

namespace hv::softfloat {

__extension__ typedef unsigned __int128 Uint128;

inline constexpr std::uint64_t kTop = 1ull << 63;

constexpr unsigned flag_if(bool condition, Flag flag) {
  return condition ? static_cast<unsigned>(flag) : 0u;
}

// kUnsupported: encodings that only the x87's 80 bits have (SDM Vol. 1, "Unsupported Double
// Extended-Precision Floating-Point Encodings and Pseudo-Denormals").
enum class Kind : std::uint8_t {
  kZero, kFinite, kInfinity, kQuietNan, kSignallingNan, kUnsupported
};

// A finite number is significand / 2^63 * 2^exponent with bit 63 set. A NaN has its fraction below
// bit 63, aligned as in 80 bits, and bit 63 set.
struct Parts {
  std::uint64_t significand = 0;
  std::int32_t exponent = 0;
  Kind kind = Kind::kZero;
  bool sign = false;
  bool denormal = false;  // the operand was one

  bool is_nan() const { return kind == Kind::kQuietNan || kind == Kind::kSignallingNan; }
  bool is_finite() const { return kind <= Kind::kFinite; }
};

// A result before rounding: `rest` lies below `significand`, its lowest bit is sticky. A zero has
// significand 0; else bit 63 is set.
struct Wide {
  std::uint64_t significand = 0;
  std::uint64_t rest = 0;
  std::int32_t exponent = 0;
  bool sign = false;
};

constexpr Uint128 join(std::uint64_t high, std::uint64_t low) {
  return (Uint128{high} << 64) | low;
}
constexpr std::uint64_t high_half(Uint128 value) { return static_cast<std::uint64_t>(value >> 64); }
constexpr std::uint64_t low_half(Uint128 value) { return static_cast<std::uint64_t>(value); }

// The bits that fall out are kept as one sticky bit.
constexpr Uint128 shift_right_sticky(Uint128 value, unsigned by) {
  if (by == 0) return value;
  if (by >= 128) return value != 0 ? 1 : 0;
  return (value >> by) | ((value << (128 - by)) != 0 ? 1 : 0);
}

// Moves the leading one to the top; `exponent` belongs to a leading one at bit 127.
Wide normalized(bool sign, std::int32_t exponent, Uint128 value);

// Both operands finite or zero, except that a divisor is never zero and a root never negative.
// `rounding` decides the sign of an exact zero alone.
Wide exact_add(const Parts& a, const Parts& b, Rounding rounding);
Wide exact_mul(const Parts& a, const Parts& b);
Wide exact_div(const Parts& a, const Parts& b);
Wide exact_sqrt(const Parts& a);
inline Wide widen(const Parts& a) {
  return {.significand = a.significand, .rest = 0, .exponent = a.exponent, .sign = a.sign};
}
Parts parts_of_integer(std::int64_t value);

// Keeps the top `bits` (1 to 64) of significand:rest.
struct Cut {
  std::uint64_t significand = 0;
  bool carry = false;    // rounded up to the next power of two: significand is 2^63
  bool inexact = false;
  bool up = false;       // the magnitude grew
};
Cut cut(std::uint64_t significand, std::uint64_t rest, unsigned bits, bool sign, Rounding rounding);

// Where a result must fit: bits of significand, and the exponents of normal numbers.
struct Range {
  unsigned precision;
  std::int32_t min_exponent, max_exponent;
};

// Tininess is detected after rounding (SDM Vol. 1, "Numeric Underflow Exception"). The exponent of
// an overflow is given as if it had no bound; a tiny result has lost the bits that a denormal lacks
// and its exponent is min_exponent, with bit 63 clear unless it rounded up to a normal number.
struct Rounded {
  std::uint64_t significand = 0;
  std::int32_t exponent = 0;
  bool inexact = false, up = false, tiny = false, overflow = false;
};
Rounded round_to_range(const Wide& value, const Range& range, Rounding rounding);
// As if the exponent had no bound: what an unmasked overflow or underflow delivers.
Rounded round_unbounded(const Wide& value, unsigned precision, Rounding rounding);
// True where an overflow gives infinity rather than the largest number.
constexpr bool overflows_to_infinity(bool sign, Rounding rounding) {
  return rounding == Rounding::kNearestEven || rounding == (sign ? Rounding::kDown : Rounding::kUp);
}

// A finite number or zero to an integer of `bits`.
struct Integer {
  std::int64_t value = 0;
  bool fits = true, inexact = false, up = false;
};
Integer to_integer(const Parts& a, unsigned bits, Rounding rounding);

// To an integral value of any size.
struct Integral {
  Parts value;
  bool inexact = false, up = false;
};
Integral to_integral(const Parts& a, Rounding rounding);

// Less, equal or greater; neither is a NaN.
Relation compare_parts(const Parts& a, const Parts& b);

// The IEEE interchange formats.
struct Format {
  unsigned fraction_bits, exponent_bits;

  constexpr std::int32_t bias() const { return (1 << (exponent_bits - 1)) - 1; }
  constexpr unsigned max_biased() const { return (1u << exponent_bits) - 1; }
  constexpr Range range() const { return {fraction_bits + 1, 1 - bias(), bias()}; }
  constexpr std::uint64_t sign_bit() const { return 1ull << (fraction_bits + exponent_bits); }
  constexpr std::uint64_t infinity() const { return std::uint64_t{max_biased()} << fraction_bits; }
  constexpr std::uint64_t quiet_bit() const { return 1ull << (fraction_bits - 1); }
  constexpr std::uint64_t default_nan() const { return sign_bit() | infinity() | quiet_bit(); }
};
inline constexpr Format kFloat32{23, 8}, kFloat64{52, 11};

Parts unpack(std::uint64_t bits, const Format& format);
std::uint64_t pack(bool sign, const Rounded& rounded, const Format& format);
// A NaN's payload cut to the format, made quiet.
std::uint64_t pack_nan(const Parts& nan, const Format& format);

}  // namespace hv::softfloat

// Numbers with 128 bits of significand, for functions whose result is rounded to 64: truncating
// arithmetic with a relative error of a few 2^-127 a step, and no limits to the exponent.
#pragma once
#include "softcpu/softfloat/float80.h"

namespace hv::softcpu::portable {

using softfloat::Uint128;

// significand / 2^127 * 2^exponent; 0, or bit 127 is set.
struct WideFloat {
  Uint128 significand = 0;
  std::int32_t exponent = 0;
  bool sign = false;

  bool is_zero() const { return significand == 0; }
  WideFloat negated() const { return {significand, exponent, !sign}; }
  WideFloat scaled(std::int32_t by) const { return {significand, exponent + by, sign}; }
};

inline WideFloat from_bits(std::uint64_t high, std::uint64_t low, std::int32_t exponent) {
  return {softfloat::join(high, low), exponent, false};
}
WideFloat normalize(bool sign, std::int32_t exponent, Uint128 significand);
WideFloat from_parts(const softfloat::Parts& parts);
WideFloat from_integer(std::int64_t value);

WideFloat operator+(const WideFloat& a, const WideFloat& b);
inline WideFloat operator-(const WideFloat& a, const WideFloat& b) { return a + b.negated(); }
WideFloat operator*(const WideFloat& a, const WideFloat& b);
WideFloat operator/(const WideFloat& a, const WideFloat& b);
WideFloat operator/(const WideFloat& a, std::uint32_t by);
// Of magnitudes.
bool smaller(const WideFloat& a, const WideFloat& b);

// For rounding, as a number that is never exact.
softfloat::Wide inexact(const WideFloat& a);

}  // namespace hv::softcpu::portable

#include "softcpu/host/portable/wide_float.h"

namespace hv::softcpu::portable {

using softfloat::high_half;
using softfloat::low_half;

WideFloat normalize(bool sign, std::int32_t exponent, Uint128 significand) {
  if (significand == 0) return {0, 0, sign};
  const std::uint64_t high = high_half(significand);
  const int shift = high != 0 ? std::countl_zero(high)
                              : 64 + std::countl_zero(low_half(significand));
  return {significand << shift, exponent - shift, sign};
}

WideFloat from_parts(const softfloat::Parts& parts) {
  return {Uint128{parts.significand} << 64, parts.exponent, parts.sign};
}

WideFloat from_integer(std::int64_t value) {
  return from_parts(softfloat::parts_of_integer(value));
}

bool smaller(const WideFloat& a, const WideFloat& b) {
  if (a.is_zero() || b.is_zero()) return !b.is_zero();
  if (a.exponent != b.exponent) return a.exponent < b.exponent;
  return a.significand < b.significand;
}

WideFloat operator+(const WideFloat& a, const WideFloat& b) {
  if (smaller(a, b)) return b + a;
  if (b.is_zero()) return a;
  const Uint128 x = a.significand >> 1;
  const Uint128 y = softfloat::shift_right_sticky(
      b.significand, static_cast<unsigned>(a.exponent - b.exponent) + 1);
  return normalize(a.sign, a.exponent + 1, a.sign == b.sign ? x + y : x - y);
}

WideFloat operator*(const WideFloat& a, const WideFloat& b) {
  const std::uint64_t a1 = high_half(a.significand), a0 = low_half(a.significand);
  const std::uint64_t b1 = high_half(b.significand), b0 = low_half(b.significand);
  const Uint128 low = Uint128{a0} * b0, left = Uint128{a1} * b0, right = Uint128{a0} * b1;
  const Uint128 middle = Uint128{high_half(low)} + low_half(left) + low_half(right);
  const Uint128 top =
      Uint128{a1} * b1 + high_half(left) + high_half(right) + high_half(middle);
  return normalize(a.sign != b.sign, a.exponent + b.exponent + 1, top);
}

// Bit by bit.
WideFloat operator/(const WideFloat& a, const WideFloat& b) {
  const Uint128 divisor = b.significand >> 1;
  Uint128 left = a.significand >> 1;
  Uint128 quotient = 0;
  for (int bit = 0; bit < 128; ++bit) {
    quotient <<= 1;
    if (left >= divisor) {
      left -= divisor;
      quotient |= 1;
    }
    left <<= 1;
  }
  return normalize(a.sign != b.sign, a.exponent - b.exponent, quotient);
}

WideFloat operator/(const WideFloat& a, std::uint32_t by) {
  return normalize(a.sign, a.exponent, a.significand / by);
}

softfloat::Wide inexact(const WideFloat& a) {
  return {.significand = high_half(a.significand),
          .rest = low_half(a.significand) | 1,
          .exponent = a.exponent,
          .sign = a.sign};
}

}  // namespace hv::softcpu::portable

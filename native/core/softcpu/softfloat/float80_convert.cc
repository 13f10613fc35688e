// Between the x87's registers and memory.
#include "softcpu/softfloat/float80.h"

namespace hv::softfloat {

namespace {

void raise(unsigned flags, FloatStatus& status) {
  status.flags = static_cast<std::uint8_t>(status.flags | flags);
}

std::uint64_t infinity_of(bool sign, const Format& format) {
  return (sign ? format.sign_bit() : 0) | format.infinity();
}

// An unmasked overflow or underflow stores nothing; the flags are those of a destination in memory.
std::uint64_t narrow(const Wide& value, const Format& format, FloatStatus& status) {
  if (value.significand == 0) return value.sign ? format.sign_bit() : 0;
  const Rounded result = round_to_range(value, format.range(), status.rounding);
  if (result.overflow) {
    raise(kOverflow, status);
    if (status.unmasked(kOverflow)) return 0;
    raise(kInexact, status);
    status.rounded_up = overflows_to_infinity(value.sign, status.rounding);
    return infinity_of(value.sign, format) - (status.rounded_up ? 0 : 1);
  }
  const bool masked = (status.masks & kUnderflow) != 0;
  if (result.tiny && (result.inexact || !masked)) raise(kUnderflow, status);
  if (status.unmasked(kUnderflow)) return 0;
  raise(flag_if(result.inexact, kInexact), status);
  status.rounded_up = result.up;
  return pack(value.sign, result, format);
}

std::uint64_t to_narrow(const Parts& a, const Format& format, FloatStatus& status) {
  if (a.kind == Kind::kUnsupported) {
    raise(kInvalid, status);
    return format.default_nan();
  }
  if (a.kind == Kind::kSignallingNan) raise(kInvalid, status);
  if (a.is_nan()) return pack_nan(a, format);
  if (a.kind == Kind::kInfinity) return infinity_of(a.sign, format);
  return narrow(widen(a), format, status);
}

constexpr std::uint64_t kBcdLimit = 1'000'000'000'000'000'000;  // 10^18

}  // namespace

F80 f80_load(const Parts& a, FloatStatus& status) {
  if (a.is_nan()) return choose_nan80(a, a, status);
  raise(flag_if(a.denormal, kDenormal), status);
  const std::uint16_t sign = a.sign ? 0x8000 : 0;
  if (a.kind == Kind::kInfinity) return {kTop, static_cast<std::uint16_t>(sign | 0x7fff)};
  FloatStatus exact;
  return finish80(widen(a), exact);
}

F80 f80_of_integer(std::int64_t value) {
  FloatStatus exact;
  return finish80(widen(parts_of_integer(value)), exact);
}

f32 f80_to_f32(const Parts& a, FloatStatus& status) {
  return static_cast<f32>(to_narrow(a, kFloat32, status));
}
f64 f80_to_f64(const Parts& a, FloatStatus& status) { return to_narrow(a, kFloat64, status); }

std::int64_t f80_to_integer(const Parts& a, unsigned bits, Rounding rounding,
                            FloatStatus& status) {
  const Integer result = a.is_finite() ? to_integer(a, bits, rounding) : Integer{.fits = false};
  if (!result.fits) {
    raise(kInvalid, status);
    return -static_cast<std::int64_t>(1ull << (bits - 2)) * 2;
  }
  raise(flag_if(result.inexact, kInexact), status);
  status.rounded_up = result.up;
  return result.value;
}

Bcd f80_to_bcd(const Parts& a, FloatStatus& status) {
  const Integer result =
      a.is_finite() ? to_integer(a, 64, status.rounding) : Integer{.fits = false};
  std::uint64_t left = static_cast<std::uint64_t>(result.value);
  if (a.sign) left = 0 - left;
  if (!result.fits || left >= kBcdLimit) {
    raise(kInvalid, status);
    return {0xc000000000000000, 0xffff};
  }
  raise(flag_if(result.inexact, kInexact), status);
  status.rounded_up = result.up;
  Bcd bcd;
  for (unsigned digit = 0; digit < 16; ++digit, left /= 10) bcd.low |= (left % 10) << (digit * 4);
  bcd.high = static_cast<std::uint16_t>(left % 10 | (left / 10) << 4 | (a.sign ? 0x8000u : 0u));
  return bcd;
}

// Digits past 9 count as what they are; the unused bits of the sign's byte are ignored.
F80 f80_of_bcd(const Bcd& bcd) {
  std::uint64_t value = (bcd.high >> 4 & 15) * 10u + (bcd.high & 15u);
  for (unsigned digit = 16; digit-- > 0;) value = value * 10 + (bcd.low >> (digit * 4) & 15);
  F80 result = f80_of_integer(static_cast<std::int64_t>(value));
  if ((bcd.high & 0x8000) != 0) result.sign_exponent |= 0x8000;
  return result;
}

}  // namespace hv::softfloat

// The x87's arithmetic: 80-bit results of operands of any format. SDM Vol. 1, chapter 8.
//
// Operands are Parts, so that a float32 or float64 in memory enters without a rounding of its own
// and its signalling NaN or denormal is still known for what it is. status.precision cuts add, sub,
// mul, div and sqrt alone. Where a raised invalid, denormal or zero-divide is unmasked the result
// is of no use; an unmasked overflow or underflow delivers the result with its exponent moved by
// 24576 (SDM Vol. 1, "Numeric Overflow Exception").
#pragma once
#include "accel/cpu_state.h"
#include "softcpu/softfloat/parts.h"

namespace hv::softfloat {

inline constexpr F80 kIndefinite80{0xc000000000000000, 0xffff};

Parts unpack(const F80& value);
inline Parts unpack_f32(f32 bits) { return unpack(bits, kFloat32); }
inline Parts unpack_f64(f64 bits) { return unpack(bits, kFloat64); }

F80 f80_add(const Parts& a, const Parts& b, FloatStatus& status);
F80 f80_sub(const Parts& a, const Parts& b, FloatStatus& status);
F80 f80_mul(const Parts& a, const Parts& b, FloatStatus& status);
F80 f80_div(const Parts& a, const Parts& b, FloatStatus& status);
F80 f80_sqrt(const Parts& a, FloatStatus& status);
F80 f80_round(const Parts& a, FloatStatus& status);
F80 f80_scale(const Parts& a, const Parts& b, FloatStatus& status);

// FXTRACT.
struct Extracted {
  F80 exponent, significand;
};
Extracted f80_extract(const Parts& a, FloatStatus& status);

// FPREM truncates the quotient, FPREM1 rounds it to nearest. Not complete: only a part of the
// exponents' difference was worked off, C2.
struct Remainder {
  F80 value;
  std::uint8_t quotient = 0;  // its low three bits
  bool complete = true;
  bool computed = false;  // the operands were valid and no NaNs
};
enum class Quotient : std::uint8_t { kTruncated, kNearest };
Remainder f80_remainder(const Parts& a, const Parts& b, Quotient kind, FloatStatus& status);

// Quiet: FUCOM and kin. Encodings that are not supported are invalid in both.
Relation f80_compare(const Parts& a, const Parts& b, Nans nans, FloatStatus& status);

// FLD m32/m64: exact; an unmasked denormal still delivers.
F80 f80_load(const Parts& a, FloatStatus& status);
F80 f80_of_integer(std::int64_t value);
f32 f80_to_f32(const Parts& a, FloatStatus& status);
f64 f80_to_f64(const Parts& a, FloatStatus& status);
// bits: 16, 32 or 64. Invalid gives the lowest integer.
std::int64_t f80_to_integer(const Parts& a, unsigned bits, Rounding rounding, FloatStatus& status);

// Packed BCD, 18 digits and a sign: SDM Vol. 1, "BCD and Packed BCD Integers".
struct Bcd {
  std::uint64_t low = 0;    // sixteen digits
  std::uint16_t high = 0;   // two digits, the sign in bit 15
};
Bcd f80_to_bcd(const Parts& a, FloatStatus& status);
F80 f80_of_bcd(const Bcd& bcd);

// ---- for the operations that are built on these -------------------------------------------------
// Rounds to status.precision and packs.
F80 finish80(const Wide& value, FloatStatus& status);
F80 invalid80(FloatStatus& status);
// At least one operand is a NaN.
F80 choose_nan80(const Parts& a, const Parts& b, FloatStatus& status);

}  // namespace hv::softfloat

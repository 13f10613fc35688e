// The functions themselves, of arguments that are already reduced.
#pragma once
#include "softcpu/host/portable/wide_float.h"

namespace hv::softcpu::portable {

inline const WideFloat kPi = from_bits(0xc90fdaa22168c234, 0xc4c6628b80dc1cd1, 1);
inline const WideFloat kLn2 = from_bits(0xb17217f7d1cf79ab, 0xc9e3b39803f2f6af, -1);
inline const WideFloat kOne = from_bits(softfloat::kTop, 0, 0);

WideFloat exp_minus_one(const WideFloat& x);   // |x| <= ln 2
WideFloat twice_atanh(const WideFloat& x);     // |x| below a half
WideFloat arc_tangent(const WideFloat& x);     // 0 <= x <= 1
struct SineCosine {
  WideFloat sine, cosine;
};
SineCosine sine_cosine(const WideFloat& x);    // |x| <= pi/4

}  // namespace hv::softcpu::portable

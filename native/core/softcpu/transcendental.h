// The x87's transcendental functions, apart from its stack.
#pragma once
#include "accel/cpu_state.h"

namespace hv::softcpu {

enum class Transcendental : std::uint8_t {
  k2xm1, kYl2x, kYl2xp1, kPtan, kPatan, kSin, kCos, kSincos
};

// What the instruction left: ST(0) in `first`; ST(1) in `second` where it pushes (FPTAN's 1 and
// FSINCOS's cosine are `first`). `status` has the exceptions, C1, and C2 of an argument out of
// range; C2 or an unmasked invalid, denormal or zero-divide means that there is no result.
struct TranscendentalResult {
  F80 first, second;
  std::uint16_t status = 0;
};

// `control` is the control word. A function of one operand ignores st1.
using TranscendentalFunction = TranscendentalResult(Transcendental which, const F80& st0,
                                                    const F80& st1, std::uint16_t control);

}  // namespace hv::softcpu

// The x87's transcendental functions in integers, for hosts without an x87.
#pragma once
#include "softcpu/transcendental.h"

namespace hv::softcpu::portable {

// Results are computed to well over 100 bits and rounded once by the rounding control: below one
// unit in the last place in every mode. FSIN, FCOS, FSINCOS and FPTAN reduce by pi cut to 66 bits,
// as hardware does (SDM Vol. 1, "Pi").
TranscendentalFunction transcendental;

}  // namespace hv::softcpu::portable

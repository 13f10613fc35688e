// The host's own x87 where it has one, else the portable functions: host::transcendental().
//
// On an x86 host the results are that host's, to the bit. Elsewhere they are within one unit in
// the last place of the 64-bit significand, as SDM Vol. 1, "Transcendental Instruction Accuracy"
// states for round to nearest.
#pragma once
#if defined(__x86_64__)
#include "softcpu/host/x86_64/x87.h"
#else
#include "softcpu/host/portable/x87.h"
#endif

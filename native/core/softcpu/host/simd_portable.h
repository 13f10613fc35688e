// For hosts without SSE: every answer is "not here", and the portable arithmetic does the work.
#pragma once
#include <cstdint>

#include "accel/cpu_state.h"

namespace hv::softcpu::host {

inline bool use_sse = false;

inline Xmm pair(std::uint64_t low, std::uint64_t high) { return {low, high}; }

#define HV_NOT_HERE(name) \
  inline bool name(Xmm&, const Xmm&, std::uint32_t&) { return false; }
#define XMM(name) HV_NOT_HERE(name)
#define FROM_INT(name, width) HV_NOT_HERE(name##_##width)
#define TO_INT(name, width) HV_NOT_HERE(name##_##width)
#define COMPARE(name, predicate) HV_NOT_HERE(name##_##predicate)
#define FLAGS(name) HV_NOT_HERE(name)
#define ESTIMATE(name) HV_NOT_HERE(name)
#include "softcpu/host/simd_ops.def"
#undef XMM
#undef FROM_INT
#undef TO_INT
#undef COMPARE
#undef FLAGS
#undef ESTIMATE
#undef HV_NOT_HERE

}  // namespace hv::softcpu::host

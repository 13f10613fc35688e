// What the host's CPU has, from CPUID itself: the compiler's __builtin_cpu_supports needs a runtime
// object that not every tool chain links into a shared library.
#pragma once

#include "softcpu/translator/host.h"

#if HV_TRANSLATOR
#include <cpuid.h>

namespace hv::softcpu::translator {

struct HostFeatures {
  bool sse42 = false;
  bool popcnt = false;
};

inline const HostFeatures& host_features() {
  static const HostFeatures found = [] {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0) return HostFeatures{};
    return HostFeatures{.sse42 = (ecx & bit_SSE4_2) != 0, .popcnt = (ecx & bit_POPCNT) != 0};
  }();
  return found;
}

}  // namespace hv::softcpu::translator
#endif

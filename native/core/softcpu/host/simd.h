// The host's own SSE where it has one: the only place that looks at the host.
#pragma once
#if defined(__x86_64__)
#include "softcpu/host/simd_x86_64.h"
#else
#include "softcpu/host/simd_portable.h"
#endif

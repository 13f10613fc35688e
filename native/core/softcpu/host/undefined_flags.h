// The flags that SDM Vol. 2 leaves undefined after shifts, products and scans, as this host's CPU
// leaves them: makes of CPU differ (after IMUL, AMD's keep SF ZF AF PF; after SHL, they set AF).
// Translated code has the host's own flags, so the interpreter asks the host too, and nothing tells
// the two apart. On a host without these instructions they are what the caller computed.
//
//   flags_of_shl(before, after, a, b, count) … the arithmetic bits of RFLAGS after `a` was
//   shifted or multiplied by `b` with the bits `before`; `after` is the answer of the portable code
#pragma once
#if defined(__x86_64__)
#include "softcpu/host/undefined_flags_x86_64.h"
#else
#include "softcpu/host/undefined_flags_portable.h"
#endif

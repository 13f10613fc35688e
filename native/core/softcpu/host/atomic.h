// The guest's loads, stores and LOCKs as the host's own: the only place that looks at the host.
//
//   load<T>, store<T>       ordered as x86 orders them (SDM Vol. 3A, "Memory Ordering in P6 and More
//                           Recent Processor Families"); of 8 bytes at most never torn when aligned
//   compare_exchange<T>     of 1 to 8 bytes, at any address in one page
//   compare_exchange_16     aligned to 16, as CMPXCHG16B demands
//
// Guest and host agree on byte order.
#pragma once
#if defined(__x86_64__)
#include "softcpu/host/x86_64/atomic.h"
#else
#include "softcpu/host/portable/atomic.h"
#endif

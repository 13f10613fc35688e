// The host's SSE2 as a fast path for the guest's. One assembler statement holds the switch of
// MXCSR and the instruction, so that no compiler moves other arithmetic in between.
#pragma once
#include <emmintrin.h>

#include <bit>
#include <cstdint>

#include "accel/cpu_state.h"

namespace hv::softcpu::host {

// Tests clear it to see the portable arithmetic on this host.
inline bool use_sse = true;
// What C++ code on this thread runs under: all masked, nearest even. Left behind each time; the
// seam for a run loop that keeps the guest's MXCSR loaded instead.
inline constexpr std::uint32_t kHostMxcsr = 0x1f80;

// Two halves to one value in a vector register. A store of 16 bytes follows, never two of 8 that a
// later load of 16 would wait for; compilers left alone go through the stack in halves.
inline Xmm pair(std::uint64_t low, std::uint64_t high) {
  __m128i to = _mm_cvtsi64_si128(static_cast<long long>(low));
  const __m128i above = _mm_cvtsi64_si128(static_cast<long long>(high));
  asm("punpcklqdq %1, %0" : "+x"(to) : "x"(above));
  return std::bit_cast<Xmm>(to);
}

#define HV_GUEST_MXCSR "ldmxcsr %[csr]\n\t"
#define HV_HOST_MXCSR "\n\tstmxcsr %[csr]\n\tldmxcsr %[own]"

#define XMM(name)                                                      \
  inline bool name(Xmm& a, const Xmm& b, std::uint32_t& csr) {         \
    __m128i x = std::bit_cast<__m128i>(a);                             \
    asm volatile(HV_GUEST_MXCSR #name " %[y], %[x]" HV_HOST_MXCSR      \
                 : [x] "+x"(x), [csr] "+m"(csr)                        \
                 : [y] "x"(std::bit_cast<__m128i>(b)), [own] "m"(kHostMxcsr)); \
    a = std::bit_cast<Xmm>(x);                                         \
    return true;                                                       \
  }
#define FROM_INT(name, width)                                          \
  inline bool name##_##width(Xmm& a, const Xmm& b, std::uint32_t& csr) { \
    __m128i x = std::bit_cast<__m128i>(a);                             \
    asm volatile(HV_GUEST_MXCSR #name " %" #width "[y], %[x]" HV_HOST_MXCSR \
                 : [x] "+x"(x), [csr] "+m"(csr)                        \
                 : [y] "r"(b.qword[0]), [own] "m"(kHostMxcsr));        \
    a = std::bit_cast<Xmm>(x);                                         \
    return true;                                                       \
  }
#define TO_INT(name, width)                                            \
  inline bool name##_##width(Xmm& a, const Xmm& b, std::uint32_t& csr) { \
    std::uint64_t r;                                                   \
    asm volatile(HV_GUEST_MXCSR #name " %[y], %" #width "[r]" HV_HOST_MXCSR \
                 : [r] "=r"(r), [csr] "+m"(csr)                        \
                 : [y] "x"(std::bit_cast<__m128i>(b)), [own] "m"(kHostMxcsr)); \
    a.qword[0] = r;                                                    \
    return true;                                                       \
  }
#define COMPARE(name, predicate)                                       \
  inline bool name##_##predicate(Xmm& a, const Xmm& b, std::uint32_t& csr) { \
    __m128i x = std::bit_cast<__m128i>(a);                             \
    asm volatile(HV_GUEST_MXCSR #name " $" #predicate ", %[y], %[x]" HV_HOST_MXCSR \
                 : [x] "+x"(x), [csr] "+m"(csr)                        \
                 : [y] "x"(std::bit_cast<__m128i>(b)), [own] "m"(kHostMxcsr)); \
    a = std::bit_cast<Xmm>(x);                                         \
    return true;                                                       \
  }
#define FLAGS(name)                                                    \
  inline bool name(Xmm& a, const Xmm& b, std::uint32_t& csr) {         \
    bool zf, pf, cf;                                                   \
    asm volatile(HV_GUEST_MXCSR #name " %[y], %[x]" HV_HOST_MXCSR      \
                 : [csr] "+m"(csr), "=@ccz"(zf), "=@ccp"(pf), "=@ccc"(cf) \
                 : [x] "x"(std::bit_cast<__m128i>(a)), [y] "x"(std::bit_cast<__m128i>(b)), \
                   [own] "m"(kHostMxcsr));                             \
    a.qword[0] = std::uint64_t{cf} | std::uint64_t{pf} << 2 | std::uint64_t{zf} << 6; \
    return true;                                                       \
  }
#define ESTIMATE(name)                                                 \
  inline bool name(Xmm& a, const Xmm& b, std::uint32_t&) {             \
    __m128i x = std::bit_cast<__m128i>(a);                             \
    asm(#name " %[y], %[x]" : [x] "+x"(x) : [y] "x"(std::bit_cast<__m128i>(b))); \
    a = std::bit_cast<Xmm>(x);                                         \
    return true;                                                       \
  }
#include "softcpu/host/simd_ops.def"
#undef XMM
#undef FROM_INT
#undef TO_INT
#undef COMPARE
#undef FLAGS
#undef ESTIMATE
#undef HV_GUEST_MXCSR
#undef HV_HOST_MXCSR

}  // namespace hv::softcpu::host

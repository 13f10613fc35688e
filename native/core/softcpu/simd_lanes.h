// What one MMX or SSE integer instruction computes, as functions of whole registers. V is Xmm or
// Mm; the host is little-endian, as lane 0 is the lowest. Plain loops of known length, which
// compilers turn into vector code.
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "accel/cpu_state.h"
#include "softcpu/host/simd.h"

namespace hv::softcpu::simd {

static_assert(std::endian::native == std::endian::little);

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i8 = std::int8_t;
using i16 = std::int16_t;
using i32 = std::int32_t;
using i64 = std::int64_t;

// An MMX register's value.
struct Mm {
  u64 qword = 0;
};

template <class T, class V>
inline constexpr std::size_t kCount = sizeof(V) / sizeof(T);
template <class T, class V>
using Lanes = std::array<T, kCount<T, V>>;

template <class T, class V>
inline Lanes<T, V> lanes(V value) { return std::bit_cast<Lanes<T, V>>(value); }
template <class V, class T>
inline V join(const Lanes<T, V>& value) { return std::bit_cast<V>(value); }

// The same as one value of the compiler's vector arithmetic, which every host has.
template <class T, std::size_t kBytes>
struct VectorOf {
  typedef T type __attribute__((vector_size(kBytes)));
};
template <class T, class V>
using Vec = typename VectorOf<T, sizeof(V)>::type;
template <class T, class V>
inline Vec<T, V> vector(const V& value) { return std::bit_cast<Vec<T, V>>(value); }
// In one piece: see host::pair().
inline Xmm xmm_of(u64 low, u64 high) { return host::pair(low, high); }

// r[i] = f(a[i], b[i])
template <class T, class V, class F>
inline V lanewise(const V& a, const V& b, F&& f) {
  Lanes<T, V> r;
  const auto x = lanes<T>(a), y = lanes<T>(b);
  for (std::size_t i = 0; i < r.size(); ++i) r[i] = static_cast<T>(f(x[i], y[i]));
  return join<V, T>(r);
}

template <class T>
constexpr T saturate(int value) {
  return static_cast<T>(std::clamp<int>(value, std::numeric_limits<T>::min(),
                                        std::numeric_limits<T>::max()));
}
// All ones or zero.
template <class T>
constexpr T mask(bool condition) { return condition ? static_cast<T>(~T{0}) : T{0}; }

// ---- lane by lane -------------------------------------------------------------------------------
// On whole vectors, where x and y are vectors of T and a comparison is a mask …
#define HV_VECTOR(name, T, expression)                 \
  template <class V>                                   \
  inline V name(const V& a, const V& b) {              \
    const auto x = vector<T>(a), y = vector<T>(b);     \
    return std::bit_cast<V>(expression);               \
  }
// … and one by one, where they are integers.
#define HV_LANEWISE(name, T, expression)                                    \
  template <class V>                                                        \
  inline V name(const V& a, const V& b) {                                   \
    return lanewise<T>(a, b, [](T x, T y) { return expression; });          \
  }
#define HV_LANEWISE_SECOND(name, T, expression)                             \
  template <class V>                                                        \
  inline V name(const V&, const V& b) {                                     \
    return lanewise<T>(b, b, [](T, T y) { return expression; });            \
  }

HV_VECTOR(paddb, u8, x + y)
HV_VECTOR(paddw, u16, x + y)
HV_VECTOR(paddd, u32, x + y)
HV_VECTOR(paddq, u64, x + y)
HV_VECTOR(psubb, u8, x - y)
HV_VECTOR(psubw, u16, x - y)
HV_VECTOR(psubd, u32, x - y)
HV_VECTOR(psubq, u64, x - y)
HV_VECTOR(paddusb, u8, x + y < x ? x | ~x : x + y)
HV_VECTOR(paddusw, u16, x + y < x ? x | ~x : x + y)
HV_VECTOR(psubusb, u8, x > y ? x - y : x ^ x)
HV_VECTOR(psubusw, u16, x > y ? x - y : x ^ x)
HV_LANEWISE(paddsb, i8, saturate<i8>(x + y))
HV_LANEWISE(paddsw, i16, saturate<i16>(x + y))
HV_LANEWISE(psubsb, i8, saturate<i8>(x - y))
HV_LANEWISE(psubsw, i16, saturate<i16>(x - y))
HV_VECTOR(pminub, u8, x < y ? x : y)
HV_VECTOR(pmaxub, u8, x > y ? x : y)
HV_VECTOR(pminsw, i16, x < y ? x : y)
HV_VECTOR(pmaxsw, i16, x > y ? x : y)
HV_VECTOR(pminsb, i8, x < y ? x : y)
HV_VECTOR(pmaxsb, i8, x > y ? x : y)
HV_VECTOR(pminuw, u16, x < y ? x : y)
HV_VECTOR(pmaxuw, u16, x > y ? x : y)
HV_VECTOR(pminsd, i32, x < y ? x : y)
HV_VECTOR(pmaxsd, i32, x > y ? x : y)
HV_VECTOR(pminud, u32, x < y ? x : y)
HV_VECTOR(pmaxud, u32, x > y ? x : y)
HV_VECTOR(pavgb, u8, (x | y) - ((x ^ y) >> 1))
HV_VECTOR(pavgw, u16, (x | y) - ((x ^ y) >> 1))
HV_VECTOR(pcmpeqb, u8, x == y)
HV_VECTOR(pcmpeqw, u16, x == y)
HV_VECTOR(pcmpeqd, u32, x == y)
HV_VECTOR(pcmpeqq, u64, x == y)
HV_VECTOR(pcmpgtb, i8, x > y)
HV_VECTOR(pcmpgtw, i16, x > y)
HV_VECTOR(pcmpgtd, i32, x > y)
HV_VECTOR(pcmpgtq, i64, x > y)
HV_VECTOR(pand, u64, x & y)
HV_VECTOR(pandn, u64, ~x & y)
HV_VECTOR(por, u64, x | y)
HV_VECTOR(pxor, u64, x ^ y)
HV_VECTOR(pmullw, u16, x * y)
HV_VECTOR(pmulld, u32, x * y)
HV_LANEWISE(pmulhw, i16, (x * y) >> 16)
HV_LANEWISE(pmulhuw, u16, (u32{x} * y) >> 16)
HV_LANEWISE(pmulhrsw, i16, (((x * y) >> 14) + 1) >> 1)
HV_LANEWISE(pmuludq, u64, (x & 0xffff'ffff) * (y & 0xffff'ffff))
HV_LANEWISE(pmuldq, i64, i64{static_cast<i32>(x)} * static_cast<i32>(y))
// The negative of the lowest integer is itself.
HV_LANEWISE(psignb, i8, y < 0 ? -x : y == 0 ? 0 : int{x})
HV_LANEWISE(psignw, i16, y < 0 ? -x : y == 0 ? 0 : int{x})
HV_LANEWISE(psignd, i32, y < 0 ? 0u - static_cast<u32>(x) : y == 0 ? 0u : static_cast<u32>(x))
HV_LANEWISE_SECOND(pabsb, i8, y < 0 ? -y : int{y})
HV_LANEWISE_SECOND(pabsw, i16, y < 0 ? -y : int{y})
HV_LANEWISE_SECOND(pabsd, i32, y < 0 ? 0u - static_cast<u32>(y) : static_cast<u32>(y))

#undef HV_VECTOR
#undef HV_LANEWISE
#undef HV_LANEWISE_SECOND

// ---- neighbours -------------------------------------------------------------------------------
// The lower half of the result from pairs of `a`, the upper half from pairs of `b`.
template <class T, class V, class F>
inline V horizontal(const V& a, const V& b, F&& f) {
  Lanes<T, V> r;
  const auto x = lanes<T>(a), y = lanes<T>(b);
  constexpr std::size_t kHalf = kCount<T, V> / 2;
  for (std::size_t i = 0; i < kHalf; ++i) {
    r[i] = static_cast<T>(f(x[2 * i], x[2 * i + 1]));
    r[kHalf + i] = static_cast<T>(f(y[2 * i], y[2 * i + 1]));
  }
  return join<V, T>(r);
}
template <class V>
inline V phaddw(const V& a, const V& b) {
  return horizontal<u16>(a, b, [](u16 x, u16 y) { return x + y; });
}
template <class V>
inline V phaddd(const V& a, const V& b) {
  return horizontal<u32>(a, b, [](u32 x, u32 y) { return x + y; });
}
template <class V>
inline V phaddsw(const V& a, const V& b) {
  return horizontal<i16>(a, b, [](i16 x, i16 y) { return saturate<i16>(x + y); });
}
template <class V>
inline V phsubw(const V& a, const V& b) {
  return horizontal<u16>(a, b, [](u16 x, u16 y) { return x - y; });
}
template <class V>
inline V phsubd(const V& a, const V& b) {
  return horizontal<u32>(a, b, [](u32 x, u32 y) { return x - y; });
}
template <class V>
inline V phsubsw(const V& a, const V& b) {
  return horizontal<i16>(a, b, [](i16 x, i16 y) { return saturate<i16>(x - y); });
}

template <class V>
inline V pmaddwd(const V& a, const V& b) {
  Lanes<u32, V> r;
  const auto x = lanes<i16>(a), y = lanes<i16>(b);
  for (std::size_t i = 0; i < r.size(); ++i)
    r[i] = static_cast<u32>(x[2 * i] * y[2 * i]) + static_cast<u32>(x[2 * i + 1] * y[2 * i + 1]);
  return join<V, u32>(r);
}
template <class V>
inline V pmaddubsw(const V& a, const V& b) {
  Lanes<i16, V> r;
  const auto x = lanes<u8>(a);
  const auto y = lanes<i8>(b);
  for (std::size_t i = 0; i < r.size(); ++i)
    r[i] = saturate<i16>(x[2 * i] * y[2 * i] + x[2 * i + 1] * y[2 * i + 1]);
  return join<V, i16>(r);
}
template <class V>
inline V psadbw(const V& a, const V& b) {
  Lanes<u64, V> r{};
  const auto x = lanes<u8>(a), y = lanes<u8>(b);
  for (std::size_t i = 0; i < x.size(); ++i)
    r[i / 8] += static_cast<u64>(x[i] > y[i] ? x[i] - y[i] : y[i] - x[i]);
  return join<V, u64>(r);
}

// ---- packing and interleaving -----------------------------------------------------------------
// Lanes of From to half as wide lanes of To: those of `a`, then those of `b`.
template <class From, class To, class V>
inline V pack(const V& a, const V& b) {
  Lanes<To, V> r;
  const auto x = lanes<From>(a), y = lanes<From>(b);
  for (std::size_t i = 0; i < x.size(); ++i) {
    r[i] = saturate<To>(x[i]);
    r[x.size() + i] = saturate<To>(y[i]);
  }
  return join<V, To>(r);
}
template <class V>
inline V packsswb(const V& a, const V& b) { return pack<i16, i8>(a, b); }
template <class V>
inline V packuswb(const V& a, const V& b) { return pack<i16, u8>(a, b); }
template <class V>
inline V packssdw(const V& a, const V& b) { return pack<i32, i16>(a, b); }
inline Xmm packusdw(const Xmm& a, const Xmm& b) { return pack<i32, u16>(a, b); }

// a[first], b[first], a[first + 1], b[first + 1] …; first is 0 or the middle.
template <class T, bool kHigh, class V>
inline V interleave(const V& a, const V& b) {
  Lanes<T, V> r;
  const auto x = lanes<T>(a), y = lanes<T>(b);
  constexpr std::size_t kHalf = kCount<T, V> / 2, kFirst = kHigh ? kHalf : 0;
  for (std::size_t i = 0; i < kHalf; ++i) {
    r[2 * i] = x[kFirst + i];
    r[2 * i + 1] = y[kFirst + i];
  }
  return join<V, T>(r);
}
template <class V>
inline V punpcklbw(const V& a, const V& b) { return interleave<u8, false>(a, b); }
template <class V>
inline V punpcklwd(const V& a, const V& b) { return interleave<u16, false>(a, b); }
template <class V>
inline V punpckldq(const V& a, const V& b) { return interleave<u32, false>(a, b); }
template <class V>
inline V punpckhbw(const V& a, const V& b) { return interleave<u8, true>(a, b); }
template <class V>
inline V punpckhwd(const V& a, const V& b) { return interleave<u16, true>(a, b); }
template <class V>
inline V punpckhdq(const V& a, const V& b) { return interleave<u32, true>(a, b); }
inline Xmm punpcklqdq(const Xmm& a, const Xmm& b) { return xmm_of(a.qword[0], b.qword[0]); }
inline Xmm punpckhqdq(const Xmm& a, const Xmm& b) { return xmm_of(a.qword[1], b.qword[1]); }

// ---- shuffles ---------------------------------------------------------------------------------
template <class V>
inline V pshufb(const V& a, const V& b) {
  Lanes<u8, V> r;
  const auto x = lanes<u8>(a), y = lanes<u8>(b);
  for (std::size_t i = 0; i < r.size(); ++i)
    r[i] = (y[i] & 0x80) != 0 ? u8{0} : x[y[i] & (r.size() - 1)];
  return join<V, u8>(r);
}
// Bytes of b:a from byte `imm` on; zeros past the end.
template <class V>
inline V palignr(const V& a, const V& b, unsigned imm) {
  std::array<u8, 3 * sizeof(V)> both{};
  const auto x = lanes<u8>(a), y = lanes<u8>(b);
  std::copy(y.begin(), y.end(), both.begin());
  std::copy(x.begin(), x.end(), both.begin() + sizeof(V));
  const unsigned from = std::min<unsigned>(imm & 0xff, 2 * sizeof(V));
  Lanes<u8, V> r;
  for (std::size_t i = 0; i < r.size(); ++i) r[i] = both[from + i];
  return join<V, u8>(r);
}
// Two bits of the immediate choose each of the four words.
inline u64 shuffle_words(u64 from, unsigned imm) {
  const auto word = [&](unsigned i) { return from >> (imm >> (2 * i) & 3) * 16 & 0xffff; };
  return word(0) | word(1) << 16 | word(2) << 32 | word(3) << 48;
}
inline u64 two(u32 low, u32 high) { return u64{high} << 32 | low; }
inline Mm pshufw(const Mm&, const Mm& b, unsigned imm) { return {shuffle_words(b.qword, imm)}; }
inline Xmm pshuflw(const Xmm&, const Xmm& b, unsigned imm) {
  return xmm_of(shuffle_words(b.qword[0], imm), b.qword[1]);
}
inline Xmm pshufhw(const Xmm&, const Xmm& b, unsigned imm) {
  return xmm_of(b.qword[0], shuffle_words(b.qword[1], imm));
}
inline Xmm shufps(const Xmm& a, const Xmm& b, unsigned imm) {
  const auto x = vector<u32>(a), y = vector<u32>(b);
  return xmm_of(two(x[imm & 3], x[imm >> 2 & 3]), two(y[imm >> 4 & 3], y[imm >> 6 & 3]));
}
inline Xmm pshufd(const Xmm&, const Xmm& b, unsigned imm) { return shufps(b, b, imm); }
inline Xmm shufpd(const Xmm& a, const Xmm& b, unsigned imm) {
  return xmm_of(a.qword[imm & 1], b.qword[imm >> 1 & 1]);
}
inline Xmm movsldup(const Xmm&, const Xmm& b) {
  const auto x = lanes<u32>(b);
  return join<Xmm, u32>({x[0], x[0], x[2], x[2]});
}
inline Xmm movshdup(const Xmm&, const Xmm& b) {
  const auto x = lanes<u32>(b);
  return join<Xmm, u32>({x[1], x[1], x[3], x[3]});
}
// A bit of the immediate for each lane: 1 takes it from `b`.
template <class T>
inline Xmm blend(const Xmm& a, const Xmm& b, unsigned imm) {
  auto r = lanes<T>(a);
  const auto y = lanes<T>(b);
  for (std::size_t i = 0; i < r.size(); ++i)
    if ((imm >> i & 1) != 0) r[i] = y[i];
  return join<Xmm, T>(r);
}

inline Xmm mpsadbw(const Xmm& a, const Xmm& b, unsigned imm) {
  const auto x = lanes<u8>(a), y = lanes<u8>(b);
  const std::size_t from_a = (imm >> 2 & 1) * 4, from_b = (imm & 3) * 4;
  Lanes<u16, Xmm> r{};
  for (std::size_t i = 0; i < 8; ++i) {
    int sum = 0;
    for (std::size_t k = 0; k < 4; ++k) {
      const int difference = x[from_a + i + k] - y[from_b + k];
      sum += difference < 0 ? -difference : difference;
    }
    r[i] = static_cast<u16>(sum);
  }
  return join<Xmm, u16>(r);
}
inline Xmm phminposuw(const Xmm&, const Xmm& b) {
  const auto x = lanes<u16>(b);
  const auto least = std::min_element(x.begin(), x.end());
  return {u64{*least} | static_cast<u64>(least - x.begin()) << 16, 0};
}

// ---- shifts -----------------------------------------------------------------------------------
// A count of the lane's width or more shifts everything out.
template <class T, class V>
inline V shift_left(const V& a, u64 count) {
  if (count >= sizeof(T) * 8) return V{};
  return std::bit_cast<V>(vector<T>(a) << static_cast<T>(count));
}
template <class T, class V>
inline V shift_right(const V& a, u64 count) {
  if (count >= sizeof(T) * 8) return V{};
  return std::bit_cast<V>(vector<T>(a) >> static_cast<T>(count));
}
template <class T, class V>
inline V shift_arithmetic(const V& a, u64 count) {
  const u64 by = std::min<u64>(count, sizeof(T) * 8 - 1);
  return std::bit_cast<V>(vector<T>(a) >> static_cast<T>(by));
}
template <class V>
inline V psllw(const V& a, u64 count) { return shift_left<u16>(a, count); }
template <class V>
inline V pslld(const V& a, u64 count) { return shift_left<u32>(a, count); }
template <class V>
inline V psllq(const V& a, u64 count) { return shift_left<u64>(a, count); }
template <class V>
inline V psrlw(const V& a, u64 count) { return shift_right<u16>(a, count); }
template <class V>
inline V psrld(const V& a, u64 count) { return shift_right<u32>(a, count); }
template <class V>
inline V psrlq(const V& a, u64 count) { return shift_right<u64>(a, count); }
template <class V>
inline V psraw(const V& a, u64 count) { return shift_arithmetic<i16>(a, count); }
template <class V>
inline V psrad(const V& a, u64 count) { return shift_arithmetic<i32>(a, count); }

// The top bit of each lane, lane 0 in bit 0.
inline u32 sign_bytes(u64 a) {
  // The product moves bit 8i + 7 to bit 56 + i; no two of its terms meet.
  return static_cast<u32>((a >> 7 & 0x0101'0101'0101'0101) * 0x0102'0408'1020'4080 >> 56);
}
template <class T, class V>
inline u32 sign_mask(V a) {
  u32 r = 0;
  const auto x = lanes<T>(a);
  for (std::size_t i = 0; i < x.size(); ++i)
    r |= static_cast<u32>(x[i] >> (sizeof(T) * 8 - 1)) << i;
  return r;
}

}  // namespace hv::softcpu::simd

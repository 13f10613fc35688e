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

// r[i] = f(a[i], b[i])
template <class T, class V, class F>
inline V lanewise(V a, V b, F&& f) {
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

// ---- lane by lane -----------------------------------------------------------------------------
#define HV_LANEWISE(name, T, expression)                                    \
  template <class V>                                                        \
  inline V name(V a, V b) {                                                 \
    return lanewise<T>(a, b, [](T x, T y) { return expression; });          \
  }
#define HV_LANEWISE_SECOND(name, T, expression)                             \
  template <class V>                                                        \
  inline V name(V, V b) {                                                   \
    return lanewise<T>(b, b, [](T, T y) { return expression; });            \
  }

HV_LANEWISE(paddb, u8, x + y)
HV_LANEWISE(paddw, u16, x + y)
HV_LANEWISE(paddd, u32, x + y)
HV_LANEWISE(paddq, u64, x + y)
HV_LANEWISE(psubb, u8, x - y)
HV_LANEWISE(psubw, u16, x - y)
HV_LANEWISE(psubd, u32, x - y)
HV_LANEWISE(psubq, u64, x - y)
HV_LANEWISE(paddsb, i8, saturate<i8>(x + y))
HV_LANEWISE(paddsw, i16, saturate<i16>(x + y))
HV_LANEWISE(paddusb, u8, saturate<u8>(x + y))
HV_LANEWISE(paddusw, u16, saturate<u16>(x + y))
HV_LANEWISE(psubsb, i8, saturate<i8>(x - y))
HV_LANEWISE(psubsw, i16, saturate<i16>(x - y))
HV_LANEWISE(psubusb, u8, saturate<u8>(x - y))
HV_LANEWISE(psubusw, u16, saturate<u16>(x - y))
HV_LANEWISE(pminub, u8, std::min(x, y))
HV_LANEWISE(pmaxub, u8, std::max(x, y))
HV_LANEWISE(pminsw, i16, std::min(x, y))
HV_LANEWISE(pmaxsw, i16, std::max(x, y))
HV_LANEWISE(pminsb, i8, std::min(x, y))
HV_LANEWISE(pmaxsb, i8, std::max(x, y))
HV_LANEWISE(pminuw, u16, std::min(x, y))
HV_LANEWISE(pmaxuw, u16, std::max(x, y))
HV_LANEWISE(pminsd, i32, std::min(x, y))
HV_LANEWISE(pmaxsd, i32, std::max(x, y))
HV_LANEWISE(pminud, u32, std::min(x, y))
HV_LANEWISE(pmaxud, u32, std::max(x, y))
HV_LANEWISE(pavgb, u8, (x + y + 1) >> 1)
HV_LANEWISE(pavgw, u16, (x + y + 1) >> 1)
HV_LANEWISE(pcmpeqb, u8, mask<u8>(x == y))
HV_LANEWISE(pcmpeqw, u16, mask<u16>(x == y))
HV_LANEWISE(pcmpeqd, u32, mask<u32>(x == y))
HV_LANEWISE(pcmpeqq, u64, mask<u64>(x == y))
HV_LANEWISE(pcmpgtb, i8, mask<u8>(x > y))
HV_LANEWISE(pcmpgtw, i16, mask<u16>(x > y))
HV_LANEWISE(pcmpgtd, i32, mask<u32>(x > y))
HV_LANEWISE(pcmpgtq, i64, mask<u64>(x > y))
HV_LANEWISE(pand, u64, x & y)
HV_LANEWISE(pandn, u64, ~x & y)
HV_LANEWISE(por, u64, x | y)
HV_LANEWISE(pxor, u64, x ^ y)
HV_LANEWISE(pmullw, u16, u32{x} * y)
HV_LANEWISE(pmulld, u32, x * y)
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

#undef HV_LANEWISE
#undef HV_LANEWISE_SECOND

// ---- neighbours -------------------------------------------------------------------------------
// The lower half of the result from pairs of `a`, the upper half from pairs of `b`.
template <class T, class V, class F>
inline V horizontal(V a, V b, F&& f) {
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
inline V phaddw(V a, V b) { return horizontal<u16>(a, b, [](u16 x, u16 y) { return x + y; }); }
template <class V>
inline V phaddd(V a, V b) { return horizontal<u32>(a, b, [](u32 x, u32 y) { return x + y; }); }
template <class V>
inline V phaddsw(V a, V b) {
  return horizontal<i16>(a, b, [](i16 x, i16 y) { return saturate<i16>(x + y); });
}
template <class V>
inline V phsubw(V a, V b) { return horizontal<u16>(a, b, [](u16 x, u16 y) { return x - y; }); }
template <class V>
inline V phsubd(V a, V b) { return horizontal<u32>(a, b, [](u32 x, u32 y) { return x - y; }); }
template <class V>
inline V phsubsw(V a, V b) {
  return horizontal<i16>(a, b, [](i16 x, i16 y) { return saturate<i16>(x - y); });
}

template <class V>
inline V pmaddwd(V a, V b) {
  Lanes<u32, V> r;
  const auto x = lanes<i16>(a), y = lanes<i16>(b);
  for (std::size_t i = 0; i < r.size(); ++i)
    r[i] = static_cast<u32>(x[2 * i] * y[2 * i]) + static_cast<u32>(x[2 * i + 1] * y[2 * i + 1]);
  return join<V, u32>(r);
}
template <class V>
inline V pmaddubsw(V a, V b) {
  Lanes<i16, V> r;
  const auto x = lanes<u8>(a);
  const auto y = lanes<i8>(b);
  for (std::size_t i = 0; i < r.size(); ++i)
    r[i] = saturate<i16>(x[2 * i] * y[2 * i] + x[2 * i + 1] * y[2 * i + 1]);
  return join<V, i16>(r);
}
template <class V>
inline V psadbw(V a, V b) {
  Lanes<u64, V> r{};
  const auto x = lanes<u8>(a), y = lanes<u8>(b);
  for (std::size_t i = 0; i < x.size(); ++i)
    r[i / 8] += static_cast<u64>(x[i] > y[i] ? x[i] - y[i] : y[i] - x[i]);
  return join<V, u64>(r);
}

// ---- packing and interleaving -----------------------------------------------------------------
// Lanes of From to half as wide lanes of To: those of `a`, then those of `b`.
template <class From, class To, class V>
inline V pack(V a, V b) {
  Lanes<To, V> r;
  const auto x = lanes<From>(a), y = lanes<From>(b);
  for (std::size_t i = 0; i < x.size(); ++i) {
    r[i] = saturate<To>(x[i]);
    r[x.size() + i] = saturate<To>(y[i]);
  }
  return join<V, To>(r);
}
template <class V>
inline V packsswb(V a, V b) { return pack<i16, i8>(a, b); }
template <class V>
inline V packuswb(V a, V b) { return pack<i16, u8>(a, b); }
template <class V>
inline V packssdw(V a, V b) { return pack<i32, i16>(a, b); }
inline Xmm packusdw(Xmm a, Xmm b) { return pack<i32, u16>(a, b); }

// a[first], b[first], a[first + 1], b[first + 1] …; first is 0 or the middle.
template <class T, bool kHigh, class V>
inline V interleave(V a, V b) {
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
inline V punpcklbw(V a, V b) { return interleave<u8, false>(a, b); }
template <class V>
inline V punpcklwd(V a, V b) { return interleave<u16, false>(a, b); }
template <class V>
inline V punpckldq(V a, V b) { return interleave<u32, false>(a, b); }
template <class V>
inline V punpckhbw(V a, V b) { return interleave<u8, true>(a, b); }
template <class V>
inline V punpckhwd(V a, V b) { return interleave<u16, true>(a, b); }
template <class V>
inline V punpckhdq(V a, V b) { return interleave<u32, true>(a, b); }
inline Xmm punpcklqdq(Xmm a, Xmm b) { return {a.qword[0], b.qword[0]}; }
inline Xmm punpckhqdq(Xmm a, Xmm b) { return {a.qword[1], b.qword[1]}; }

// ---- shuffles ---------------------------------------------------------------------------------
template <class V>
inline V pshufb(V a, V b) {
  Lanes<u8, V> r;
  const auto x = lanes<u8>(a), y = lanes<u8>(b);
  for (std::size_t i = 0; i < r.size(); ++i)
    r[i] = (y[i] & 0x80) != 0 ? u8{0} : x[y[i] & (r.size() - 1)];
  return join<V, u8>(r);
}
// Bytes of b:a from byte `imm` on; zeros past the end.
template <class V>
inline V palignr(V a, V b, unsigned imm) {
  std::array<u8, 3 * sizeof(V)> both{};
  const auto x = lanes<u8>(a), y = lanes<u8>(b);
  std::copy(y.begin(), y.end(), both.begin());
  std::copy(x.begin(), x.end(), both.begin() + sizeof(V));
  const unsigned from = std::min<unsigned>(imm & 0xff, 2 * sizeof(V));
  Lanes<u8, V> r;
  for (std::size_t i = 0; i < r.size(); ++i) r[i] = both[from + i];
  return join<V, u8>(r);
}
// Two bits of the immediate choose each lane of a group of four.
template <class T, class V>
inline V shuffle4(V from, unsigned imm, std::size_t group) {
  auto r = lanes<T>(from);
  const auto x = r;
  for (unsigned i = 0; i < 4; ++i) r[group + i] = x[group + (imm >> (2 * i) & 3)];
  return join<V, T>(r);
}
inline Mm pshufw(Mm, Mm b, unsigned imm) { return shuffle4<u16>(b, imm, 0); }
inline Xmm pshuflw(Xmm, Xmm b, unsigned imm) { return shuffle4<u16>(b, imm, 0); }
inline Xmm pshufhw(Xmm, Xmm b, unsigned imm) { return shuffle4<u16>(b, imm, 4); }
inline Xmm pshufd(Xmm, Xmm b, unsigned imm) { return shuffle4<u32>(b, imm, 0); }
inline Xmm shufps(Xmm a, Xmm b, unsigned imm) {
  const auto x = lanes<u32>(a), y = lanes<u32>(b);
  return join<Xmm, u32>({x[imm & 3], x[imm >> 2 & 3], y[imm >> 4 & 3], y[imm >> 6 & 3]});
}
inline Xmm shufpd(Xmm a, Xmm b, unsigned imm) { return {a.qword[imm & 1], b.qword[imm >> 1 & 1]}; }
inline Xmm movsldup(Xmm, Xmm b) {
  const auto x = lanes<u32>(b);
  return join<Xmm, u32>({x[0], x[0], x[2], x[2]});
}
inline Xmm movshdup(Xmm, Xmm b) {
  const auto x = lanes<u32>(b);
  return join<Xmm, u32>({x[1], x[1], x[3], x[3]});
}
// A bit of the immediate for each lane: 1 takes it from `b`.
template <class T>
inline Xmm blend(Xmm a, Xmm b, unsigned imm) {
  auto r = lanes<T>(a);
  const auto y = lanes<T>(b);
  for (std::size_t i = 0; i < r.size(); ++i)
    if ((imm >> i & 1) != 0) r[i] = y[i];
  return join<Xmm, T>(r);
}

inline Xmm mpsadbw(Xmm a, Xmm b, unsigned imm) {
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
inline Xmm phminposuw(Xmm, Xmm b) {
  const auto x = lanes<u16>(b);
  const auto least = std::min_element(x.begin(), x.end());
  return {u64{*least} | static_cast<u64>(least - x.begin()) << 16, 0};
}

// ---- shifts -----------------------------------------------------------------------------------
// A count of the lane's width or more shifts everything out.
template <class T, class V>
inline V shift_left(V a, u64 count) {
  if (count >= sizeof(T) * 8) return V{};
  return lanewise<T>(a, a, [count](T x, T) { return u64{x} << count; });
}
template <class T, class V>
inline V shift_right(V a, u64 count) {
  if (count >= sizeof(T) * 8) return V{};
  return lanewise<T>(a, a, [count](T x, T) { return x >> count; });
}
template <class T, class V>
inline V shift_arithmetic(V a, u64 count) {
  const u64 by = std::min<u64>(count, sizeof(T) * 8 - 1);
  return lanewise<T>(a, a, [by](T x, T) { return x >> by; });
}
template <class V>
inline V psllw(V a, u64 count) { return shift_left<u16>(a, count); }
template <class V>
inline V pslld(V a, u64 count) { return shift_left<u32>(a, count); }
template <class V>
inline V psllq(V a, u64 count) { return shift_left<u64>(a, count); }
template <class V>
inline V psrlw(V a, u64 count) { return shift_right<u16>(a, count); }
template <class V>
inline V psrld(V a, u64 count) { return shift_right<u32>(a, count); }
template <class V>
inline V psrlq(V a, u64 count) { return shift_right<u64>(a, count); }
template <class V>
inline V psraw(V a, u64 count) { return shift_arithmetic<i16>(a, count); }
template <class V>
inline V psrad(V a, u64 count) { return shift_arithmetic<i32>(a, count); }

// The top bit of each lane, lane 0 in bit 0.
template <class T, class V>
inline u32 sign_mask(V a) {
  u32 r = 0;
  const auto x = lanes<T>(a);
  for (std::size_t i = 0; i < x.size(); ++i)
    r |= static_cast<u32>(x[i] >> (sizeof(T) * 8 - 1)) << i;
  return r;
}

}  // namespace hv::softcpu::simd

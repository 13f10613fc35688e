// The six arithmetic flags, kept as what they follow from: most are overwritten before anybody
// reads them. An operation stores its result and its carries; the readers below take bits of them.
#pragma once
#include <bit>
#include <concepts>
#include <cstdint>
#include <limits>

namespace hv::softcpu {

class LazyFlags {
 public:
  bool cf() const { return (carries_ >> 63) != 0; }
  bool of() const { return ((carries_ ^ (carries_ << 1)) >> 63) != 0; }
  bool zf() const { return result_ == 0; }
  bool sf() const { return ((result_ ^ fixes_) >> 63) != 0; }
  bool pf() const { return (std::popcount((result_ ^ fixes_) & 0xff) & 1) == 0; }
  bool af() const { return (fixes_ & kAfBit) != 0; }
  // SF != OF, as one expression: the condition of a signed comparison.
  bool less() const { return ((result_ ^ fixes_ ^ carries_ ^ (carries_ << 1)) >> 63) != 0; }

  // The bits of RFLAGS, all others 0.
  std::uint64_t value() const {
    return std::uint64_t{cf()} | std::uint64_t{pf()} << 2 | std::uint64_t{af()} << 4 |
           std::uint64_t{zf()} << 6 | std::uint64_t{sf()} << 7 | std::uint64_t{of()} << 11;
  }
  // All six from an image of RFLAGS.
  void set(std::uint64_t rflags) {
    const std::uint64_t cf = rflags & 1, of = rflags >> 11 & 1, pf = rflags >> 2 & 1;
    result_ = (rflags >> 6 & 1) ^ 1;
    // The result 0 has even parity, 1 has not; bit 0 of the fixes turns either over.
    fixes_ = (rflags >> 7 & 1) << 63 | (rflags >> 4 & 1) << kAfShift | (pf ^ result_ ^ 1);
    carries_ = cf << 63 | (cf ^ of) << 62;
  }
  void set_cf(bool cf) { set_cf_of(cf, of()); }
  void set_cf_of(bool cf, bool of) {
    carries_ = std::uint64_t{cf} << 63 | std::uint64_t{cf != of} << 62;
  }
  void set_zf(bool zf) { set((value() & ~(1ull << 6)) | std::uint64_t{zf} << 6); }

  // SDM Vol. 2, appendix B, "Condition Test Field (tttn)".
  bool condition(unsigned code) const { return plain_condition(code) != ((code & 1) != 0); }
  template <unsigned kCode>
  bool condition() const { return plain_condition(kCode) != ((kCode & 1) != 0); }

  // After r = a + b + carry, and a - b - borrow. Returns r.
  template <std::unsigned_integral T>
  T add(T a, T b, bool carry = false) {
    if constexpr (sizeof(T) == 8) {
      const T r = a + b + carry;
      store_carry_out(r, (a & b) | ((a | b) & ~r));
      return r;
    } else {
      const std::uint64_t wide = std::uint64_t{a} + b + carry;
      store_carry_in<T>(wide, std::uint64_t{a} ^ b ^ wide);
      return static_cast<T>(wide);
    }
  }
  template <std::unsigned_integral T>
  T sub(T a, T b, bool borrow = false) {
    if constexpr (sizeof(T) == 8) {
      const T r = a - b - borrow;
      store_carry_out(r, (~a & b) | ((~a | b) & r));
      return r;
    } else {
      const std::uint64_t wide = std::uint64_t{a} - b - borrow;
      store_carry_in<T>(wide, std::uint64_t{a} ^ b ^ wide);
      return static_cast<T>(wide);
    }
  }
  // After AND, OR, XOR, TEST: CF and OF 0, AF undefined (0, as hardware does).
  template <std::unsigned_integral T>
  T logic(T r) {
    result_ = extend(r);
    carries_ = fixes_ = 0;
    return r;
  }
  // INC and DEC keep CF.
  template <std::unsigned_integral T>
  T inc(T a) {
    const T r = static_cast<T>(a + 1);
    step(r, r == top_bit<T>(), (r & 0xf) == 0);
    return r;
  }
  template <std::unsigned_integral T>
  T dec(T a) {
    const T r = static_cast<T>(a - 1);
    step(r, a == top_bit<T>(), (a & 0xf) == 0);
    return r;
  }
  // Shifts and the like: SF, ZF and PF of the result, AF 0, CF and OF as told.
  template <std::unsigned_integral T>
  void result(T r, bool cf, bool of) {
    result_ = extend(r);
    fixes_ = 0;
    set_cf_of(cf, of);
  }

 private:
  static constexpr unsigned kAfShift = 8;
  static constexpr std::uint64_t kAfBit = 1ull << kAfShift;

  template <class T>
  static constexpr T top_bit() {
    return static_cast<T>(T{1} << (std::numeric_limits<T>::digits - 1));
  }
  template <class T>
  static std::uint64_t extend(T value) {
    return static_cast<std::uint64_t>(
        static_cast<std::int64_t>(static_cast<std::make_signed_t<T>>(value)));
  }
  // `carries`: bit n is the carry out of bit n.
  void store_carry_out(std::uint64_t r, std::uint64_t carries) {
    result_ = r;
    carries_ = carries;
    fixes_ = (carries << (kAfShift - 3)) & kAfBit;
  }
  // `carries`: bit n is the carry into bit n, and the first bit past T the carry out of it.
  template <class T>
  void store_carry_in(std::uint64_t wide, std::uint64_t carries) {
    result_ = extend(static_cast<T>(wide));
    carries_ = carries << (63 - std::numeric_limits<T>::digits);
    fixes_ = (carries << (kAfShift - 4)) & kAfBit;
  }
  template <class T>
  void step(T r, bool of, bool af) {
    result_ = extend(r);
    fixes_ = std::uint64_t{af} << kAfShift;
    const std::uint64_t kept = static_cast<std::uint64_t>(static_cast<std::int64_t>(carries_) >> 1);
    carries_ = ((kept & 3ull << 62)) ^ std::uint64_t{of} << 62;
  }
  bool plain_condition(unsigned code) const {
    switch (code >> 1 & 7) {
      case 0: return of();
      case 1: return cf();
      case 2: return zf();
      case 3: return cf() || zf();
      case 4: return sf();
      case 5: return pf();
      case 6: return less();
      default: return less() || zf();
    }
  }

  std::uint64_t result_ = 1;   // sign-extended to 64 bits; ZF is result_ == 0
  std::uint64_t carries_ = 0;  // bit 63: CF; bit 62: CF xor OF
  // Bit 63 and the low byte turn over what the result says of SF and PF; bit 8 is AF.
  std::uint64_t fixes_ = 1;
};

}  // namespace hv::softcpu

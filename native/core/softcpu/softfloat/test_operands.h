// Operands that find mistakes: special values, exponents at the edges and near each other,
// significands with long runs of equal bits, and plain random ones. Seeded, so that every run is
// the same.
#pragma once
#include <cstdint>
#include <cstdlib>

#include "accel/cpu_state.h"

namespace hv::softfloat::test {

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_{seed} {}

  std::uint64_t next() {  // splitmix64
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  unsigned below(unsigned limit) { return static_cast<unsigned>((next() >> 32) % limit); }

 private:
  std::uint64_t state_;
};

// `bits` low bits: random, or a few runs of equal bits.
inline std::uint64_t significand(Random& random, unsigned bits) {
  const std::uint64_t mask = bits == 64 ? ~0ull : (1ull << bits) - 1;
  switch (random.below(8)) {
    case 0: return 0;
    case 1: return mask;
    case 2: return (1ull << random.below(bits)) & mask;
    case 3: return ~(1ull << random.below(bits)) & mask;
    case 4: return (~0ull << random.below(bits)) & mask;
    case 5: return ((1ull << random.below(bits)) - 1) & mask;
    case 6: return (random.next() << random.below(bits)) & mask;
    default: return random.next() & mask;
  }
}

// A biased exponent of `bits`: near zero, near one, near the top, or anywhere.
inline unsigned exponent(Random& random, unsigned bits) {
  const unsigned top = (1u << bits) - 1, one = top >> 1;
  switch (random.below(8)) {
    case 0: return 0;
    case 1: return top;
    case 2: return 1 + random.below(3);
    case 3: return top - 1 - random.below(3);
    case 4: return (one + random.below(140) - 70) & top;
    case 5: return (one + random.below(8) - 4) & top;
    case 6: return (one / 2 + random.below(140) - 70) & top;  // products and squares at the bottom
    default: return static_cast<unsigned>(random.next()) & top;
  }
}

inline std::uint64_t float_bits(Random& random, unsigned fraction, unsigned exponents) {
  const std::uint64_t sign = random.next() & 1;
  return (sign << (fraction + exponents)) |
         (std::uint64_t{exponent(random, exponents)} << fraction) | significand(random, fraction);
}
inline std::uint32_t float32(Random& random) {
  return static_cast<std::uint32_t>(float_bits(random, 23, 8));
}
inline std::uint64_t float64(Random& random) { return float_bits(random, 52, 11); }

// Of eight, one is an encoding that the x87 does not support or a pseudo-denormal.
inline F80 float80(Random& random) {
  F80 value;
  value.significand = significand(random, 63);
  const unsigned biased = exponent(random, 15);
  const bool integer_bit = biased != 0;
  if (integer_bit != (random.below(8) == 0)) value.significand |= 1ull << 63;
  value.sign_exponent = static_cast<std::uint16_t>(biased | ((random.next() & 1) << 15));
  return value;
}

inline std::int64_t integer(Random& random) {
  const std::int64_t value = static_cast<std::int64_t>(significand(random, 63));
  return (random.next() & 1) != 0 ? ~value : value;
}

// How many cases each operation gets.
inline unsigned cases() {
  const char* const wish = std::getenv("SOFTFLOAT_CASES");
  const unsigned long count = wish != nullptr ? std::strtoul(wish, nullptr, 10) : 0;
  return count != 0 ? static_cast<unsigned>(count) : 20'000;
}

}  // namespace hv::softfloat::test

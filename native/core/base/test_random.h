// A small seeded generator (SplitMix64: Steele, Lea and Flood, "Fast Splittable Pseudorandom
// Number Generators"), so that a test's case is made again from its seed alone.
#pragma once
#include <cstddef>
#include <cstdint>

namespace hv::test {

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_{seed} {}

  std::uint64_t bits() {
    std::uint64_t z = state_ += 0x9e37'79b9'7f4a'7c15;
    z = (z ^ z >> 30) * 0xbf58'476d'1ce4'e5b9;
    z = (z ^ z >> 27) * 0x94d0'49bb'1331'11eb;
    return z ^ z >> 31;
  }
  unsigned below(unsigned limit) { return static_cast<unsigned>((bits() >> 32) * limit >> 32); }
  bool percent(unsigned chance) { return below(100) < chance; }
  std::uint8_t byte() { return static_cast<std::uint8_t>(bits() >> 32); }
  template <class T, std::size_t N>
  T pick(const T (&from)[N]) {
    return from[below(N)];
  }

 private:
  std::uint64_t state_;
};

}  // namespace hv::test

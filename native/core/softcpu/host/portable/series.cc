#include "softcpu/host/portable/series.h"

namespace hv::softcpu::portable {

namespace {

// A term this far below the sum changes nothing.
constexpr std::int32_t kEnough = 130;

bool negligible(const WideFloat& term, const WideFloat& sum) {
  return term.is_zero() || term.exponent < sum.exponent - kEnough;
}

// first + first * q / (d1) + … where `divisor(n)` gives what the nth step divides by.
template <class Divisor>
WideFloat power_series(const WideFloat& first, const WideFloat& factor, Divisor&& divisor) {
  WideFloat sum = first, term = first;
  for (std::uint32_t n = 1; !negligible(term, sum); ++n) {
    term = term * factor / divisor(n);
    sum = sum + term;
  }
  return sum;
}

// first + first * q / 3 + first * q^2 / 5 + …
WideFloat odd_series(const WideFloat& first, const WideFloat& factor) {
  WideFloat sum = first, power = first;
  for (std::uint32_t n = 3; !negligible(power, sum); n += 2) {
    power = power * factor;
    sum = sum + power / n;
  }
  return sum;
}

}  // namespace

WideFloat exp_minus_one(const WideFloat& x) {
  return power_series(x, x, [](std::uint32_t n) { return n + 1; });
}

WideFloat twice_atanh(const WideFloat& x) { return odd_series(x, x * x).scaled(1); }

WideFloat arc_tangent(const WideFloat& x) {
  // tan(pi/8) is about 0.414: above it atan x = pi/4 + atan((x - 1) / (x + 1)).
  const WideFloat limit = from_bits(0xd413cccfe7799211, 0, -2);
  const bool reduce = smaller(limit, x);
  const WideFloat y = reduce ? (x - kOne) / (x + kOne) : x;
  const WideFloat result = odd_series(y, (y * y).negated());
  return reduce ? kPi.scaled(-2) + result : result;
}

SineCosine sine_cosine(const WideFloat& x) {
  const WideFloat square = (x * x).negated();
  return {power_series(x, square, [](std::uint32_t n) { return 2 * n * (2 * n + 1); }),
          power_series(kOne, square, [](std::uint32_t n) { return (2 * n - 1) * 2 * n; })};
}

}  // namespace hv::softcpu::portable

// The portable transcendental functions: known values everywhere; on x86-64 hosts against the
// host's own instructions, special operands exactly and all others to one unit in the last place.
#include "softcpu/host/portable/transcendental.h"

#include "base/test.h"
#include "softcpu/host_x87.h"
#include "softcpu/softfloat/float80.h"
#include "softcpu/softfloat/test_operands.h"

using namespace hv;
using namespace hv::softcpu;
using namespace hv::softfloat::test;

namespace {

constexpr std::uint16_t kNearest = 0x37f;
constexpr F80 kOneF80{0x8000000000000000, 0x3fff}, kTwo{0x8000000000000000, 0x4000};

F80 run(Transcendental which, const F80& st0, const F80& st1 = {}) {
  return portable::transcendental(which, st0, st1, kNearest).first;
}

}  // namespace

TEST(known_values) {
  // log2(2) * 2, atan(1) = pi/4, 2^1 - 1, sin of pi/2 (as hardware cuts it).
  EXPECT(run(Transcendental::kYl2x, kTwo, kTwo) == kTwo);
  EXPECT(run(Transcendental::kPatan, kOneF80, kOneF80) == (F80{0xc90fdaa22168c235, 0x3ffe}));
  EXPECT(run(Transcendental::k2xm1, kOneF80) == kOneF80);
  EXPECT(run(Transcendental::kSin, F80{0xc90fdaa22168c235, 0x3fff}) == kOneF80);
  EXPECT(run(Transcendental::kCos, F80{}) == kOneF80);
  // ln 2 = log2(2) * ln 2.
  EXPECT(run(Transcendental::kYl2x, kTwo, F80{0xb17217f7d1cf79ac, 0x3ffe}) ==
         (F80{0xb17217f7d1cf79ac, 0x3ffe}));
}

TEST(an_argument_out_of_range_sets_c2) {
  const F80 two_to_63{0x8000000000000000, 0x403e};
  EXPECT_EQ(portable::transcendental(Transcendental::kSin, two_to_63, {}, kNearest).status, 0x400);
}

#if defined(__x86_64__)
namespace {

constexpr Transcendental kAll[] = {
    Transcendental::k2xm1, Transcendental::kYl2x, Transcendental::kYl2xp1, Transcendental::kPtan,
    Transcendental::kPatan, Transcendental::kSin, Transcendental::kCos, Transcendental::kSincos};

__extension__ typedef __int128 Signed128;

// Results as points on a line, so that neighbours differ by one.
bool close(const F80& a, const F80& b) {
  if (a == b) return true;
  if ((a.sign_exponent ^ b.sign_exponent) >> 15 != 0) return false;
  const auto place = [](const F80& x) {
    return (static_cast<Signed128>(x.sign_exponent & 0x7fff) << 63) +
           static_cast<Signed128>(x.significand & ~(1ull << 63));
  };
  const Signed128 difference = place(a) - place(b);
  return difference >= -1 && difference <= 1;
}

// Where the architecture defines a result.
bool defined(Transcendental which, const F80& x) {
  const softfloat::Parts parts = softfloat::unpack(x);
  if (!parts.is_finite()) return which != Transcendental::kYl2xp1;
  if (which == Transcendental::k2xm1)
    return parts.exponent < 0 || (parts.exponent == 0 && parts.significand == softfloat::kTop);
  return which != Transcendental::kYl2xp1 || parts.exponent < -2;
}

bool agree(Transcendental which, const F80& x, const F80& y, std::uint16_t control) {
  const TranscendentalResult ours = portable::transcendental(which, x, y, control);
  const TranscendentalResult theirs = host::transcendental(which, x, y, control);
  // Whether a rounding went up, or was one at all, depends on digits far behind the last.
  constexpr unsigned kSure = 0x400 | (softfloat::kAllFlags & ~(softfloat::kInexact |
                                                                softfloat::kUnderflow));
  const bool two = which == Transcendental::kPtan || which == Transcendental::kSincos;
  const bool no_result = (ours.status & 0x400) != 0;
  const bool same = ((ours.status ^ theirs.status) & kSure) == 0 &&
                    (no_result || (close(ours.first, theirs.first) &&
                                   (!two || close(ours.second, theirs.second))));
  if (same) return true;
  std::fprintf(stderr, "%u x %04x:%016llx y %04x:%016llx cw %04x\n", static_cast<unsigned>(which),
               unsigned{x.sign_exponent}, static_cast<unsigned long long>(x.significand),
               unsigned{y.sign_exponent}, static_cast<unsigned long long>(y.significand),
               unsigned{control});
  for (const TranscendentalResult& r : {theirs, ours})
    std::fprintf(stderr, "  %04x:%016llx %04x:%016llx status %04x\n",
                 unsigned{r.first.sign_exponent},
                 static_cast<unsigned long long>(r.first.significand),
                 unsigned{r.second.sign_exponent},
                 static_cast<unsigned long long>(r.second.significand), unsigned{r.status});
  return false;
}

}  // namespace

TEST(agrees_with_the_hosts_instructions) {
  const unsigned count = cases() / 10;
  for (const Transcendental which : kAll) {
    Random random{static_cast<std::uint64_t>(which)};
    int shown = 0;
    for (unsigned i = 0; i < count && shown < 5; ++i) {
      const F80 x = float80(random), y = float80(random);
      const auto control = static_cast<std::uint16_t>(kNearest | random.below(4) << 10);
      if (defined(which, x) && !agree(which, x, y, control)) {
        ++shown;
        EXPECT(false);
      }
    }
  }
}
#endif

TEST_MAIN()

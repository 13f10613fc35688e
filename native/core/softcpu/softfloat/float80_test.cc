// The x87's arithmetic by fixed vectors, on every host. exec_x87_host_test.cc compares it with an
// FPU, operation by operation.
#include "softcpu/softfloat/float80.h"

#include "base/test.h"

using namespace hv;
using namespace hv::softfloat;

namespace {

constexpr F80 kOne{0x8000000000000000, 0x3fff}, kThree{0xc000000000000000, 0x4000};
constexpr F80 kInfinity{0x8000000000000000, 0x7fff};
constexpr F80 kQuiet{0xc000000000000001, 0x7fff}, kSignalling{0x8000000000000007, 0x7fff};
constexpr F80 kUnnormal{0x4000000000000000, 0x3fff};
constexpr F80 kSmallestNormal{0x8000000000000000, 0x0001};
constexpr F80 kLargest{0xffffffffffffffff, 0x7ffe};

FloatStatus with(Rounding rounding, std::uint8_t precision) {
  FloatStatus status;
  status.rounding = rounding;
  status.precision = precision;
  return status;
}

}  // namespace

TEST(a_third_in_every_precision) {
  const struct {
    std::uint8_t precision;
    std::uint64_t nearest, down;
  } cases[] = {{64, 0xaaaaaaaaaaaaaaab, 0xaaaaaaaaaaaaaaaa},
               {53, 0xaaaaaaaaaaaaa800, 0xaaaaaaaaaaaaa800},
               {24, 0xaaaaab0000000000, 0xaaaaaa0000000000}};
  for (const auto& c : cases) {
    FloatStatus nearest = with(Rounding::kNearestEven, c.precision);
    FloatStatus down = with(Rounding::kDown, c.precision);
    EXPECT_EQ(f80_div(unpack(kOne), unpack(kThree), nearest).significand, c.nearest);
    EXPECT_EQ(f80_div(unpack(kOne), unpack(kThree), down).significand, c.down);
    EXPECT_EQ(nearest.flags, kInexact);
    EXPECT(!down.rounded_up);
  }
}

TEST(of_a_quiet_and_a_signalling_nan_the_quiet_one_is_kept) {
  FloatStatus status;
  EXPECT(f80_add(unpack(kSignalling), unpack(kQuiet), status) == kQuiet);
  EXPECT_EQ(status.flags, kInvalid);
}

TEST(of_two_quiet_nans_the_larger_significand_is_kept) {
  const F80 larger{0xc000000000000002, 0xffff};
  FloatStatus status;
  EXPECT(f80_mul(unpack(kQuiet), unpack(larger), status) == larger);
  EXPECT_EQ(status.flags, 0);
}

TEST(unsupported_encodings_are_invalid) {
  FloatStatus status;
  EXPECT(f80_add(unpack(kUnnormal), unpack(kQuiet), status) == kIndefinite80);
  EXPECT_EQ(status.flags, kInvalid);
}

TEST(a_pseudo_denormal_counts_as_the_number_it_shows) {
  const F80 pseudo{0x8000000000000000, 0x0000};
  FloatStatus status;
  EXPECT(f80_compare(unpack(pseudo), unpack(kSmallestNormal), Nans::kQuiet, status) ==
         Relation::kEqual);
  EXPECT_EQ(status.flags, kDenormal);
}

TEST(an_unmasked_overflow_moves_the_exponent) {
  FloatStatus status;
  status.masks = kAllFlags & ~kOverflow;
  const F80 result = f80_add(unpack(kLargest), unpack(kLargest), status);
  EXPECT_EQ(result.sign_exponent, 0x7fff - 24576);
  EXPECT_EQ(result.significand, 0xffffffffffffffff);
  EXPECT_EQ(status.flags, kOverflow);
}

TEST(an_exact_tiny_result_underflows_only_unmasked) {
  const F80 half{0x8000000000000000, 0x3ffe};
  FloatStatus masked;
  EXPECT_EQ(f80_mul(unpack(kSmallestNormal), unpack(half), masked).significand,
            0x4000000000000000);
  EXPECT_EQ(masked.flags, 0);
  FloatStatus unmasked;
  unmasked.masks = kAllFlags & ~kUnderflow;
  EXPECT_EQ(f80_mul(unpack(kSmallestNormal), unpack(half), unmasked).sign_exponent, 24576);
  EXPECT_EQ(unmasked.flags, kUnderflow);
}

TEST(remainders) {
  const Parts seven = parts_of_integer(7), minus_seven = parts_of_integer(-7);
  const Parts four = parts_of_integer(4);
  FloatStatus status;
  const Remainder truncated = f80_remainder(seven, four, Quotient::kTruncated, status);
  EXPECT(truncated.value == f80_of_integer(3));
  EXPECT_EQ(truncated.quotient, 1);
  const Remainder nearest = f80_remainder(minus_seven, four, Quotient::kNearest, status);
  EXPECT(nearest.value == f80_of_integer(1));
  EXPECT_EQ(nearest.quotient, 2);
  const F80 huge{0x8000000000000000, 0x3fff + 100};
  EXPECT(!f80_remainder(unpack(huge), four, Quotient::kTruncated, status).complete);
  EXPECT_EQ(status.flags, 0);
}

TEST(scale_and_extract) {
  FloatStatus status;
  EXPECT(f80_scale(parts_of_integer(3), parts_of_integer(2), status) == f80_of_integer(12));
  const Extracted parts = f80_extract(parts_of_integer(-12), status);
  EXPECT(parts.exponent == f80_of_integer(3));
  EXPECT(parts.significand == (F80{0xc000000000000000, 0xbfff}));
  f80_extract(Parts{}, status);
  EXPECT_EQ(status.flags, kZeroDivide);
}

TEST(narrowing) {
  FloatStatus status;
  EXPECT_EQ(f80_to_f64(unpack(kLargest), status), 0x7ff0000000000000);
  EXPECT_EQ(status.flags, kOverflow | kInexact);
  status = {};
  EXPECT_EQ(f80_to_f32(unpack(kInfinity), status), 0x7f800000u);
  EXPECT_EQ(f80_to_integer(unpack(kInfinity), 16, Rounding::kUp, status), INT16_MIN);
  EXPECT_EQ(status.flags, kInvalid);
}

TEST(packed_decimal) {
  FloatStatus status;
  const Bcd bcd = f80_to_bcd(parts_of_integer(-908), status);
  EXPECT_EQ(bcd.low, 0x908);
  EXPECT_EQ(bcd.high, 0x8000);
  EXPECT(f80_of_bcd(bcd) == f80_of_integer(-908));
  EXPECT_EQ(f80_to_bcd(parts_of_integer(1'000'000'000'000'000'000), status).high, 0xffff);
  EXPECT_EQ(status.flags, kInvalid);
}

TEST_MAIN()

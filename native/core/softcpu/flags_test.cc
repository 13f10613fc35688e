// Every operation on every pair of bytes, against SDM Vol. 1, "Status Flags", written out bit by
// bit; wider operands by the cases where widths differ.
#include "softcpu/flags.h"

#include "base/test.h"

namespace hv::softcpu {

namespace {

constexpr unsigned kC = 0x001, kP = 0x004, kA = 0x010, kZ = 0x040, kS = 0x080, kO = 0x800;

bool even_parity(unsigned byte) {
  int ones = 0;
  for (int bit = 0; bit < 8; ++bit) ones += byte >> bit & 1;
  return ones % 2 == 0;
}

// SF, ZF and PF of a byte.
unsigned of_result(unsigned byte) {
  return (byte >= 0x80 ? kS : 0) | (byte == 0 ? kZ : 0) | (even_parity(byte) ? kP : 0);
}

int as_signed(unsigned byte) { return byte < 0x80 ? static_cast<int>(byte) : static_cast<int>(byte) - 256; }

unsigned after_add(unsigned a, unsigned b, unsigned carry) {
  const unsigned sum = a + b + carry;
  const int total = as_signed(a) + as_signed(b) + static_cast<int>(carry);
  return of_result(sum & 0xff) | (sum > 0xff ? kC : 0) |
         ((a & 15) + (b & 15) + carry > 15 ? kA : 0) | (total < -128 || total > 127 ? kO : 0);
}

unsigned after_sub(unsigned a, unsigned b, unsigned borrow) {
  const int total = as_signed(a) - as_signed(b) - static_cast<int>(borrow);
  return of_result((a - b - borrow) & 0xff) | (a < b + borrow ? kC : 0) |
         ((a & 15) < (b & 15) + borrow ? kA : 0) | (total < -128 || total > 127 ? kO : 0);
}

template <class F>
void for_all_pairs(F&& f) {
  for (unsigned a = 0; a < 256; ++a)
    for (unsigned b = 0; b < 256; ++b) f(static_cast<std::uint8_t>(a), static_cast<std::uint8_t>(b));
}

}  // namespace

TEST(add_and_adc) {
  for_all_pairs([](std::uint8_t a, std::uint8_t b) {
    for (const unsigned carry : {0u, 1u}) {
      LazyFlags flags;
      EXPECT_EQ(flags.add<std::uint8_t>(a, b, carry != 0), (a + b + carry) & 0xff);
      EXPECT_EQ(flags.value(), after_add(a, b, carry));
    }
  });
}

TEST(sub_and_sbb) {
  for_all_pairs([](std::uint8_t a, std::uint8_t b) {
    for (const unsigned borrow : {0u, 1u}) {
      LazyFlags flags;
      EXPECT_EQ(flags.sub<std::uint8_t>(a, b, borrow != 0), (a - b - borrow) & 0xff);
      EXPECT_EQ(flags.value(), after_sub(a, b, borrow));
    }
  });
}

TEST(logic_clears_carry_and_overflow) {
  for (unsigned a = 0; a < 256; ++a) {
    LazyFlags flags;
    flags.set(0x8d5);
    flags.logic(static_cast<std::uint8_t>(a));
    EXPECT_EQ(flags.value(), of_result(a));
  }
}

TEST(inc_and_dec_keep_carry) {
  for (unsigned a = 0; a < 256; ++a) {
    for (const unsigned carry : {0u, 1u}) {
      LazyFlags flags;
      flags.set(carry | kO);
      EXPECT_EQ(flags.inc(static_cast<std::uint8_t>(a)), (a + 1) & 0xff);
      EXPECT_EQ(flags.value(), (after_add(a, 1, 0) & ~kC) | carry);
      flags.set(carry | kO);
      EXPECT_EQ(flags.dec(static_cast<std::uint8_t>(a)), (a - 1) & 0xff);
      EXPECT_EQ(flags.value(), (after_sub(a, 1, 0) & ~kC) | carry);
    }
  }
}

TEST(every_combination_can_be_set) {
  for (unsigned n = 0; n < 64; ++n) {
    const unsigned wanted = (n & 1 ? kC : 0) | (n & 2 ? kP : 0) | (n & 4 ? kA : 0) |
                            (n & 8 ? kZ : 0) | (n & 16 ? kS : 0) | (n & 32 ? kO : 0);
    LazyFlags flags;
    flags.set(wanted | 0x302);
    EXPECT_EQ(flags.value(), wanted);
    EXPECT_EQ(flags.less(), ((wanted & kS) != 0) != ((wanted & kO) != 0));
    flags.set_cf((wanted & kC) == 0);
    EXPECT_EQ(flags.value(), wanted ^ kC);
    flags.set_zf((wanted & kZ) == 0);
    EXPECT_EQ(flags.value(), wanted ^ kC ^ kZ);
  }
}

// SDM Vol. 2, appendix B, "Condition Test Field (tttn)".
TEST(conditions) {
  for (unsigned n = 0; n < 64; ++n) {
    const bool c = n & 1, p = n & 2, z = n & 4, s = n & 8, o = n & 16;
    LazyFlags flags;
    flags.set((c ? kC : 0) | (p ? kP : 0) | (z ? kZ : 0) | (s ? kS : 0) | (o ? kO : 0));
    const bool wanted[16] = {o, !o, c, !c, z, !z, c || z, !c && !z,
                             s, !s, p, !p, s != o, s == o, z || s != o, !z && s == o};
    for (unsigned code = 0; code < 16; ++code) EXPECT_EQ(flags.condition(code), wanted[code]);
  }
}

TEST(wide_operands) {
  LazyFlags flags;
  EXPECT_EQ(flags.add<std::uint64_t>(~0ull, 1), 0ull);
  EXPECT_EQ(flags.value(), kC | kP | kA | kZ);
  EXPECT_EQ(flags.add<std::uint64_t>(~0ull, ~0ull, true), ~0ull);
  EXPECT_EQ(flags.value(), kC | kP | kA | kS);
  EXPECT_EQ(flags.add<std::uint64_t>(0x7fff'ffff'ffff'ffff, 1), 1ull << 63);
  EXPECT_EQ(flags.value(), kO | kS | kP | kA);
  EXPECT_EQ(flags.sub<std::uint64_t>(0, 1), ~0ull);
  EXPECT_EQ(flags.value(), kC | kP | kA | kS);
  EXPECT_EQ(flags.sub<std::uint64_t>(1ull << 63, 1), 0x7fff'ffff'ffff'ffff);
  EXPECT_EQ(flags.value(), kO | kP | kA);
  EXPECT_EQ(flags.sub<std::uint64_t>(5, 5, true), ~0ull);
  EXPECT_EQ(flags.value(), kC | kP | kA | kS);
  EXPECT_EQ(flags.add<std::uint32_t>(0x8000'0000, 0x8000'0000), 0u);
  EXPECT_EQ(flags.value(), kC | kO | kP | kZ);
  EXPECT_EQ(flags.add<std::uint32_t>(0xffff'ffff, 0xffff'ffff, true), 0xffff'ffffu);
  EXPECT_EQ(flags.value(), kC | kP | kA | kS);
  EXPECT_EQ(flags.sub<std::uint32_t>(0, 0xffff'ffff, true), 0u);
  EXPECT_EQ(flags.value(), kC | kP | kA | kZ);
  EXPECT_EQ(flags.sub<std::uint16_t>(0x8000, 1), 0x7fff);
  EXPECT_EQ(flags.value(), kO | kP | kA);
  EXPECT_EQ(flags.inc<std::uint64_t>(~0ull), 0ull);
  EXPECT_EQ(flags.value(), kP | kA | kZ);
  EXPECT_EQ(flags.dec<std::uint32_t>(0x8000'0000), 0x7fff'ffffu);
  EXPECT_EQ(flags.value(), kO | kP | kA);
}

}  // namespace hv::softcpu

TEST_MAIN()

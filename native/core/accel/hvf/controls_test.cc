#include "accel/hvf/controls.h"

#include "base/test.h"

using namespace hv::hvf;

namespace {

// Capabilities with every control of ours allowed and none forced.
Capabilities generous() {
  constexpr std::uint64_t kAll = 0xffff'ffff'0000'0000;
  Capabilities c{kAll, kAll, kAll, kAll, kAll};
  c.cr0_fixed0 = 0x8000'0021;
  c.cr0_fixed1 = 0xffff'ffff;
  c.cr4_fixed0 = 0x2000;
  c.cr4_fixed1 = 0x37'27ff;
  return c;
}

}  // namespace

TEST(a_host_with_everything_gives_everything) {
  const Controls c = negotiate(generous());
  EXPECT_EQ(c.missing, "");
  EXPECT(c.unrestricted() && c.rdtscp() && c.invpcid() && c.pause_loops() && c.pat());
  EXPECT_EQ(c.pin, 0x29u);  // external interrupts, NMIs, virtual NMIs
  EXPECT_EQ(c.primary & 1u << 7, 1u << 7);
  EXPECT_EQ(c.primary & (1u << 2 | 1u << 22), 0u);  // no window yet
  EXPECT_EQ(c.secondary & 3, 2u);                   // EPT, and no virtual APIC
  EXPECT_EQ(c.cr0_must, 0x20u);                     // PE and PG may be clear
}

TEST(what_the_host_insists_on_is_taken) {
  Capabilities offered = generous();
  offered.primary |= 1u << 15 | 1u << 16;
  offered.pin |= 0x16;
  const Controls c = negotiate(offered);
  EXPECT_EQ(c.primary >> 15 & 3, 3u);
  EXPECT_EQ(c.pin, 0x3fu);
}

TEST(what_is_missing_is_named) {
  Capabilities offered = generous();
  offered.secondary = 0;
  offered.pin &= ~(std::uint64_t{1u << 5} << 32);
  offered.primary &= ~(std::uint64_t{1u << 22} << 32);
  const Controls c = negotiate(offered);
  EXPECT_EQ(c.missing, "virtual NMIs, extended page tables, NMI-window exiting");
  EXPECT(!c.unrestricted());
  EXPECT_EQ(c.cr0_must, 0x8000'0021u);
}

TEST(pat_needs_both_of_its_controls) {
  Capabilities offered = generous();
  offered.exit &= ~(std::uint64_t{1u << 18} << 32);
  EXPECT(!negotiate(offered).pat());
}

TEST_MAIN()

#include "time/hpet.h"

#include "base/state.h"
#include "base/test.h"
#include "irq/test_rig.h"
#include "time/pit.h"

using namespace hv;

namespace {

constexpr GuestNs kTick = 40;

struct Board : test::Rig {
  Hpet hpet{*fabric, time.timers};
  std::uint64_t reg(std::uint64_t at) { return hpet.read(at, 8); }
  void reg(std::uint64_t at, std::uint64_t value) { hpet.write(at, 8, value); }
  unsigned count(unsigned vector, GuestNs span) {
    unsigned seen = 0;
    for (GuestNs at = 0; at < span; at += 50'000) {
      time.advance(50'000);
      if (acknowledge() == vector) ++seen, eoi();
    }
    return seen;
  }
};

}  // namespace

TEST(capabilities) {
  Board board;
  // 40 ns, vendor 8086, legacy replacement, 64 bits, four comparators, revision 1.
  EXPECT_EQ(board.reg(0), 0x02625a00'8086a301u);
  EXPECT_EQ(board.hpet.read(0, 4), 0x8086a301u);
  EXPECT_EQ(board.hpet.read(4, 4), 40'000'000u);
  EXPECT_EQ(board.reg(0x100), 0x00f00000'00008030u);
}

TEST(counter_counts_while_enabled) {
  Board board;
  board.time.advance(1'000'000);
  EXPECT_EQ(board.reg(0xf0), 0u);
  board.reg(0xf0, 0x1'0000'0000);
  board.reg(0x10, 1);
  board.time.advance(100 * kTick);
  EXPECT_EQ(board.reg(0xf0), 0x1'0000'0064u);
  EXPECT_EQ(board.hpet.read(0xf4, 4), 1u);
  board.reg(0xf0, 7);  // ignored while it runs
  EXPECT_EQ(board.reg(0xf0), 0x1'0000'0064u);
  board.reg(0x10, 0);
  board.time.advance(1'000'000);
  EXPECT_EQ(board.reg(0xf0), 0x1'0000'0064u);
}

TEST(one_shot_edge_through_the_ioapic) {
  Board board;
  board.route(20, 0x71);
  board.reg(0x10, 1);
  board.reg(0x100, 20u << 9 | 4);
  board.reg(0x108, 25'000);
  board.time.advance(1'000'000 - 1);
  EXPECT(!board.intr());
  board.time.advance(1);
  EXPECT_EQ(board.acknowledge(), 0x71u);
  board.eoi();
  board.time.advance(100'000'000);
  EXPECT(!board.intr());
}

TEST(level_interrupts_hold_until_the_status_is_cleared) {
  Board board;
  board.route(21, 0x72 | 1u << 15);
  board.reg(0x10, 1);
  board.reg(0x140, 21u << 9 | 4 | 2);
  board.reg(0x148, 1000);
  board.time.advance(2000 * kTick);
  EXPECT_EQ(board.reg(0x20), 4u);
  EXPECT_EQ(board.acknowledge(), 0x72u);
  board.eoi();
  EXPECT_EQ(board.acknowledge(), 0x72u);
  board.reg(0x20, 4);
  board.eoi();
  EXPECT(!board.intr());
  EXPECT_EQ(board.reg(0x20), 0u);
}

TEST(periodic_by_fsb_message) {
  Board board;
  board.reg(0x10, 1);
  board.reg(0x110, 0xfee00000ull << 32 | 0x55);
  board.reg(0x100, 1u << 14 | 1u << 6 | 8 | 4);
  board.reg(0x108, 25'000);  // first match and, with it, the period
  board.reg(0x108, 25'000);
  EXPECT_EQ(board.count(0x55, 50'000'000), 50u);
  EXPECT_EQ(board.reg(0x108), 51u * 25'000);
  board.time.jump(1'000'000'000);  // late: 16 of a thousand, then on
  const unsigned late = board.count(0x55, 20'000'000);
  EXPECT(late >= 35 && late <= 38);
}

TEST(legacy_replacement_takes_the_wires_of_pit_and_rtc) {
  Board board;
  Pit pit{*board.fabric, board.time.timers};
  board.init_pic(0x20, 0x28, 0xfffe);
  pit.write(0x43, 1, 0x34), pit.write(0x40, 1, 0), pit.write(0x40, 1, 0x10);
  board.reg(0x100, 1u << 6 | 8 | 4);
  board.reg(0x108, 250'000);  // 10 ms
  board.reg(0x108, 250'000);
  board.reg(0x10, 3);
  while (board.acknowledge() == 0x20) board.out(0x20, 0x20);
  unsigned ticks = 0;
  for (int i = 0; i < 1000; ++i) {
    board.time.advance(100'000);
    if (board.acknowledge() == 0x20) ++ticks, board.out(0x20, 0x20);
  }
  EXPECT_EQ(ticks, 10u);
  // And through IO-APIC pin 2, as Linux has it.
  board.out(0x21, 0xff);
  board.route(2, 0x30);
  EXPECT(board.count(0x30, 100'000'000) >= 10);
  board.reg(0x10, 1);
  board.route(2, 0x30);
  EXPECT(board.count(0x30, 100'000'000) >= 28);  // the PIT again: 4096 ticks
}

TEST(thirty_two_bit_comparators_wrap) {
  Board board;
  board.route(20, 0x71);
  board.reg(0xf0, 0x1'ffff'ff00);
  board.reg(0x100, 20u << 9 | 1u << 8 | 4);
  board.reg(0x108, 0x100);
  board.reg(0x10, 1);
  board.time.advance(0x1ff * kTick);
  EXPECT(!board.intr());
  board.time.advance(1 * kTick);
  EXPECT_EQ(board.acknowledge(), 0x71u);
  board.eoi();
  board.time.advance((1ull << 32) * kTick);
  EXPECT_EQ(board.acknowledge(), 0x71u);
}

TEST(unheard_comparators_arm_nothing) {
  Board board;
  board.reg(0x10, 1);
  board.reg(0x100, 20u << 9 | 1u << 6 | 8 | 4);
  board.reg(0x108, 1000);
  board.reg(0x108, 1000);
  EXPECT(!board.time.timers.next_due().has_value());
  board.time.advance(1'000'000'000);
  EXPECT(board.reg(0x108) > 25'000'000u);
  board.route(20, 0x71);
  EXPECT(board.time.timers.next_due().has_value());
}

TEST(a_comparator_behind_the_counter_is_never_met) {
  Board board;
  board.route(20, 0x71);
  board.reg(0x10, 1);
  board.time.advance(1'000'000);
  board.reg(0x100, 20u << 9 | 4);
  board.reg(0x108, 5);
  EXPECT(!board.time.timers.next_due().has_value());
  board.reg(0x108, ~0ull);  // so far that it must not wrap
  board.time.advance(1'000'000);
  EXPECT(!board.intr());
}

TEST(odd_accesses_do_no_harm) {
  Board board;
  for (std::uint64_t at = 0; at < 0x400; ++at)
    for (const unsigned size : {1u, 2u, 4u, 8u}) {
      board.hpet.read(at, size);
      board.hpet.write(at, size, ~0ull);
      board.hpet.write(at, size, at * 0x9e3779b97f4a7c15);
      board.time.advance(1'000);
    }
}

TEST(state_goes_through_its_serialized_form) {
  Board board;
  board.reg(0x110, 0xfee00000ull << 32 | 0x55);
  board.reg(0x100, 1u << 14 | 4);
  board.reg(0x108, 25'000);
  board.reg(0x10, 1);
  board.time.advance(400'000);
  const auto saved = state::save(board.hpet.state());
  Board other;
  other.time.advance(400'000);
  HpetState state;
  EXPECT_EQ(state::restore(saved, state), std::string{});
  other.hpet.set_state(state);
  EXPECT_EQ(other.reg(0xf0), 10'000u);
  other.time.advance(600'000);
  EXPECT_EQ(other.acknowledge(), 0x55u);
}

TEST_MAIN()

#include "time/rtc.h"

#include "base/state.h"
#include "base/test.h"
#include "irq/test_rig.h"
#include "time/civil.h"

using namespace hv;

namespace {

// 2024-02-29 12:34:56 UTC, a Thursday.
constexpr std::int64_t kStart = 1'709'210'096;

struct Board : test::Rig {
  std::int64_t wall_offset = kStart * 1'000'000'000;
  Rtc rtc;
  explicit Board(RtcConfig config = {})
      : rtc{*fabric, time.timers, config, [this] {
              return wall_offset + static_cast<std::int64_t>(time.clock.now());
            }} {}
  unsigned get(unsigned index) {
    rtc.write(0x70, 1, index);
    return rtc.read(0x71, 1);
  }
  void set(unsigned index, unsigned value) {
    rtc.write(0x70, 1, index);
    rtc.write(0x71, 1, value);
  }
  void expect_date(std::initializer_list<unsigned> date) {
    const unsigned at[] = {0x32, 9, 8, 7, 4, 2, 0};
    const unsigned* index = at;
    for (const unsigned value : date) EXPECT_EQ(get(*index++), value);
  }
  unsigned interrupts(GuestNs span) {
    unsigned seen = 0;
    for (GuestNs passed = 0; passed < span; passed += 50'000) {
      time.advance(50'000);
      if (acknowledge() != 0x28) continue;
      ++seen;
      EXPECT(get(0x0c) & 0x80);
      out(0xa0, 0x20), out(0x20, 0x20);
    }
    return seen;
  }
};

}  // namespace

TEST(shows_the_hosts_date_in_bcd) {
  Board board;
  board.expect_date({0x20, 0x24, 0x02, 0x29, 0x12, 0x34, 0x56});
  EXPECT_EQ(board.get(6), 5u);  // Thursday
  board.time.advance(4'000'000'000);
  board.expect_date({0x20, 0x24, 0x02, 0x29, 0x12, 0x35, 0x00});
  EXPECT_EQ(board.get(0x0d), 0x80u);
  EXPECT_EQ(board.get(0x0b), 0x02u);
}

TEST(binary_and_twelve_hour_formats) {
  Board board;
  board.set(0x0b, 0x06);
  board.expect_date({20, 24, 2, 29, 12, 34, 56});
  board.set(0x0b, 0x00);
  EXPECT_EQ(board.get(4), 0x92u);  // 12 PM
  board.time.advance(3'600'000'000'000);
  EXPECT_EQ(board.get(4), 0x81u);
  board.time.advance(11 * 3'600'000'000'000ull);
  EXPECT_EQ(board.get(4), 0x12u);  // midnight is 12 AM
  EXPECT_EQ(board.get(7), 0x01u);
  EXPECT_EQ(board.get(8), 0x03u);
}

TEST(a_date_that_is_set_stays_set) {
  Board board;
  board.set(0x0b, 0x82);
  const unsigned at[] = {0x32, 9, 8, 7, 4, 2, 0};
  const unsigned values[] = {0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x58};
  for (unsigned i = 0; i < 7; ++i) board.set(at[i], values[i]);
  board.time.advance(10'000'000'000);
  EXPECT_EQ(board.get(0), 0x58u);  // held
  board.set(0x0b, 0x02);
  board.time.advance(3'000'000'000);
  board.expect_date({0x20, 0x00, 0x01, 0x01, 0x00, 0x00, 0x01});
  EXPECT_EQ(board.get(6), 7u);  // a Saturday
  board.set(4, 0x07);           // and without SET
  EXPECT_EQ(board.get(4), 0x07u);
  board.time.advance(60'000'000'000);
  EXPECT_EQ(board.get(2), 0x01u);
  EXPECT_EQ(board.rtc.guest_seconds() % 86'400, 7 * 3600 + 61);
}

TEST(update_in_progress_is_set_just_before_the_second) {
  Board board;
  EXPECT_EQ(board.get(0x0a), 0x26u);
  board.time.advance(997'000'000);
  EXPECT_EQ(board.get(0x0a), 0x26u);
  board.time.advance(2'000'000);
  EXPECT_EQ(board.get(0x0a), 0xa6u);
  board.time.advance(1'000'000);
  EXPECT_EQ(board.get(0x0a), 0x26u);
}

TEST(periodic_interrupts_from_2_to_8192_hertz) {
  Board board;
  board.init_pic(0x20, 0x28, 0xfefb);
  board.set(0x0b, 0x42);
  const unsigned rates[][2] = {{15, 2}, {10, 64}, {6, 1024}, {3, 8192}, {1, 256}, {2, 128}};
  for (const auto& [rate, hertz] : rates) {
    board.set(0x0a, 0x20 | rate);
    board.get(0x0c);
    const unsigned seen = board.interrupts(2'000'000'000);
    EXPECT(seen + 1 >= hertz * 2 && seen <= hertz * 2 + 1);
  }
  board.set(0x0a, 0x20);
  board.get(0x0c);
  EXPECT_EQ(board.interrupts(1'000'000'000), 0u);
}

TEST(no_periodic_tick_without_reading_register_c) {
  Board board;
  board.init_pic(0x20, 0x28, 0xfefb);
  board.set(0x0b, 0x42);
  board.time.advance(10'000'000);
  EXPECT_EQ(board.acknowledge(), 0x28u);
  board.out(0xa0, 0x20), board.out(0x20, 0x20);
  EXPECT(!board.time.timers.next_due().has_value());
  board.time.advance(100'000'000);
  EXPECT(!board.intr());
  EXPECT_EQ(board.get(0x0c) & 0xc0, 0xc0u);
  EXPECT(board.time.timers.next_due().has_value());
}

TEST(update_ended_interrupts_once_a_second) {
  Board board;
  board.init_pic(0x20, 0x28, 0xfefb);
  board.set(0x0b, 0x12);
  EXPECT_EQ(board.interrupts(5'000'000'000), 5u);
}

TEST(alarms_with_and_without_wildcards) {
  Board board;
  board.init_pic(0x20, 0x28, 0xfefb);
  board.set(5, 0x12), board.set(3, 0x35), board.set(1, 0x10);
  board.set(0x0b, 0x22);
  board.get(0x0c);
  board.time.advance(13'000'000'000);
  EXPECT(!board.intr());
  board.time.advance(1'000'000'000);
  EXPECT(board.intr());
  EXPECT_EQ(board.acknowledge(), 0x28u);
  EXPECT_EQ(board.get(0x0c) & 0xa0, 0xa0u);
  board.out(0xa0, 0x20), board.out(0x20, 0x20);
  board.set(5, 0xff), board.set(3, 0xc0);  // every minute
  EXPECT_EQ(board.interrupts(180'000'000'000), 3u);
  board.set(1, 0x75);  // a second that never is
  board.get(0x0c);
  EXPECT(!board.time.timers.next_due().has_value());
}

TEST(flags_are_polled_without_any_timer) {
  Board board;
  board.get(0x0c);
  board.time.advance(1'100'000'000);
  EXPECT(!board.time.timers.next_due().has_value());
  EXPECT_EQ(board.get(0x0c), 0x50u);
  EXPECT_EQ(board.get(0x0c), 0x00u);
}

TEST(memory_sizes_century_and_ram) {
  Board board{{.memory_below_4g = 1ull << 30, .memory_above_4g = 5ull << 30}};
  EXPECT_EQ(board.get(0x15) | board.get(0x16) << 8, 640u);
  EXPECT_EQ(board.get(0x17) | board.get(0x18) << 8, 0xffffu);
  EXPECT_EQ(board.get(0x34) | board.get(0x35) << 8, (1024u - 16) * 16);
  EXPECT_EQ(board.get(0x5b) | board.get(0x5c) << 8 | board.get(0x5d) << 16, 5u * 1024 * 16);
  board.set(0x0f, 0x5a);
  EXPECT_EQ(board.get(0x0f), 0x5au);
  board.set(0x0d, 0);
  EXPECT_EQ(board.get(0x0d), 0x80u);
  EXPECT_EQ(board.rtc.read(0x70, 1), 0xffu);
  EXPECT(board.rtc.nmi_enabled());
  board.rtc.write(0x70, 1, 0x8f);
  EXPECT(!board.rtc.nmi_enabled());
  EXPECT_EQ(board.rtc.read(0x71, 1), 0x5au);
  board.rtc.write(0x70, 2, 0xa50f);  // index and data at once
  EXPECT_EQ(board.get(0x0f), 0xa5u);
}

TEST(a_wall_clock_set_back_does_not_confuse) {
  Board board;
  board.set(0x0b, 0x32);
  board.wall_offset -= 3'600'000'000'000;
  EXPECT_EQ(board.get(4), 0x11u);
  board.get(0x0c);
  board.time.advance(2'000'000'000);
  EXPECT_EQ(board.get(0x0c) & 0x10, 0x10u);
}

TEST(calendar_goes_there_and_back) {
  for (std::int64_t day = -800'000; day < 800'000; day += 97)
    EXPECT_EQ(days_of(civil_of(day)), day);
}

TEST(every_byte_may_be_written) {
  Board board;
  for (unsigned b : {0x02u, 0x00u, 0x04u, 0x06u, 0x82u, 0xffu, 0x7fu})
    for (unsigned index = 0; index < 128; ++index)
      for (const unsigned value : {0u, 0xffu, 0x99u, 0x55u, 0xaau}) {
        board.set(0x0b, b);
        board.set(index, value);
        board.get(index);
        board.time.advance(100'000'000);
      }
}

TEST(state_goes_through_its_serialized_form) {
  Board board;
  board.set(4, 0x07);
  board.set(0x40, 0x77);
  const auto saved = state::save(board.rtc.state());
  Board other;
  RtcState state;
  EXPECT_EQ(state::restore(saved, state), std::string{});
  EXPECT(state.offset < 0);
  other.rtc.set_state(state);
  EXPECT_EQ(other.get(4), 0x07u);
  EXPECT_EQ(other.get(0x40), 0x77u);
}

TEST_MAIN()

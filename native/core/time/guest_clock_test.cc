#include "base/state.h"
#include "base/test.h"
#include "time/manual_time.h"
#include "time/pm_timer.h"
#include "time/ticks.h"

using namespace hv;

TEST(stands_at_zero_until_resumed_and_while_paused) {
  ManualHostClock host;
  GuestClock clock{host};
  host.set(5'000'000'000);
  EXPECT_EQ(clock.now(), 0u);
  clock.resume();
  host.set(5'000'000'100);
  EXPECT_EQ(clock.now(), 100u);
  clock.pause();
  clock.pause();
  host.set(9'000'000'000);
  EXPECT_EQ(clock.now(), 100u);
  clock.resume();
  host.set(9'000'000'001);
  EXPECT_EQ(clock.now(), 101u);
}

TEST(restores_only_while_paused) {
  ManualTime time;
  GuestClockState saved{123'456'789};
  EXPECT(!time.clock.set_state(saved));
  time.clock.pause();
  EXPECT(time.clock.set_state(saved));
  EXPECT_EQ(time.clock.now(), 123'456'789u);
  EXPECT_EQ(time.clock.state().now, 123'456'789u);
}

TEST(tsc_runs_at_two_and_a_half_gigahertz_exactly) {
  ManualTime time;
  time.advance(1);
  EXPECT_EQ(time.clock.tsc(), 2u);
  time.advance(1);
  EXPECT_EQ(time.clock.tsc(), 5u);
  time.advance(999'999'998);
  EXPECT_EQ(time.clock.tsc(), 2'500'000'000u);
}

TEST(ticks_and_their_times_agree_for_every_clock) {
  for (const std::uint64_t hz : {1'193'182ull, 3'579'545ull, 25'000'000ull, 32'768ull})
    for (const std::uint64_t tick : {0ull, 1ull, 2ull, 999ull, 1'193'182ull, 12'345'678'901ull}) {
      const GuestNs at = time_of(tick, hz);
      EXPECT_EQ(ticks_at(at, hz), tick);
      if (at > 0) EXPECT(ticks_at(at - 1, hz) < tick);
    }
  EXPECT_EQ(time_of(~0ull, 25'000'000), ~0ull);
}

TEST(pm_timer_counts_at_its_frequency_and_reads_in_any_width) {
  ManualTime time;
  PmTimer timer{time.clock};
  time.advance(1'000'000'000);
  EXPECT_EQ(timer.read(0, 4), 3'579'545u);
  EXPECT_EQ(timer.read(0, 2), 3'579'545u & 0xffff);
  EXPECT_EQ(timer.read(2, 1), 3'579'545u >> 16 & 0xff);
  EXPECT_EQ(timer.read(3, 2), 0xff00u | (3'579'545u >> 24));
  EXPECT_EQ(timer.read(7, 4), 0xffffffffu);
  // 2^32 / 3.579545 MHz is 1199.8 s: it wraps, with all 32 bits.
  time.advance(1'199'000'000'000);
  EXPECT_EQ(timer.read(0, 4), static_cast<std::uint32_t>(1200ull * 3'579'545));
}

TEST(late_ticks_come_one_at_a_time_up_to_a_bound) {
  TickPacer pacer;
  int given = 0;
  while (pacer.take(100)) ++given;
  EXPECT_EQ(given, 16);
  EXPECT(!pacer.take(100));
  EXPECT(pacer.take(101));
}

TEST_MAIN()

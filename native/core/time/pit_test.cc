#include "time/pit.h"

#include "base/state.h"
#include "base/test.h"
#include "irq/test_rig.h"

using namespace hv;

namespace {

// ns in which `ticks` of 1.193182 MHz have passed for certain.
constexpr GuestNs ns(std::uint64_t ticks) {
  return (ticks * 1'000'000'000 + 1'193'181) / 1'193'182;
}

struct Board : test::Rig {
  Pit pit{*fabric, time.timers};
  void program(unsigned port, unsigned control, unsigned count) {
    pit.write(0x43, 1, control);
    pit.write(static_cast<std::uint16_t>(port), 1, count & 0xff);
    pit.write(static_cast<std::uint16_t>(port), 1, count >> 8);
  }
  unsigned latched(unsigned channel) {
    pit.write(0x43, 1, channel << 6);
    const auto port = static_cast<std::uint16_t>(0x40 + channel);
    const unsigned low = pit.read(port, 1);
    return low | pit.read(port, 1) << 8;
  }
  unsigned status(unsigned channel) {
    pit.write(0x43, 1, 0xe0 | 2u << channel);
    return pit.read(static_cast<std::uint16_t>(0x40 + channel), 1);
  }
  bool out2() { return (pit.read(0x61, 1) & 0x20) != 0; }
  unsigned ticks_in(GuestNs span) {
    unsigned ticks = 0;
    for (GuestNs at = 0; at < span; at += 50'000) {
      time.advance(50'000);
      if (acknowledge() == 0x20) ++ticks, out(0x20, 0x20);
    }
    return ticks;
  }
};

}  // namespace

TEST(mode_0_counts_down_once_and_raises_out) {
  Board board;
  board.pit.write(0x61, 1, 1);
  board.program(0x42, 0xb0, 1000);
  EXPECT(!board.out2());
  board.time.advance(ns(400));
  EXPECT_EQ(board.latched(2), 600u);
  board.time.advance(ns(590));
  EXPECT(!board.out2());
  board.time.advance(ns(20));
  EXPECT(board.out2());
  EXPECT(board.latched(2) > 0xff00);  // it goes on from 0xffff
  board.pit.write(0x42, 1, 5);          // the first byte stops it, and OUT falls
  EXPECT(!board.out2());
}

TEST(mode_0_stands_while_the_gate_is_low) {
  Board board;
  board.pit.write(0x61, 1, 1);
  board.program(0x42, 0xb0, 1000);
  board.time.advance(ns(300));
  board.pit.write(0x61, 1, 0);
  const unsigned stood = board.latched(2);
  board.time.advance(ns(5000));
  EXPECT_EQ(board.latched(2), stood);
  board.pit.write(0x61, 1, 1);
  board.time.advance(ns(100));
  EXPECT(stood - board.latched(2) >= 99 && stood - board.latched(2) <= 101);
}

TEST(mode_1_is_triggered_by_the_gate) {
  Board board;
  board.program(0x42, 0xb2, 100);
  EXPECT(board.out2());
  board.time.advance(ns(1000));
  EXPECT(board.out2());
  board.pit.write(0x61, 1, 1);
  board.time.advance(ns(50));
  EXPECT(!board.out2());
  board.pit.write(0x61, 1, 0), board.pit.write(0x61, 1, 1);  // retriggered
  board.time.advance(ns(80));
  EXPECT(!board.out2());
  board.time.advance(ns(30));
  EXPECT(board.out2());
}

TEST(mode_2_reloads_and_interrupts_at_its_rate) {
  Board board;
  board.init_pic(0x20, 0x28, 0xfffe);
  board.program(0x40, 0x34, 11932);  // 100 Hz
  EXPECT_EQ(board.ticks_in(1'000'000'000), 100u);
  EXPECT_EQ(board.status(0) & 0x3f, 0x34u);
  const unsigned count = board.latched(0);
  EXPECT(count >= 1 && count <= 11932);
}

TEST(mode_3_is_a_square_wave_that_counts_by_two) {
  Board board;
  board.pit.write(0x61, 1, 1);
  board.program(0x42, 0xb6, 1000);
  EXPECT(board.out2());
  board.time.advance(ns(100));
  EXPECT_EQ(board.latched(2), 800u);
  board.time.advance(ns(410));
  EXPECT(!board.out2());
  board.time.advance(ns(500));
  EXPECT(board.out2());
  board.pit.write(0x61, 1, 0);  // a low gate sets OUT high
  EXPECT(board.out2());
  Board ticking;
  ticking.init_pic(0x20, 0x28, 0xfffe);
  ticking.program(0x40, 0x36, 0);  // 65,536: 18.2 Hz
  ticking.ticks_in(1);            // OUT rose with the control word
  EXPECT_EQ(ticking.ticks_in(10'000'000'000), 182u);
}

TEST(mode_4_strobes_once_when_the_count_is_written) {
  Board board;
  board.init_pic(0x20, 0x28, 0xfffe);
  board.program(0x40, 0x38, 1193);
  board.ticks_in(1);  // OUT rose with the control word
  EXPECT_EQ(board.ticks_in(900'000), 0u);
  EXPECT_EQ(board.ticks_in(10'000'000), 1u);
  board.pit.write(0x40, 1, 1193 & 0xff), board.pit.write(0x40, 1, 1193 >> 8);
  EXPECT_EQ(board.ticks_in(10'000'000), 1u);
}

TEST(mode_5_strobes_after_a_trigger) {
  Board board;
  board.program(0x42, 0xba, 100);
  board.time.advance(ns(500));
  EXPECT(board.out2());
  board.pit.write(0x61, 1, 1);
  board.time.advance(ns(100));
  EXPECT(!board.out2());
  board.time.advance(ns(2));
  EXPECT(board.out2());
}

TEST(bytes_latches_and_bcd) {
  Board board;
  board.pit.write(0x61, 1, 1);
  board.pit.write(0x43, 1, 0x90);  // channel 2, low byte only, mode 0
  board.pit.write(0x42, 1, 0x80);
  EXPECT_EQ(board.pit.read(0x42, 1), 0x80u);
  board.pit.write(0x43, 1, 0xa0);  // high byte only
  board.pit.write(0x42, 1, 0x12);
  board.time.advance(ns(0x100));
  EXPECT_EQ(board.pit.read(0x42, 1), 0x11u);
  board.program(0x42, 0xb1, 0x1000);  // BCD
  board.time.advance(ns(1));
  EXPECT_EQ(board.latched(2), 0x0999u);
  board.program(0x42, 0xb0, 5000);
  board.pit.write(0x43, 1, 0x80);
  board.time.advance(ns(1000));
  board.pit.write(0x43, 1, 0x80);  // a second latch is ignored
  EXPECT_EQ(board.pit.read(0x42, 1) | board.pit.read(0x42, 1) << 8, 5000u);
  EXPECT(board.latched(2) < 4010);
}

TEST(read_back_latches_status_before_count) {
  Board board;
  board.pit.write(0x61, 1, 1);
  board.pit.write(0x43, 1, 0xb4);
  EXPECT_EQ(board.status(2), 0xf4u);  // OUT high, null count, both bytes, mode 2
  board.pit.write(0x42, 1, 0xe8), board.pit.write(0x42, 1, 0x03);
  board.pit.write(0x43, 1, 0xc8);  // status and count of channel 2
  EXPECT_EQ(board.pit.read(0x42, 1), 0xb4u);
  EXPECT_EQ(board.pit.read(0x42, 1) | board.pit.read(0x42, 1) << 8, 1000u);
}

TEST(a_new_count_waits_for_the_end_of_the_period) {
  Board board;
  board.init_pic(0x20, 0x28, 0xfffe);
  board.program(0x40, 0x34, 11932);
  board.time.advance(ns(6000));
  board.pit.write(0x40, 1, 1193 & 0xff), board.pit.write(0x40, 1, 1193 >> 8);
  EXPECT_EQ(board.status(0) & 0x40, 0x40u);
  const unsigned left = board.latched(0);
  EXPECT(left > 5900 && left < 5940);
  EXPECT(board.ticks_in(4'900'000) <= 1u);
  EXPECT(board.ticks_in(100'000'000) >= 99u);
}

TEST(port_61_has_the_speaker_bits_and_the_refresh_toggle) {
  Board board;
  board.pit.write(0x61, 1, 0xff);
  EXPECT_EQ(board.pit.read(0x61, 1) & 0xcf, 0x0fu);
  unsigned toggles = 0;
  bool last = false;
  for (int i = 0; i < 1000; ++i) {
    board.time.advance(1'000);
    const bool bit = (board.pit.read(0x61, 1) & 0x10) != 0;
    toggles += bit != last;
    last = bit;
  }
  EXPECT(toggles >= 65 && toggles <= 67);  // 1 ms / 15.085 µs
}

TEST(an_unheard_timer_arms_nothing_and_comes_back_with_one_tick) {
  Board board;
  board.program(0x40, 0x34, 1193);
  EXPECT(!board.time.timers.next_due().has_value());
  board.time.advance(500'000'000);
  board.init_pic(0x20, 0x28, 0xfffe);
  EXPECT(board.time.timers.next_due().has_value());
  EXPECT_EQ(board.acknowledge(), 0x20u);
  board.out(0x20, 0x20);
  EXPECT_EQ(board.acknowledge(), 0x100u);
  EXPECT(board.ticks_in(10'000'000) <= 11u);
  board.out(0x21, 0xff);
  EXPECT(!board.time.timers.next_due().has_value());
  board.route(2, 0x31);
  EXPECT(board.time.timers.next_due().has_value());
}

TEST(control_port_reads_ones_and_odd_accesses_do_no_harm) {
  Board board;
  EXPECT_EQ(board.pit.read(0x43, 1), 0xffu);
  for (unsigned control = 0; control < 256; ++control) {
    board.pit.write(0x43, 1, control);
    for (const unsigned size : {1u, 2u, 4u}) {
      board.pit.write(0x40, size, control * 0x01010101u);
      board.pit.write(0x61, 1, control);
      board.pit.read(0x40, size);
      board.pit.read(0x61, size);
    }
    board.time.advance(12'345);
  }
}

TEST(state_goes_through_its_serialized_form) {
  Board board;
  board.init_pic(0x20, 0x28, 0xfffe);
  board.program(0x40, 0x34, 11932);
  board.time.advance(25'000'000);
  const auto saved = state::save(board.pit.state());
  Board other;
  other.init_pic(0x20, 0x28, 0xfffe);
  other.time.advance(25'000'000);
  PitState state;
  EXPECT_EQ(state::restore(saved, state), std::string{});
  other.pit.set_state(state);
  EXPECT_EQ(other.latched(0), board.latched(0));
  EXPECT_EQ(other.ticks_in(100'000'000), 10u);
}

TEST_MAIN()

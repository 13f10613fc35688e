// What a driver sees, with constants retyped from the PC16550D data sheet.
#include "serial/uart.h"

#include <string>
#include <string_view>

#include "base/state.h"
#include "base/test.h"
#include "irq/test_rig.h"

using namespace hv;

namespace {

constexpr unsigned kData = 0, kIer = 1, kIir = 2, kFcr = 2, kLcr = 3, kMcr = 4, kLsr = 5, kMsr = 6,
                   kScr = 7;
constexpr unsigned kOut2 = 0x08, kLoop = 0x10;

struct Pin final : LevelLine {
  bool level = false;
  unsigned edges = 0;
  void set(bool now) override {
    if (now && !level) ++edges;
    level = now;
  }
};

struct Rig {
  ManualTime time;
  Pin irq;
  unsigned attention = 0;
  Uart uart{time.timers, &irq, [this] { ++attention; }};

  unsigned in(unsigned at, unsigned size = 1) {
    return static_cast<unsigned>(uart.read(0, at, size));
  }
  void out(unsigned at, unsigned value, unsigned size = 1) { uart.write(0, at, size, value); }
  bool type(std::string_view text) {
    return uart.receive({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
  }
  std::string taken() {
    const std::vector<std::uint8_t> bytes = uart.take();
    return {bytes.begin(), bytes.end()};
  }
  std::string typed(std::size_t count) {
    std::string out;
    while (out.size() < count) out += static_cast<char>(in(kData));
    return out;
  }
};

}  // namespace

TEST(master_reset_leaves_what_the_data_sheet_says) {
  Rig rig;
  EXPECT_EQ(rig.in(kIer), 0u);
  EXPECT_EQ(rig.in(kIir), 0x01u);
  EXPECT_EQ(rig.in(kLcr), 0u);
  EXPECT_EQ(rig.in(kMcr), 0u);
  EXPECT_EQ(rig.in(kLsr), 0x60u);
  EXPECT_EQ(rig.in(kMsr), 0xb0u);  // the cable: DCD, DSR, CTS
}

TEST(registers_keep_only_the_bits_that_exist) {
  Rig rig;
  for (const unsigned at : {kIer, kLcr, kMcr, kScr}) rig.out(at, 0x6f);
  EXPECT_EQ(rig.in(kIer), 0x0fu);
  EXPECT_EQ(rig.in(kLcr), 0x6fu);
  EXPECT_EQ(rig.in(kMcr), 0x0fu);
  EXPECT_EQ(rig.in(kScr), 0x6fu);
}

TEST(the_divisor_shows_behind_dlab_alone) {
  Rig rig;
  rig.out(kLcr, 0x83);
  rig.out(kData, 0x01);
  rig.out(kIer, 0x02);
  EXPECT_EQ(rig.in(kData), 0x01u);
  EXPECT_EQ(rig.in(kIer), 0x02u);
  rig.out(kLcr, 0x03);
  EXPECT_EQ(rig.in(kIer), 0u);
  EXPECT_EQ(rig.taken(), "");
}

TEST(status_registers_ignore_writes) {
  Rig rig;
  rig.out(kLsr, 0xff);
  rig.out(kMsr, 0xff);
  EXPECT_EQ(rig.in(kLsr), 0x60u);
  EXPECT_EQ(rig.in(kMsr), 0xb0u);
}

TEST(wide_accesses_are_one_of_each_byte_in_turn) {
  Rig rig;
  rig.out(kMsr, 0x5aff, 2);
  EXPECT_EQ(rig.in(kScr), 0x5au);
  EXPECT_EQ(rig.in(kMsr, 2), 0x5ab0u);
  EXPECT_EQ(rig.in(kLcr, 2), 0u);
}

TEST(output_calls_once_until_it_has_all_been_taken) {
  Rig rig;
  for (const char byte : std::string_view{"hello"}) rig.out(kData, static_cast<unsigned>(byte));
  EXPECT_EQ(rig.attention, 1u);
  EXPECT_EQ(rig.taken(), "hello");
  rig.out(kData, '!');
  EXPECT_EQ(rig.attention, 1u);  // who took something looks again
  EXPECT_EQ(rig.taken(), "!");
  EXPECT_EQ(rig.taken(), "");
  rig.out(kData, '?');
  EXPECT_EQ(rig.attention, 2u);
}

TEST(thre_interrupts_for_each_byte_and_reading_iir_takes_it_back) {
  Rig rig;
  rig.out(kMcr, kOut2);
  rig.out(kIer, 0x02);
  EXPECT(rig.irq.level);  // enabling it while THRE is set raises it
  EXPECT_EQ(rig.in(kIir), 0x02u);
  EXPECT(!rig.irq.level);
  EXPECT_EQ(rig.in(kIir), 0x01u);
  rig.out(kData, 'A');
  EXPECT(rig.irq.level);
  rig.out(kData, 'B');
  EXPECT(rig.irq.level);
  EXPECT_EQ(rig.irq.edges, 3u);  // an edge-triggered input sees each
  EXPECT_EQ(rig.in(kIir), 0x02u);
  EXPECT(!rig.irq.level);
  rig.out(kIer, 0x00);
  rig.out(kIer, 0x02);
  EXPECT(rig.irq.level);
}

TEST(a_host_that_holds_back_keeps_the_transmitter_from_being_empty) {
  Rig rig;
  rig.out(kMcr, kOut2);
  rig.uart.hold(true);
  EXPECT_EQ(rig.in(kLsr), 0u);
  rig.out(kIer, 0x02);
  EXPECT(!rig.irq.level);
  rig.out(kData, 'A');  // a driver that does not look
  EXPECT(!rig.irq.level);
  rig.uart.hold(false);
  EXPECT(rig.irq.level);
  EXPECT_EQ(rig.in(kLsr), 0x60u);
  EXPECT_EQ(rig.taken(), "A");
}

TEST(output_that_nobody_takes_fills_the_chip_and_no_more) {
  Rig rig;
  rig.out(kMcr, kOut2);
  rig.out(kIer, 0x02);
  rig.out(kFcr, 0x01);
  std::size_t sent = 0;
  // A driver fills the whole FIFO when it finds it empty; byte by byte to begin with, so that the
  // end of the room falls into a FIFO.
  rig.out(kData, 'x'), ++sent;
  for (; (rig.in(kLsr) & 0x20) != 0; sent += 16)
    for (int i = 0; i < 16; ++i) rig.out(kData, 'x');
  EXPECT(sent > 16384 - 16 && sent <= 16384);
  EXPECT(!rig.irq.level);
  EXPECT_EQ(rig.taken(), std::string(sent, 'x'));
  EXPECT(rig.irq.level);
  EXPECT_EQ(rig.in(kLsr), 0x60u);
}

TEST(output_of_a_driver_that_never_looks_is_bounded) {
  Rig rig;
  for (unsigned i = 0; i < 20'000; ++i) rig.out(kData, 'x');
  EXPECT_EQ(rig.taken(), std::string(16384, 'x'));
}

TEST(input_shows_in_lsr_and_is_read_in_order) {
  Rig rig;
  rig.out(kFcr, 0x01);
  EXPECT(rig.type("abc"));
  EXPECT_EQ(rig.in(kLsr), 0x61u);
  EXPECT_EQ(rig.typed(3), "abc");
  EXPECT_EQ(rig.in(kLsr), 0x60u);
}

TEST(input_waits_while_the_receiver_is_full_and_asks_for_more_in_time) {
  Rig rig;
  EXPECT(rig.type(std::string(4096, 'x')));  // one is in the receiver
  EXPECT(!rig.type("y"));
  EXPECT_EQ(rig.attention, 0u);
  EXPECT_EQ(rig.typed(4096), std::string(4096, 'x'));
  EXPECT_EQ(rig.attention, 1u);
  EXPECT_EQ(rig.typed(1), "y");
  EXPECT_EQ(rig.in(kLsr), 0x60u);  // nothing overran
}

TEST(input_beyond_64_kib_is_lost_and_nothing_before_it) {
  Rig rig;
  rig.type(std::string(65536, 'a'));
  rig.type("bc");
  EXPECT_EQ(rig.typed(65537), std::string(65536, 'a') + "b");
  EXPECT_EQ(rig.in(kLsr), 0x60u);
}

TEST(fcr_sets_the_level_at_which_input_interrupts) {
  const struct {
    unsigned fcr;
    std::size_t level;
  } kLevels[] = {{0x01, 1}, {0x41, 4}, {0x81, 8}, {0xc1, 14}};
  for (const auto& [fcr, level] : kLevels) {
    Rig rig;
    rig.out(kFcr, fcr);
    rig.out(kMcr, kOut2);
    rig.out(kIer, 0x01);
    rig.type(std::string(level - 1, 'y'));
    EXPECT(!rig.irq.level);
    rig.type("y");
    EXPECT(rig.irq.level);
    EXPECT_EQ(rig.in(kIir), 0xc4u);
    rig.in(kData);
    EXPECT(!rig.irq.level);
    EXPECT_EQ(rig.in(kIir), 0xc1u);
  }
}

TEST(input_below_the_trigger_interrupts_after_four_character_times) {
  Rig rig;
  rig.out(kLcr, 0x83);
  rig.out(kData, 1);    // 115200 baud
  rig.out(kLcr, 0x03);  // 8N1: ten bits a character
  rig.out(kFcr, 0xc1);
  rig.out(kMcr, kOut2);
  rig.out(kIer, 0x01);
  rig.type("ab");
  rig.time.advance(347'000);  // 4 * 10 bits / 115200 = 347.2 us
  EXPECT(!rig.irq.level);
  rig.time.advance(1'000);
  EXPECT(rig.irq.level);
  EXPECT_EQ(rig.in(kIir), 0xccu);
  rig.in(kData);
  EXPECT(!rig.irq.level);
  EXPECT_EQ(rig.in(kIir), 0xc1u);
  rig.time.advance(348'000);
  EXPECT_EQ(rig.in(kIir), 0xccu);
  rig.in(kData);
  rig.time.advance(348'000);
  EXPECT_EQ(rig.in(kIir), 0xc1u);
}

TEST(a_divisor_of_zero_counts_as_65536) {
  Rig rig;
  rig.out(kLcr, 0x83);
  rig.out(kData, 0);
  rig.out(kIer, 0);
  rig.out(kLcr, 0x03);
  rig.out(kFcr, 0xc1);
  rig.out(kIer, 0x01);
  rig.type("a");
  rig.time.advance(22'755'000'000);  // 40 bits * 65536 / 115200 = 22.7556 s
  EXPECT_EQ(rig.in(kIir), 0xc1u);
  rig.time.advance(1'000'000);
  EXPECT_EQ(rig.in(kIir), 0xccu);
}

TEST(the_receiver_is_cleared_by_fcr_and_by_turning_the_fifos_on_or_off) {
  Rig rig;
  rig.out(kFcr, 0x01);
  rig.type("ab");
  rig.out(kFcr, 0x03);
  EXPECT_EQ(rig.in(kLsr), 0x60u);
  rig.type("c");
  rig.out(kFcr, 0x00);
  EXPECT_EQ(rig.in(kLsr), 0x60u);
  EXPECT_EQ(rig.in(kIir), 0x01u);
}

TEST(a_break_is_told_once) {
  Rig rig;
  rig.out(kMcr, kOut2);
  rig.out(kIer, 0x05);
  rig.uart.receive_break();
  EXPECT(rig.irq.level);
  EXPECT_EQ(rig.in(kIir), 0x06u);
  EXPECT_EQ(rig.in(kLsr), 0x71u);
  EXPECT_EQ(rig.in(kLsr), 0x61u);
  EXPECT_EQ(rig.in(kIir), 0x04u);
  EXPECT_EQ(rig.in(kData), 0u);
  EXPECT_EQ(rig.in(kLsr), 0x60u);
}

TEST(a_break_behind_data_shows_as_an_error_in_the_fifo) {
  Rig rig;
  rig.out(kFcr, 0x01);
  rig.type("a");
  rig.uart.receive_break();
  EXPECT_EQ(rig.in(kLsr), 0xe1u);
  rig.in(kData);
  EXPECT_EQ(rig.in(kLsr), 0xf1u);
  EXPECT_EQ(rig.in(kLsr), 0x61u);
}

TEST(loop_back_wires_the_outputs_to_the_inputs) {
  Rig rig;
  rig.out(kMcr, kLoop);
  rig.in(kMsr);
  const unsigned wires[][2] = {{0x01, 0x20}, {0x02, 0x10}, {0x04, 0x40}, {0x08, 0x80}};
  for (const auto& [output, input] : wires) {
    rig.out(kMcr, kLoop | output);
    EXPECT_EQ(rig.in(kMsr) & 0xf0, input);
  }
}

TEST(loop_back_sets_the_deltas_and_ri_only_when_it_ends) {
  Rig rig;
  rig.out(kMcr, kLoop);
  rig.in(kMsr);
  rig.out(kMcr, kLoop | 0x0f);
  EXPECT_EQ(rig.in(kMsr), 0xfbu);
  EXPECT_EQ(rig.in(kMsr), 0xf0u);
  rig.out(kMcr, kLoop);
  EXPECT_EQ(rig.in(kMsr), 0x0fu);
}

TEST(loop_back_sends_to_the_receiver_and_not_to_the_host) {
  Rig rig;
  rig.out(kMcr, kLoop);
  rig.out(kData, 0x5a);
  EXPECT_EQ(rig.in(kLsr), 0x61u);
  EXPECT_EQ(rig.in(kData), 0x5au);
  EXPECT_EQ(rig.taken(), "");
}

TEST(a_full_fifo_keeps_what_it_has_and_tells_the_overrun_once) {
  Rig rig;
  rig.out(kFcr, 0x01);
  rig.out(kMcr, kLoop);
  for (unsigned i = 0; i < 17; ++i) rig.out(kData, i);
  rig.out(kMcr, 0);  // the error outlasts the loop
  EXPECT_EQ(rig.in(kLsr), 0x63u);
  EXPECT_EQ(rig.in(kLsr), 0x61u);
  for (unsigned i = 0; i < 16; ++i) EXPECT_EQ(rig.in(kData), i);
  EXPECT_EQ(rig.in(kLsr), 0x60u);
}

TEST(the_single_buffer_keeps_the_newest_byte) {
  Rig rig;
  rig.out(kMcr, kLoop);
  rig.out(kData, 1);
  rig.out(kData, 2);
  EXPECT_EQ(rig.in(kLsr), 0x63u);
  EXPECT_EQ(rig.in(kData), 2u);
}

TEST(loop_back_keeps_the_hosts_input_for_later) {
  Rig rig;
  rig.out(kMcr, kLoop);
  rig.type("q");
  EXPECT_EQ(rig.in(kLsr), 0x60u);
  rig.out(kMcr, 0);
  EXPECT_EQ(rig.in(kLsr), 0x61u);
  EXPECT_EQ(rig.typed(1), "q");
}

TEST(interrupts_leave_the_board_only_while_out2_is_set) {
  Rig rig;
  rig.out(kIer, 0x01);
  rig.type("a");
  EXPECT(!rig.irq.level);
  EXPECT_EQ(rig.in(kIir), 0x04u);
  rig.out(kMcr, kOut2);
  EXPECT(rig.irq.level);
}

TEST(interrupts_come_by_priority) {
  Rig rig;
  rig.out(kMcr, kLoop);
  rig.in(kMsr);
  rig.out(kIer, 0x0f);
  rig.out(kData, 1);
  rig.out(kData, 2);
  rig.out(kMcr, kLoop | 0x02);
  EXPECT_EQ(rig.in(kIir), 0x06u);
  rig.in(kLsr);
  EXPECT_EQ(rig.in(kIir), 0x04u);
  rig.in(kData);
  EXPECT_EQ(rig.in(kIir), 0x02u);
  EXPECT_EQ(rig.in(kIir), 0x00u);
  rig.in(kMsr);
  EXPECT_EQ(rig.in(kIir), 0x01u);
}

TEST(an_interrupt_reaches_the_8259) {
  test::Rig board;
  struct Wire final : LevelLine {
    Line line;
    void set(bool level) override { line.set(level); }
  } wire;
  wire.line = Line{*board.fabric, Line::Kind::kIsa, 4, kFirstFreeSource};
  Uart uart{board.time.timers, &wire, [] {}};
  board.init_pic(0x20, 0x28);
  uart.write(0, kMcr, 1, kOut2);
  uart.write(0, kIer, 1, 0x02);
  EXPECT_EQ(board.acknowledge(), 0x24u);
  // In service: a byte sent now makes an edge that comes after the EOI.
  EXPECT_EQ(uart.read(0, kIir, 1), 0x02u);
  uart.write(0, kData, 1, 'A');
  board.out(0x20, 0x20);
  EXPECT_EQ(board.acknowledge(), 0x24u);
}

TEST(a_chip_without_a_line_calls_when_time_changes_its_pin) {
  ManualTime time;
  unsigned attention = 0;
  Uart uart{time.timers, nullptr, [&attention] { ++attention; }};
  uart.write(0, kFcr, 1, 0xc1);
  uart.write(0, kMcr, 1, kOut2);
  uart.write(0, kIer, 1, 0x01);
  const std::uint8_t byte = 'a';
  uart.receive({&byte, 1});
  EXPECT(!uart.interrupting());
  EXPECT_EQ(attention, 0u);
  time.advance(1'000'000'000);
  EXPECT(uart.interrupting());
  EXPECT_EQ(attention, 1u);
}

TEST(state_goes_on_where_it_was_with_time_out_and_waiting_input) {
  Rig one, two;
  one.out(kFcr, 0xc1);
  one.out(kMcr, kOut2);
  one.out(kIer, 0x01);
  one.type("0123456789abcdefXYZ");
  one.in(kData);
  UartState state;
  EXPECT_EQ(state::restore(state::save(one.uart.state()), state), "");
  EXPECT_EQ(Uart::check(state), "");
  two.uart.set_state(state);
  EXPECT_EQ(two.in(kLsr), 0x61u);
  EXPECT_EQ(two.in(kIir), 0xc4u);
  EXPECT(two.irq.level);
  EXPECT_EQ(two.typed(16), "123456789abcdefX");
  EXPECT_EQ(two.in(kIir), 0xc1u);
  two.time.advance(1'000'000'000);
  EXPECT_EQ(two.in(kIir), 0xccu);
  EXPECT_EQ(two.typed(2), "YZ");
}

TEST(a_time_out_under_way_goes_on_elsewhere) {
  Rig one, two;
  one.out(kFcr, 0xc1);
  one.out(kIer, 0x01);
  one.type("a");
  two.uart.set_state(one.uart.state());
  two.time.advance(1'000'000'000);
  EXPECT_EQ(two.in(kIir), 0xccu);
}

TEST(states_that_no_chip_can_be_in_are_refused) {
  const auto refused = [](auto change) {
    UartState state;
    change(state);
    return std::string{Uart::check(state)};
  };
  EXPECT_EQ(refused([](UartState&) {}), "");
  EXPECT_EQ(refused([](UartState& s) { s.ier = 0x10; }), "ier");
  EXPECT_EQ(refused([](UartState& s) { s.mcr = 0x20; }), "mcr");
  EXPECT_EQ(refused([](UartState& s) { s.line_errors = 1; }), "lineErrors");
  EXPECT_EQ(refused([](UartState& s) { s.deltas = 0x10; }), "deltas");
  EXPECT_EQ(refused([](UartState& s) { s.received.resize(17); }), "received");
  EXPECT_EQ(refused([](UartState& s) { s.breaks = 1; }), "breaks");
  EXPECT_EQ(refused([](UartState& s) { s.waiting.resize(65537); }), "waiting");
}

TEST(reset_is_power_on_and_keeps_what_waits) {
  Rig rig;
  rig.out(kMcr, kOut2);
  rig.out(kIer, 0x03);
  rig.type("ab");
  rig.out(kData, 'x');
  rig.uart.reset();
  EXPECT_EQ(rig.in(kIer), 0u);
  EXPECT_EQ(rig.in(kMcr), 0u);
  EXPECT(!rig.irq.level);
  EXPECT_EQ(rig.taken(), "x");
  EXPECT_EQ(rig.in(kLsr), 0x61u);
  EXPECT_EQ(rig.typed(1), "b");
}

TEST_MAIN()

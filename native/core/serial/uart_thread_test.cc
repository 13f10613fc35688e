// A vCPU's thread, the host's thread and the timer's at one chip: nothing is lost or changes places.
#include "serial/uart.h"

#include <atomic>
#include <thread>

#include "base/test.h"

using namespace hv;

namespace {

constexpr unsigned kData = 0, kLsr = 5;

// What goes over the cable: byte n is n modulo 251, which no power of two divides.
constexpr std::uint8_t nth(std::size_t n) { return static_cast<std::uint8_t>(n % 251); }

}  // namespace

TEST(bytes_arrive_in_order_both_ways_at_once) {
  constexpr std::size_t kOut = 100'000, kIn = 20'000;
  GuestClock clock;
  TimerService timers{clock};
  clock.resume();
  std::atomic<unsigned> calls{0};
  Uart uart{timers, nullptr, [&calls] { ++calls; }};
  uart.write(0, 2, 1, 0x81);  // FIFOs: the character time-out runs

  std::thread guest{[&uart] {
    for (std::size_t sent = 0, got = 0; sent < kOut || got < kIn;) {
      const std::uint64_t status = uart.read(0, kLsr, 1);
      for (int i = 0; (status & 0x20) != 0 && i < 16 && sent < kOut; ++i)
        uart.write(0, kData, 1, nth(sent++));
      if ((status & 1) != 0 && got < kIn) EXPECT_EQ(uart.read(0, kData, 1), nth(got++));
    }
  }};

  std::size_t taken = 0, given = 0;
  bool welcome = true;
  while (taken < kOut || given < kIn) {
    for (const std::uint8_t byte : uart.take()) EXPECT_EQ(byte, nth(taken++));
    for (int i = 0; welcome && i < 100 && given < kIn; ++i) {
      const std::uint8_t byte = nth(given++);
      welcome = uart.receive({&byte, 1});
    }
    welcome = welcome || uart.receive({});
    std::this_thread::yield();
  }
  guest.join();
  EXPECT(uart.take().empty());
  EXPECT(calls > 0);
}

TEST_MAIN()

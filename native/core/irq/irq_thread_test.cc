// Threads that meet in the interrupt controllers: senders, a vCPU that acknowledges, timers, and
// a save in between. Run under TSan.
#include <atomic>
#include <chrono>
#include <memory>
#include <thread>

#include "base/state.h"
#include "base/test.h"
#include "irq/interrupt_fabric.h"
#include "time/hpet.h"
#include "time/pit.h"
#include "time/rtc.h"

using namespace hv;
using namespace std::chrono_literals;

namespace {

struct Board {
  GuestClock clock;
  TimerService timers{clock};
  std::array<VcpuSignals, 3> signals;
  std::array<VcpuSignals*, 3> pointers{&signals[0], &signals[1], &signals[2]};
  InterruptFabric fabric{timers, pointers};
  Pit pit{fabric, timers};
  Hpet hpet{fabric, timers};
  Rtc rtc{fabric, timers, {}};

  Board() {
    for (unsigned i = 0; i < 3; ++i) fabric.lapic(i).write(0xf0, 4, 0x1ff);
    clock.resume();
  }
  void send(unsigned from, std::uint32_t to, std::uint32_t icr) {
    fabric.lapic(from).write(0x310, 4, to << 24);
    fabric.lapic(from).write(0x300, 4, icr);
  }
  void route(unsigned pin, std::uint32_t low) {
    fabric.ioapic().write(0, 4, 0x10 + 2 * pin);
    fabric.ioapic().write(0x10, 4, low);
  }
};

}  // namespace

TEST(no_interrupt_is_lost_between_two_senders_and_a_sleeping_receiver) {
  Board board;
  constexpr unsigned kCount = 5'000;
  std::atomic<unsigned> served[2] = {0, 0};
  // Each sender waits for its own vector to be served, so every single one counts.
  const auto sender = [&](unsigned from) {
    const std::uint32_t vector = 0x50 + 0x10 * from;
    for (unsigned i = 0; i < kCount; ++i) {
      const unsigned before = served[from];
      board.send(from, 2, vector);
      while (served[from] == before) std::this_thread::yield();
    }
  };
  std::thread receiver{[&] {
    Lapic& apic = board.fabric.lapic(2);
    VcpuSignals& signals = board.signals[2];
    while (served[0] + served[1] < 2 * kCount) {
      const std::uint32_t seen = signals.pending();
      if ((seen & 1) == 0) {
        signals.sleep(seen);
        continue;
      }
      const auto vector = apic.acknowledge();
      if (!vector) continue;
      apic.write(0xb0, 4, 0);
      ++served[(*vector - 0x50) / 0x10];
    }
  }};
  std::thread a{sender, 0}, b{sender, 1};
  a.join(), b.join(), receiver.join();
  EXPECT_EQ(served[0].load(), kCount);
  EXPECT_EQ(served[1].load(), kCount);
  EXPECT(!board.signals[2].has(Signal::kInterrupt));
}

TEST(level_line_is_served_until_it_falls_whoever_moves_it) {
  Board board;
  board.route(16, 0x61 | 1u << 15);
  std::atomic<bool> stop{false}, asserted{false};
  std::atomic<unsigned> rounds{0};
  std::thread device{[&] {
    while (!stop) {
      if (asserted) {
        std::this_thread::yield();
        continue;
      }
      asserted = true;
      board.fabric.set_gsi(16, 8, true);
      ++rounds;
    }
  }};
  Lapic& apic = board.fabric.lapic(0);
  const auto end = std::chrono::steady_clock::now() + 300ms;
  // On a busy host the two threads meet more seldom.
  const auto patience = end + 60s;
  while (std::chrono::steady_clock::now() < (rounds > 10 ? end : patience)) {
    const auto vector = apic.acknowledge();
    if (!vector) {
      std::this_thread::yield();
      continue;
    }
    // The driver's handler: quiets the device, then EOI.
    if (asserted) {
      board.fabric.set_gsi(16, 8, false);
      asserted = false;
    }
    apic.write(0xb0, 4, 0);
  }
  stop = true;
  device.join();
  EXPECT(rounds > 10);
  // Nothing is stuck: what is asserted now is pending or can be served.
  for (int i = 0; i < 3 && asserted; ++i) {
    if (apic.acknowledge()) board.fabric.set_gsi(16, 8, false), asserted = false;
    apic.write(0xb0, 4, 0);
  }
  EXPECT(!asserted);
}

TEST(timers_fire_while_all_is_reprogrammed_and_saved) {
  Board board;
  std::atomic<bool> stop{false};
  std::atomic<unsigned> taken{0};
  board.fabric.pic().write(0x20, 1, 0x11), board.fabric.pic().write(0x21, 1, 0x20);
  board.fabric.pic().write(0x21, 1, 4), board.fabric.pic().write(0x21, 1, 1);
  std::thread vcpu0{[&] {
    unsigned round = 0;
    while (!stop) {
      ++round;
      board.pit.write(0x43, 1, 0x34);
      board.pit.write(0x40, 1, 0xff), board.pit.write(0x40, 1, round % 3);
      board.route(2, 0x31 | (round % 5 == 0 ? 1u << 16 : 0));
      board.hpet.write(0x10, 8, round % 7 == 0 ? 3 : 1);
      board.rtc.write(0x70, 2, 0x420b);
      board.rtc.write(0x70, 2, 0x230a);
      board.rtc.write(0x70, 1, 0x0c), board.rtc.read(0x71, 1);
      if (board.fabric.lapic(0).acknowledge()) ++taken, board.fabric.lapic(0).write(0xb0, 4, 0);
      board.fabric.pic().write(0x20, 1, 0x20);
    }
  }};
  std::thread vcpu1{[&] {
    Lapic& apic = board.fabric.lapic(1);
    board.hpet.write(0x110, 8, 0xfee01000ull << 32 | 0x55);
    board.hpet.write(0x100, 8, 1u << 14 | 1u << 6 | 8 | 4);
    board.hpet.write(0x108, 8, 2'000), board.hpet.write(0x108, 8, 2'000);
    apic.write(0x320, 4, 2u << 17 | 0x41);
    while (!stop) {
      apic.write_msr(0x6e0, board.clock.tsc() + 50'000);
      if (apic.acknowledge()) ++taken, apic.write(0xb0, 4, 0);
      board.send(1, 0, 0x71);
    }
  }};
  for (int i = 0; i < 60 || (taken <= 50 && i < 10'000); ++i) {
    std::this_thread::sleep_for(3ms);
    if (i % 4 == 0) board.clock.pause(), board.timers.settle();
    const auto lapic = state::save(board.fabric.lapic(1).state());
    const auto wires = state::save(board.fabric.state());
    const auto ioapic = state::save(board.fabric.ioapic().state());
    const auto pic = state::save(board.fabric.pic().state());
    const auto pit = state::save(board.pit.state());
    const auto hpet = state::save(board.hpet.state());
    const auto rtc = state::save(board.rtc.state());
    LapicState restored;
    EXPECT_EQ(state::restore(lapic, restored), std::string{});
    board.clock.resume();
  }
  stop = true;
  vcpu0.join(), vcpu1.join();
  EXPECT(taken > 50);
}

TEST(idle_machine_leaves_the_timer_thread_asleep) {
  Board board;
  board.pit.write(0x43, 1, 0x34);
  board.pit.write(0x40, 1, 0xa9), board.pit.write(0x40, 1, 0x04);  // 1 kHz, masked everywhere
  board.hpet.write(0x100, 8, 20u << 9 | 1u << 6 | 8 | 4);
  board.hpet.write(0x108, 8, 1'000);
  board.hpet.write(0x10, 8, 1);
  board.rtc.write(0x70, 2, 0x720b);
  board.fabric.lapic(0).write(0x320, 4, 1u << 16 | 1u << 17 | 0x40);
  board.fabric.lapic(0).write(0x380, 4, 1'000);
  // What was armed above may wake it yet, late on a busy host; a timer of 1 kHz would for ever.
  bool asleep = false;
  for (int looks = 0; looks < 100 && !asleep; ++looks) {
    const std::uint64_t before = board.timers.wakeups();
    std::this_thread::sleep_for(200ms);
    asleep = board.timers.wakeups() == before;
  }
  EXPECT(asleep);
}

TEST_MAIN()

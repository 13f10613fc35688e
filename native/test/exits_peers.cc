// What exits are measured against (bench/exits): the least that they can cost on this host. Prints
// nanoseconds of CPU as JSON: "kvm", an exit of a bare KVM_RUN loop (null without /dev/kvm), and
// "futex", a round trip of two threads on one core.
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <span>
#include <thread>

#include "cpu_time.h"

// exits_bare.cc
double time_bare_exit(std::span<const std::uint8_t> code, std::uint32_t turns);

namespace {

constexpr std::uint32_t kExits = 4000, kTrips = 20'000;
constexpr int kRounds = 5;
// 1: in al, dx; dec ecx; jnz 1b; hlt — and with a nop for the exit.
constexpr std::uint8_t kWithExit[] = {0xec, 0xff, 0xc9, 0x75, 0xfb, 0xf4};
constexpr std::uint8_t kWithout[] = {0x90, 0xff, 0xc9, 0x75, 0xfb, 0xf4};

double median(std::span<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

double bare_exit() {
  double rounds[kRounds];
  for (double& cost : rounds) {
    const double without = time_bare_exit(kWithout, kExits);
    cost = time_bare_exit(kWithExit, kExits) - without;
  }
  return median(rounds);
}

// One word that two threads hand to each other: whose turn it is.
class Turn {
 public:
  void pass(std::uint32_t from) {
    turn_.store(1 - from);
    call(FUTEX_WAKE_PRIVATE, 1);
  }
  void await(std::uint32_t mine) {
    while (turn_.load() != mine) call(FUTEX_WAIT_PRIVATE, 1 - mine);
  }

 private:
  void call(int operation, std::uint32_t value) {
    ::syscall(SYS_futex, &turn_, operation, value, nullptr, nullptr, 0);
  }
  std::atomic<std::uint32_t> turn_{0};
};

double futex_round_trip() {
  Turn turn;
  const auto side = [&turn](std::uint32_t mine) {
    for (std::uint32_t i = 0; i < kTrips; ++i) {
      turn.await(mine);
      turn.pass(mine);
    }
  };
  const double before = cpu_nanoseconds();
  std::thread other{side, 1};
  side(0);
  other.join();
  return (cpu_nanoseconds() - before) / kTrips;
}

void stay_on_this_core() {
  cpu_set_t here;
  CPU_ZERO(&here);
  CPU_SET(::sched_getcpu(), &here);
  ::sched_setaffinity(0, sizeof here, &here);
}

}  // namespace

int main() {
  stay_on_this_core();
  double rounds[kRounds];
  for (double& trip : rounds) trip = futex_round_trip();
  const double kvm = bare_exit();
  if (kvm > 0)
    std::printf("{\"kvm\": %.1f, \"futex\": %.1f}\n", kvm, median(rounds));
  else
    std::printf("{\"kvm\": null, \"futex\": %.1f}\n", median(rounds));
}

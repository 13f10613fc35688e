#include "accel/speed.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <thread>

#include "accel/no_platform.h"

namespace hv {
namespace {

constexpr std::uint64_t kCodeAt = 0x1000;
//   again: add eax, ecx ; mov [0x2000], eax ; dec ecx ; jnz again ; hlt
constexpr std::array<std::uint8_t, 11> kLoop = {0x01, 0xc8, 0xa3, 0x00, 0x20, 0x00,
                                                0x00, 0x49, 0x75, 0xf6, 0xf4};
constexpr double kInstructionsATurn = 4;

CpuState flat_at_loop(std::uint32_t turns) {
  CpuState s = reset_state(true);
  s.segments.fill({.base = 0, .limit = 0xffff'ffff, .access = 0xc093, .selector = 0x10});
  s.segments[kCs] = {.base = 0, .limit = 0xffff'ffff, .access = 0xc09b, .selector = 0x08};
  s.cr0 = 0x11;  // PE, ET
  s.fpu = FpuState{};
  s.gpr[1] = turns;
  s.rip = kCodeAt;
  return s;
}

// A loop of this many turns to its end, in nanoseconds.
std::optional<double> run(Vcpu& vcpu, std::uint32_t turns) {
  vcpu.set_state(flat_at_loop(turns));
  const auto before = std::chrono::steady_clock::now();
  const Exit exit = vcpu.run();
  const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - before;
  if (exit != Exit::kHalted) return std::nullopt;
  return took.count();
}

// Longer loops until one is long enough to be timed; the first only warms up. The best of three
// counts, since others use this host too.
std::optional<double> time_loop(Vcpu& vcpu) {
  constexpr double kLongEnough = 3e5;
  constexpr std::uint32_t kShortest = 250, kLongest = 1u << 20;
  if (!run(vcpu, kShortest)) return std::nullopt;
  for (std::uint32_t turns = kShortest;; turns *= 4) {
    const auto took = run(vcpu, turns);
    if (!took) return std::nullopt;
    if (*took < kLongEnough && turns < kLongest) continue;
    double best = *took;
    for (int again = 0; again < 2; ++again) best = std::min(best, run(vcpu, turns).value_or(best));
    return best / (turns * kInstructionsATurn);
  }
}

std::optional<double> time_on_this_thread(const Accelerator& accelerator) {
  std::string error;
  const auto memory = GuestMemory::create(16 * kPageSize, error);
  if (memory == nullptr) return std::nullopt;
  std::memcpy(memory->host(Gpa{kCodeAt}), kLoop.data(), kLoop.size());
  const auto machine = accelerator.create_machine(*memory);
  if (machine == nullptr) return std::nullopt;
  NoPlatform platform;
  VcpuSignals signals;
  VcpuSignals* const all[] = {&signals};
  const auto vcpu = machine->create_vcpu({0, 1, platform, signals, all});
  return time_loop(*vcpu);
}

}  // namespace

// On a thread of its own: a vCPU belongs to the thread that made it, and may change what that
// thread blocks.
std::optional<double> time_instruction(const Accelerator& accelerator) {
  std::optional<double> took;
  std::thread{[&] { took = time_on_this_thread(accelerator); }}.join();
  return took;
}

}  // namespace hv

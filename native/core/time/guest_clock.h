// The guest's one clock. TSC, local APIC, HPET, PIT and PM timer are all computed from now().
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string_view>

#include "base/types.h"

namespace hv {

// Where host time comes from: nanoseconds that never go back, from any start.
class HostClock {
 public:
  virtual ~HostClock() = default;
  virtual std::uint64_t now() const = 0;
};

// The host's monotonic clock.
const HostClock& monotonic_host_clock();

struct GuestClockState {
  static constexpr std::string_view kName = "guest-clock";
  static constexpr std::uint32_t kVersion = 1;
  GuestNs now = 0;
  template <class Visit>
  void fields(Visit&& visit) {
    visit("now", now);
  }
};

class GuestClock {
 public:
  // Stands at 0 until resume().
  explicit GuestClock(const HostClock& host = monotonic_host_clock());
  GuestClock(const GuestClock&) = delete;
  GuestClock& operator=(const GuestClock&) = delete;

  // Any thread, without a lock. Never less than what any thread was told before.
  GuestNs now() const noexcept;
  // The shared time-stamp counter (kTscHz), without IA32_TSC_ADJUST.
  std::uint64_t tsc() const noexcept;
  bool running() const noexcept { return running_.load(std::memory_order_acquire); }

  // Any thread but a timer's callback; repeated calls do nothing. The time at which pause()
  // stopped is where resume() goes on.
  void pause();
  void resume();

  GuestClockState state() const { return {now()}; }
  // While paused and every vCPU stands still: the only way back. False while it runs.
  [[nodiscard]] bool set_state(const GuestClockState& state);

  // Called after each pause, resume and set_state, on the caller's thread without a lock. One
  // listener: the timer service.
  void on_change(std::function<void()> listener);

 private:
  template <class F>
  void change(F&& f);
  void tell();

  const HostClock& host_;
  std::mutex writers_;
  // A sequence lock: odd while a writer is at work. now() reads the two words below between two
  // equal even values.
  std::atomic<std::uint32_t> sequence_{0};
  std::atomic<bool> running_{false};
  std::atomic<std::uint64_t> base_{0};  // running: host time minus guest time; else guest time
  std::function<void()> listener_;
};

}  // namespace hv

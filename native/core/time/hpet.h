// The high precision event timers. IA-PC HPET Specification 1.0a.
//
// 64-bit main counter at the crystal's 25 MHz (40 ns), kComparators comparators of 64 bits, each
// periodic-capable and able to interrupt by IO-APIC pin (20 to 23), by FSB message, or (0 and 1)
// in place of PIT and RTC.
//
// Locks: one mutex, held while lines are set and messages sent (order:
// irq/interrupt_fabric.h).
#pragma once
#include <array>
#include <cstdint>
#include <mutex>
#include <string_view>

#include "irq/interrupt_fabric.h"
#include "time/guest_clock.h"
#include "time/ticks.h"
#include "time/timer_service.h"

namespace hv {

inline constexpr unsigned kHpetComparators = 4;

struct HpetComparatorState {
  std::uint64_t config = 0;
  std::uint64_t comparator = ~0ull;  // the register
  std::uint64_t period = 0;          // the accumulator's increment
  std::uint64_t next = 0;            // the main counter at the next match, if `armed`
  std::uint64_t fsb = 0;         // address 63:32, value 31:0
  bool set_accumulator = false;  // Tn_VAL_SET_CNF, until the next write
  bool armed = false;            // a match lies ahead
  bool pending = false;          // level-triggered: the status bit
  template <class Visit>
  void fields(Visit&& visit) {
    visit("config", config);
    visit("comparator", comparator);
    visit("period", period);
    visit("next", next);
    visit("fsb", fsb);
    visit("setAccumulator", set_accumulator);
    visit("armed", armed);
    visit("pending", pending);
  }
};

struct HpetState {
  static constexpr std::string_view kName = "hpet";
  static constexpr std::uint32_t kVersion = 1;
  std::uint64_t config = 0;
  std::uint64_t counter = 0;     // main counter when halted; else at `started`
  std::uint64_t started = 0;     // crystal tick
  std::array<HpetComparatorState, kHpetComparators> comparators{};
  template <class Visit>
  void fields(Visit&& visit) {
    visit("config", config);
    visit("counter", counter);
    visit("started", started);
    visit("comparators", comparators);
  }
};

class Hpet {
 public:
  static constexpr std::uint64_t kAddress = 0xfed00000;
  static constexpr std::uint64_t kLength = 0x400;

  Hpet(InterruptFabric& fabric, TimerService& timers);

  void reset();
  HpetState state() const;
  void set_state(const HpetState& state);

  // 1 to 8 bytes at any offset.
  std::uint64_t read(std::uint64_t offset, unsigned size);
  void write(std::uint64_t offset, unsigned size, std::uint64_t value);

 private:
  using Comparator = HpetComparatorState;

  std::uint64_t counter() const;
  bool running() const;
  bool legacy(unsigned n) const;
  std::uint64_t read_register(std::uint64_t at);
  void write_register(std::uint64_t at, std::uint64_t value, std::uint64_t lanes);
  void write_config(std::uint64_t value);
  void write_status(std::uint64_t value);
  void write_timer(unsigned n, std::uint64_t which, std::uint64_t value, std::uint64_t lanes);
  void write_timer_config(unsigned n, std::uint64_t value);
  void write_comparator(Comparator& c, std::uint64_t value, std::uint64_t lanes);
  void expect_match(Comparator& c);
  // A match whose time has come is delivered: one at a time where several are late.
  void settle(unsigned n);
  void settle_all();
  void fire(unsigned n);
  void drop_lines(unsigned n);
  void drive_level(unsigned n);
  bool heard(unsigned n) const;
  GuestNs due(unsigned n) const;
  void arm();

  InterruptFabric& fabric_;
  TimerService& timers_;
  const GuestClock& clock_;
  mutable std::mutex mutex_;
  HpetState state_;
  std::array<bool, kHpetComparators> heard_{};  // at the last look
  Timer timer_;
};

}  // namespace hv

// The 8254 interval timer and port 0x61. Intel 8254 data sheet (order number 231164).
//
// Nothing counts: a counter's value and output are computed from the guest clock when somebody
// looks. Only channel 0's rising edges need a timer, and only while one would be heard.
//
// Locks: one mutex, held while the interrupt line is set (order: irq/interrupt_fabric.h).
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

struct PitChannelState {
  std::uint8_t mode = 0;    // 0 to 5
  std::uint8_t access = 3;  // 1 low byte, 2 high byte, 3 both
  bool bcd = false;
  bool gate = true;
  bool loaded = false;    // a count was written since the control word
  bool null_count = true; // … but is not in the counter yet
  bool triggered = false; // modes 1 and 5: the gate rose since the control word
  bool frozen = false;    // the gate, or a half-written count, stops counting
  std::uint32_t count = 0x10000;       // what the counter was loaded with
  std::uint32_t next_count = 0;        // modes 1 and 5: from the next trigger; 2 and 3: …
  std::uint64_t next_from = 0;         // … from this tick on; next_count 0: none
  std::uint64_t start = 0;             // the tick at which `count` was loaded
  std::uint64_t elapsed = 0;           // while frozen: ticks counted before
  std::uint8_t write_low = 0;
  bool write_high_next = false, read_high_next = false;
  std::uint16_t latched_count = 0;
  std::uint8_t latched_bytes = 0;      // still to be read
  std::uint8_t latched_status = 0;
  bool status_latched = false;

  template <class Visit>
  void fields(Visit&& visit) {
    visit("mode", mode);
    visit("access", access);
    visit("bcd", bcd);
    visit("gate", gate);
    visit("loaded", loaded);
    visit("nullCount", null_count);
    visit("triggered", triggered);
    visit("frozen", frozen);
    visit("count", count);
    visit("nextCount", next_count);
    visit("nextFrom", next_from);
    visit("start", start);
    visit("elapsed", elapsed);
    visit("writeLow", write_low);
    visit("writeHighNext", write_high_next);
    visit("readHighNext", read_high_next);
    visit("latchedCount", latched_count);
    visit("latchedBytes", latched_bytes);
    visit("latchedStatus", latched_status);
    visit("statusLatched", status_latched);
  }
};

struct PitState {
  static constexpr std::string_view kName = "pit";
  static constexpr std::uint32_t kVersion = 1;
  std::array<PitChannelState, 3> channels{};
  std::uint8_t port61 = 0;  // bits 3:0 as written
  TickPacer edges;          // of channel 0
  bool line = false;        // channel 0's output as last set
  template <class Visit>
  void fields(Visit&& visit) {
    visit("channels", channels);
    visit("port61", port61);
    visit("edges", edges);
    visit("line", line);
  }
};

class Pit {
 public:
  static constexpr std::uint64_t kHz = 1'193'182;

  Pit(InterruptFabric& fabric, TimerService& timers);

  void reset();
  PitState state() const;
  void set_state(const PitState& state);

  // Ports 0x40 to 0x43 and 0x61; a wide access is one of each byte in turn.
  std::uint32_t read(std::uint16_t port, unsigned size);
  void write(std::uint16_t port, unsigned size, std::uint32_t value);

 private:
  using Channel = PitChannelState;

  std::uint64_t now() const;
  std::uint8_t read_byte(std::uint16_t port);
  void write_byte(std::uint16_t port, std::uint8_t value);
  std::uint8_t read_port61();
  void write_port61(std::uint8_t value);
  void control(std::uint8_t value);
  void read_back(std::uint8_t value);
  void restart_edges();
  void pulse();
  bool reload();
  // Brings channel 0's line up to date and arms the timer for its next edge.
  void update();
  void arm();

  InterruptFabric& fabric_;
  TimerService& timers_;
  const GuestClock& clock_;
  mutable std::mutex mutex_;
  PitState state_;
  bool heard_ = false;  // at the last update
  Timer timer_;
};

}  // namespace hv

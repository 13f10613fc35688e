// The real-time clock and CMOS memory: Motorola MC146818A data sheet, 128 bytes as in PCs.
//
// The date is the host's wall clock plus an offset that the guest sets by setting the date. Flags
// are computed when somebody looks; a timer runs only for an interrupt that is enabled, heard,
// and not already asserted.
//
// Locks: one mutex, held while the interrupt line is set (order: irq/interrupt_fabric.h).
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string_view>

#include "irq/interrupt_fabric.h"
#include "time/guest_clock.h"
#include "time/ticks.h"
#include "time/timer_service.h"

namespace hv {

// Nanoseconds since 1970 UTC.
using WallClock = std::function<std::int64_t()>;
WallClock host_wall_clock();
// Seconds east of UTC in the host's time zone at that time: for guests that keep local time.
std::int64_t host_zone_offset(std::int64_t seconds);

struct RtcConfig {
  std::uint64_t memory_below_4g = 0, memory_above_4g = 0;
  bool local_time = false;
};

struct RtcState {
  static constexpr std::string_view kName = "rtc";
  static constexpr std::uint32_t kVersion = 1;
  std::array<std::uint8_t, 128> bytes{};
  std::uint8_t index = 0;
  bool nmi_disabled = false;
  std::int64_t offset = 0;        // seconds: the guest's date minus the host's
  std::int64_t seen_second = 0;   // flags are up to date with this guest second
  std::uint64_t periodic_start = 0;  // 32,768 Hz tick
  TickPacer periodic;
  bool line = false;
  template <class Visit>
  void fields(Visit&& visit) {
    visit("bytes", bytes);
    visit("index", index);
    visit("nmiDisabled", nmi_disabled);
    visit("offset", offset);
    visit("seenSecond", seen_second);
    visit("periodicStart", periodic_start);
    visit("periodic", periodic);
    visit("line", line);
  }
};

class Rtc {
 public:
  Rtc(InterruptFabric& fabric, TimerService& timers, const RtcConfig& config,
      WallClock wall = host_wall_clock());

  // As RESET# of the chip: the date, the RAM and the guest's offset stay (they are battery-backed).
  void reset();
  RtcState state() const;
  void set_state(const RtcState& state);

  // Ports 0x70 and 0x71.
  std::uint32_t read(std::uint16_t port, unsigned size);
  void write(std::uint16_t port, unsigned size, std::uint32_t value);

  bool nmi_enabled() const;
  // The guest's date in seconds since 1970 of its own calendar.
  std::int64_t guest_seconds() const;

 private:
  struct Now {
    std::int64_t second;  // of the guest's date
    std::int64_t ns;      // within it
  };
  Now wall_now() const;
  // The date stands still: SET, or a divider that does not divide 32,768 Hz.
  bool held() const;
  std::uint8_t reg(unsigned index) const { return state_.bytes[index]; }

  void fill_memory_sizes(const RtcConfig& config);
  void show(std::int64_t second);
  std::int64_t shown() const;
  std::uint8_t encode(unsigned value) const;
  unsigned decode(std::uint8_t byte) const;
  std::uint8_t encode_hour(unsigned hour) const;
  unsigned decode_hour(std::uint8_t byte) const;
  // The first second after `after` that the alarm bytes name.
  std::int64_t next_alarm(std::int64_t after) const;

  std::uint8_t read_data();
  std::uint8_t read_register_a() const;
  std::uint8_t read_register_c();
  void write_data(std::uint8_t value);
  void write_control(unsigned index, std::uint8_t value);
  void write_date(unsigned index, std::uint8_t value);
  void adopt_shown();

  std::uint64_t period() const;
  std::uint64_t periodic_due() const;
  void settle_seconds();
  void settle_periodic();
  // Raises the flags whose time has come, sets the line, arms the timer.
  void update();
  GuestNs guest_time_of(std::int64_t second, const Now& now) const;
  void arm();

  InterruptFabric& fabric_;
  TimerService& timers_;
  const GuestClock& clock_;
  const WallClock wall_;
  const bool local_;
  mutable std::mutex mutex_;
  RtcState state_;
  Timer timer_;
};

}  // namespace hv

// The chips that every VM has, wired: interrupt controllers and timers on the bus, the guest clock
// under them. Knows no vCPU but their signals.
#pragma once
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "bus/bus.h"
#include "irq/interrupt_fabric.h"
#include "serial/uart.h"
#include "time/guest_clock.h"
#include "time/hpet.h"
#include "time/pit.h"
#include "time/pm_timer.h"
#include "time/rtc.h"
#include "time/timer_service.h"

namespace hv {

struct BoardConfig {
  std::uint64_t memory_below_4g = 0, memory_above_4g = 0;
  bool rtc_utc = true;
  bool x2apic = false;
};

class Board {
 public:
  Board(const BoardConfig& config, std::span<VcpuSignals* const> signals, Bus& bus);
  ~Board();
  Board(const Board&) = delete;
  Board& operator=(const Board&) = delete;

  void reset();
  void save(json::Object& out);
  // Restores in two steps, so that nothing changes unless everything fits: reads all components
  // into memory, then hands back what applies them.
  std::function<void()> prepare(const json::Value& components, std::string& error);

  GuestClock clock;
  TimerService timers{clock};
  InterruptFabric fabric;
  Pit pit;
  Hpet hpet;
  PmTimer pm_timer{clock};
  Rtc rtc;
  // As many as the machine's devices ask for; their states are those devices' parts.
  std::deque<Uart> uarts;

 private:
  void map_chips(Bus& bus);
  void start_in_x2apic();

  const BoardConfig config_;
  std::list<std::unique_ptr<NativeRange>> ranges_;
};

}  // namespace hv

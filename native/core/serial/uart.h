// A 16550A (National Semiconductor PC16550D) with the host at the other end of its cable. A vCPU
// never waits for the host: what it sends is kept until JavaScript takes it, what the host sends
// waits here until the receiver has room.
//
// The transmitter takes no time: a byte written to THR is gone at once and THRE's interrupt comes
// again, so that a driver fills the FIFO over and over in one interrupt. Only while the host holds
// output back, or is 16 KiB behind, are THRE and TEMT clear.
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bus/range.h"
#include "serial/uart_registers.h"
#include "time/timer_service.h"

namespace hv {

struct UartState {
  static constexpr std::string_view kName = "uart";
  static constexpr std::uint32_t kVersion = 1;
  std::uint8_t ier = 0, fcr = 0, lcr = 0, mcr = 0, scr = 0;
  std::uint8_t dll = uart::kResetDivisor, dlm = 0;
  std::uint8_t line_errors = 0;  // LSR's bits that reading clears, breaks aside
  std::uint8_t deltas = 0;       // MSR bits 3:0
  bool timed_out = false;        // the character time-out's interrupt
  bool empty_pending = false;    // THRE's interrupt
  std::vector<std::uint8_t> received;  // oldest first
  std::uint32_t breaks = 0;            // bit n: received[n] came as a break
  GuestNs timeout_at = 0;              // when the character time-out falls due; 0: it does not run
  std::vector<std::uint8_t> waiting;   // what the host sent and the receiver had no room for
  template <class Visit>
  void fields(Visit&& visit) {
    visit("ier", ier);
    visit("fcr", fcr);
    visit("lcr", lcr);
    visit("mcr", mcr);
    visit("scr", scr);
    visit("dll", dll);
    visit("dlm", dlm);
    visit("lineErrors", line_errors);
    visit("deltas", deltas);
    visit("timedOut", timed_out);
    visit("emptyPending", empty_pending);
    visit("received", received);
    visit("breaks", breaks);
    visit("timeoutAt", timeout_at);
    visit("waiting", waiting);
  }
};

class Uart final : public NativeRange {
 public:
  // Kept for a host that is behind, and for a guest that is; at the last mark the host is asked to
  // hold back.
  static constexpr std::size_t kMaxOutput = 16 * 1024;
  static constexpr std::size_t kMaxWaiting = 64 * 1024;
  static constexpr std::size_t kHoldBackAt = 4096;

  // `line`: INTR behind the board's OUT2 gate; nullptr where the owner drives it by interrupting().
  // `attention`: called under the chip's lock, on any thread, when take() has something, receive()
  // is welcome again, or there is no line and a time-out may have changed interrupting().
  Uart(TimerService& timers, LevelLine* line, std::function<void()> attention);

  // A wide access is one of each byte in turn.
  std::uint64_t read(VcpuIndex vcpu, std::uint64_t offset, unsigned size) override;
  void write(VcpuIndex vcpu, std::uint64_t offset, unsigned size, std::uint64_t value) override;

  // --- the host's end, any thread ---
  // What the guest has sent. Empty: the next byte calls for attention; until then it is the
  // caller's to look again.
  std::vector<std::uint8_t> take();
  // More than kMaxWaiting is lost. False: attention is called for when more is welcome.
  bool receive(std::span<const std::uint8_t> bytes);
  void receive_break();
  // While held, THRE and TEMT stay clear.
  void hold(bool on);
  bool interrupting() const;

  // "Master Reset", table III. The divisor, SCR and RBR are not named there; we reset them too.
  // What waits on either side stays.
  void reset();
  UartState state() const;
  // Empty, or which field does not fit.
  static std::string_view check(const UartState& state);
  // Has been checked.
  void set_state(const UartState& state);

 private:
  // All of these under the mutex.
  std::uint8_t read_register(uart::Register which);
  void write_register(uart::Register which, std::uint8_t value);
  std::uint8_t take_received();
  std::uint8_t take_line_status();
  std::uint8_t take_modem_status();
  std::uint8_t identify();
  void transmit(std::uint8_t byte);
  void enable(std::uint8_t value);
  void control_fifos(std::uint8_t value);
  void control_modem(std::uint8_t value);

  bool loopback() const { return (state_.mcr & uart::mcr::kLoop) != 0; }
  bool fifos() const { return (state_.fcr & uart::fcr::kEnable) != 0; }
  std::size_t depth() const { return fifos() ? uart::kFifoDepth : 1; }
  std::size_t trigger() const;
  // An empty transmitter takes a FIFO's worth without another look at LSR.
  bool ready() const { return !held_ && output_.size() + uart::kFifoDepth <= kMaxOutput; }
  std::uint8_t line_status() const;
  std::uint8_t modem_lines() const;
  uart::Source source() const;

  void push(std::uint8_t byte, bool is_break);
  void clear_received();
  void feed();
  // The character time-out starts anew, or is called off.
  void run_timeout();
  void timed_out();
  // THRE's interrupt follows what ready() has become.
  void readiness_changed(bool before);
  // The one place that drives the pin.
  void update();

  TimerService& timers_;
  LevelLine* const line_;
  const std::function<void()> attention_;
  mutable std::mutex mutex_;
  UartState state_;  // but for `waiting`
  std::deque<std::uint8_t> waiting_;
  std::vector<std::uint8_t> output_;
  bool called_ = false;       // for output: take() has not come back empty since
  bool held_ = false;         // by hold()
  bool holding_host_ = false;  // receive() answered false
  bool level_ = false;        // of the pin
  Timer timer_;
};

}  // namespace hv

#include "serial/uart.h"

#include <algorithm>
#include <utility>

namespace hv {
namespace {

using uart::Register;
using uart::Source;

constexpr GuestNs kSecond = 1'000'000'000;

constexpr std::uint8_t bits(bool set, unsigned mask) {
  return static_cast<std::uint8_t>(set ? mask : 0);
}

Register decode(const std::array<Register, uart::kLength>& bank, std::uint64_t offset,
                std::uint8_t lcr) {
  const std::size_t index = offset % uart::kLength;
  const bool divisor = (lcr & uart::lcr::kDlab) != 0 && index < uart::kDivisor.size();
  return divisor ? uart::kDivisor[index] : bank[index];
}

// Start, data, parity and stop bits.
std::uint64_t bits_per_character(std::uint8_t lcr) {
  const unsigned parity = (lcr & uart::lcr::kParity) != 0 ? 1 : 0;
  const unsigned stop = (lcr & uart::lcr::kStopBits) != 0 ? 2 : 1;
  return 1 + 5 + (lcr & uart::lcr::kWordLength) + parity + stop;
}

}  // namespace

Uart::Uart(TimerService& timers, LevelLine* line, std::function<void()> attention)
    : timers_{timers},
      line_{line},
      attention_{std::move(attention)},
      timer_{timers, [this](std::uint64_t) { timed_out(); }} {}

// --- the guest's end ------------------------------------------------------------------------------

std::uint64_t Uart::read(VcpuIndex, std::uint64_t offset, unsigned size) {
  std::scoped_lock hold{mutex_};
  std::uint64_t value = 0;
  for (unsigned lane = 0; lane < size; ++lane) {
    const Register which = decode(uart::kRead, offset + lane, state_.lcr);
    value |= std::uint64_t{read_register(which)} << (8 * lane);
    feed();
    update();
  }
  return value;
}

void Uart::write(VcpuIndex, std::uint64_t offset, unsigned size, std::uint64_t value) {
  std::scoped_lock hold{mutex_};
  for (unsigned lane = 0; lane < size; ++lane) {
    const Register which = decode(uart::kWrite, offset + lane, state_.lcr);
    write_register(which, static_cast<std::uint8_t>(value >> (8 * lane)));
    feed();
    update();
  }
}

std::uint8_t Uart::read_register(Register which) {
  switch (which) {
    case Register::kRbr: return take_received();
    case Register::kIer: return state_.ier;
    case Register::kIir: return identify();
    case Register::kLcr: return state_.lcr;
    case Register::kMcr: return state_.mcr;
    case Register::kLsr: return take_line_status();
    case Register::kMsr: return take_modem_status();
    case Register::kScr: return state_.scr;
    case Register::kDll: return state_.dll;
    case Register::kDlm: return state_.dlm;
    case Register::kThr:
    case Register::kFcr: break;  // no bank of reads has them
  }
  return 0xff;
}

void Uart::write_register(Register which, std::uint8_t value) {
  switch (which) {
    case Register::kThr: return transmit(value);
    case Register::kIer: return enable(value);
    case Register::kFcr: return control_fifos(value);
    case Register::kMcr: return control_modem(value);
    case Register::kLcr: state_.lcr = value; return;
    case Register::kScr: state_.scr = value; return;
    case Register::kDll: state_.dll = value; return;
    case Register::kDlm: state_.dlm = value; return;
    case Register::kLsr:  // "intended for read operations only"
    case Register::kMsr:  // the delta bits may be written on real parts, to no guest's use
    case Register::kRbr:
    case Register::kIir: return;
  }
}

std::uint8_t Uart::take_received() {
  std::uint8_t byte = 0;
  if (!state_.received.empty()) {
    byte = state_.received.front();
    state_.received.erase(state_.received.begin());
    state_.breaks >>= 1;
  }
  state_.timed_out = false;
  run_timeout();
  return byte;
}

std::uint8_t Uart::take_line_status() {
  const std::uint8_t status = line_status();
  state_.line_errors = 0;
  state_.breaks &= ~1u;
  return status;
}

std::uint8_t Uart::take_modem_status() {
  return modem_lines() | std::exchange(state_.deltas, std::uint8_t{0});
}

// Table IV; reading IIR resets a transmitter interrupt that it reports.
std::uint8_t Uart::identify() {
  const Source reported = source();
  if (reported == Source::kTransmitEmpty) state_.empty_pending = false;
  return static_cast<std::uint8_t>(reported) | bits(fifos(), uart::iir::kFifosEnabled);
}

void Uart::transmit(std::uint8_t byte) {
  state_.empty_pending = false;
  update();  // an edge a byte, for the 8259's edge-triggered input
  if (loopback()) {
    push(byte, false);
  } else if (output_.size() < kMaxOutput) {  // else overwritten: the driver did not look at THRE
    if (output_.capacity() < kMaxOutput) output_.reserve(kMaxOutput);
    output_.push_back(byte);
    if (!std::exchange(called_, true)) attention_();
  }
  state_.empty_pending = ready();
}

// Enabling ETBEI while THRE is set raises its interrupt at once.
void Uart::enable(std::uint8_t value) {
  const bool rose = (value & ~state_.ier & uart::ier::kTransmitEmpty) != 0;
  state_.ier = value & uart::ier::kAll;
  if (rose && ready()) state_.empty_pending = true;
}

// "Bit 0 must be a 1 when other FCR bits are written to or they will not be programmed".
void Uart::control_fifos(std::uint8_t value) {
  using namespace uart::fcr;
  const bool enabled = (value & kEnable) != 0;
  if (enabled != fifos() || (enabled && (value & kClearReceive) != 0)) clear_received();
  state_.fcr = bits(enabled, value & (kEnable | kDmaMode | kTrigger));
  run_timeout();
}

void Uart::control_modem(std::uint8_t value) {
  using namespace uart::msr;
  const unsigned before = modem_lines();
  state_.mcr = value & uart::mcr::kAll;
  const unsigned changed = before ^ modem_lines();
  const auto delta = [this](unsigned line, std::uint8_t bit) {
    state_.deltas |= bits(line != 0, bit);
  };
  delta(changed & kCts, kDeltaCts);
  delta(changed & kDsr, kDeltaDsr);
  delta(changed & kDcd, kDeltaDcd);
  delta(changed & before & kRi, kTrailingRi);  // from on to off only
}

// --- the host's end -------------------------------------------------------------------------------

std::vector<std::uint8_t> Uart::take() {
  std::scoped_lock hold{mutex_};
  const bool before = ready();
  std::vector<std::uint8_t> taken{output_};
  output_.clear();
  called_ = !taken.empty();
  readiness_changed(before);
  return taken;
}

bool Uart::receive(std::span<const std::uint8_t> bytes) {
  std::scoped_lock hold{mutex_};
  const std::size_t room = kMaxWaiting - waiting_.size();
  const auto fitting = bytes.first(std::min(room, bytes.size()));
  waiting_.insert(waiting_.end(), fitting.begin(), fitting.end());
  feed();
  update();
  holding_host_ = waiting_.size() >= kHoldBackAt;
  return !holding_host_;
}

void Uart::receive_break() {
  std::scoped_lock hold{mutex_};
  if (!loopback()) push(0, true);
  update();
}

void Uart::hold(bool on) {
  std::scoped_lock hold{mutex_};
  const bool before = ready();
  held_ = on;
  readiness_changed(before);
}

bool Uart::interrupting() const {
  std::scoped_lock hold{mutex_};
  return level_;
}

// --- state ----------------------------------------------------------------------------------------

void Uart::reset() {
  std::scoped_lock hold{mutex_};
  state_ = {};
  timer_.cancel();
  update();
  feed();
  update();
}

UartState Uart::state() const {
  std::scoped_lock hold{mutex_};
  UartState state = state_;
  state.waiting.assign(waiting_.begin(), waiting_.end());
  return state;
}

std::string_view Uart::check(const UartState& state) {
  if (state.ier > uart::ier::kAll) return "ier";
  if (state.mcr > uart::mcr::kAll) return "mcr";
  if ((state.line_errors & ~uart::lsr::kErrors) != 0) return "lineErrors";
  if (state.deltas > uart::msr::kDeltas) return "deltas";
  if (state.received.size() > uart::kFifoDepth) return "received";
  if (state.breaks >> state.received.size() != 0) return "breaks";
  if (state.waiting.size() > kMaxWaiting) return "waiting";
  return {};
}

void Uart::set_state(const UartState& state) {
  std::scoped_lock hold{mutex_};
  state_ = state;
  waiting_.assign(state.waiting.begin(), state.waiting.end());
  state_.waiting.clear();
  holding_host_ = waiting_.size() >= kHoldBackAt;
  if (state_.timeout_at != 0)
    timer_.arm(state_.timeout_at);
  else
    timer_.cancel();
  update();
}

// --- the chip's inside ----------------------------------------------------------------------------

std::size_t Uart::trigger() const {
  return fifos() ? uart::kTriggerLevels[state_.fcr >> 6] : 1;
}

std::uint8_t Uart::line_status() const {
  using namespace uart::lsr;
  return bits(!state_.received.empty(), kDataReady) |
         bits(ready(), kHoldingEmpty | kTransmitterEmpty) | bits((state_.breaks & 1) != 0, kBreak) |
         bits(fifos() && state_.breaks != 0, kFifoError) | state_.line_errors;
}

// "Loopback": the outputs are wired to the inputs, which the cable then no longer reaches.
std::uint8_t Uart::modem_lines() const {
  if (!loopback()) return uart::msr::kCable;
  const auto wired = [this](std::uint8_t out, std::uint8_t in) {
    return bits((state_.mcr & out) != 0, in);
  };
  return wired(uart::mcr::kRts, uart::msr::kCts) | wired(uart::mcr::kDtr, uart::msr::kDsr) |
         wired(uart::mcr::kOut1, uart::msr::kRi) | wired(uart::mcr::kOut2, uart::msr::kDcd);
}

Source Uart::source() const {
  using namespace uart;
  const auto enabled = [this](std::uint8_t which) { return (state_.ier & which) != 0; };
  if (enabled(ier::kLineStatus) && (line_status() & lsr::kErrors) != 0) return Source::kLineStatus;
  if (enabled(ier::kReceived) && state_.received.size() >= trigger()) return Source::kReceived;
  if (enabled(ier::kReceived) && state_.timed_out) return Source::kTimeout;
  if (enabled(ier::kTransmitEmpty) && state_.empty_pending) return Source::kTransmitEmpty;
  if (enabled(ier::kModemStatus) && state_.deltas != 0) return Source::kModemStatus;
  return Source::kNone;
}

// A full FIFO keeps what it has; the single buffer takes the new byte. Both say overrun.
void Uart::push(std::uint8_t byte, bool is_break) {
  std::vector<std::uint8_t>& received = state_.received;
  if (received.size() >= depth()) {
    state_.line_errors |= uart::lsr::kOverrun;
    if (fifos()) return;
    received.clear();
    state_.breaks = 0;
  }
  state_.breaks |= (is_break ? 1u : 0u) << received.size();
  received.push_back(byte);
  state_.timed_out = false;
  run_timeout();
}

void Uart::clear_received() {
  state_.received.clear();
  state_.breaks = 0;
  state_.timed_out = false;
}

void Uart::feed() {
  while (!loopback() && !waiting_.empty() && state_.received.size() < depth()) {
    push(waiting_.front(), false);
    waiting_.pop_front();
  }
  if (!holding_host_ || waiting_.size() >= kHoldBackAt) return;
  holding_host_ = false;
  attention_();
}

// "FIFO Interrupt Mode Operation": four character times without a byte in or out.
void Uart::run_timeout() {
  if (!fifos() || state_.received.empty()) {
    if (std::exchange(state_.timeout_at, GuestNs{0}) != 0) timer_.cancel();
    return;
  }
  const std::uint64_t latch = std::uint64_t{state_.dlm} << 8 | state_.dll;
  const std::uint64_t divisor = latch != 0 ? latch : 0x10000;
  const std::uint64_t span = 4 * bits_per_character(state_.lcr) * divisor * kSecond;
  state_.timeout_at = timers_.clock().now() + (span + uart::kBaseBaud - 1) / uart::kBaseBaud;
  timer_.arm(state_.timeout_at);
}

void Uart::timed_out() {
  std::scoped_lock hold{mutex_};
  // Called for an arming that has been replaced.
  if (state_.timeout_at == 0 || timers_.clock().now() < state_.timeout_at) return;
  state_.timeout_at = 0;
  state_.timed_out = fifos() && !state_.received.empty();
  update();
  if (line_ == nullptr) attention_();
}

void Uart::readiness_changed(bool before) {
  if (ready() == before) return;
  state_.empty_pending = ready();
  update();
}

void Uart::update() {
  const bool level = (state_.mcr & uart::mcr::kOut2) != 0 && source() != Source::kNone;
  if (level != std::exchange(level_, level) && line_ != nullptr) line_->set(level);
}

}  // namespace hv

#include "time/pit.h"

#include "time/pit_channel.h"

namespace hv {

namespace {

constexpr std::uint16_t kChannel0 = 0x40, kControl = 0x43, kSystemControl = 0x61;

// Port 0x61 (PIIX3/ICH "NMI Status and Control"): bits 3:0 are written, 4 toggles with each memory
// refresh (every 15.085 µs on a PC/AT), 5 is OUT of channel 2.
constexpr std::uint8_t kGate2 = 0x01, kWritable61 = 0x0f, kRefresh = 0x10, kOut2 = 0x20;
constexpr GuestNs kRefreshNs = 15'085;

}  // namespace

Pit::Pit(InterruptFabric& fabric, TimerService& timers)
    : fabric_{fabric},
      timers_{timers},
      clock_{timers.clock()},
      timer_{timers, [this](std::uint64_t) {
               std::scoped_lock hold(mutex_);
               update();
             }} {
  reset();
  // While the clock stands, as during a restore, no line moves.
  fabric.on_reach_change([this] {
    std::scoped_lock hold(mutex_);
    if (clock_.running())
      update();
    else
      arm();
  });
}

// No mode is defined until a control word is written; nothing counts, and channel 2 waits for its
// gate in port 0x61.
void Pit::reset() {
  std::scoped_lock hold(mutex_);
  state_ = PitState{};
  state_.channels[2].gate = false;
  state_.channels[2].frozen = true;
  timer_.cancel();
  fabric_.set_pit(false);
}

PitState Pit::state() const {
  std::scoped_lock hold(mutex_);
  return state_;
}

void Pit::set_state(const PitState& state) {
  std::scoped_lock hold(mutex_);
  state_ = state;
  for (Channel& c : state_.channels) {
    c.mode = c.mode > 5 ? 0 : c.mode;
    c.access = c.access == 0 || c.access > 3 ? 3 : c.access;
    if (c.count == 0 || c.count > 0x10000) c.count = 0x10000;
    if (c.next_count > 0x10000) c.next_count = 0;
  }
  arm();
}

std::uint64_t Pit::now() const { return ticks_at(clock_.now(), kHz); }

std::uint32_t Pit::read(std::uint16_t port, unsigned size) {
  std::scoped_lock hold(mutex_);
  std::uint32_t value = 0;
  for (unsigned i = 0; i < size && i < 4; ++i)
    value |= std::uint32_t{read_byte(static_cast<std::uint16_t>(port + i))} << (8 * i);
  return value;
}

void Pit::write(std::uint16_t port, unsigned size, std::uint32_t value) {
  std::scoped_lock hold(mutex_);
  for (unsigned i = 0; i < size && i < 4; ++i)
    write_byte(static_cast<std::uint16_t>(port + i), static_cast<std::uint8_t>(value >> (8 * i)));
}

// The control word cannot be read.
std::uint8_t Pit::read_byte(std::uint16_t port) {
  if (port == kSystemControl) return read_port61();
  if (port < kChannel0 || port >= kControl) return 0xff;
  if (port == kChannel0 && state_.channels[0].next_count != 0) update();
  return pit::read(state_.channels[port - kChannel0], now());
}

void Pit::write_byte(std::uint16_t port, std::uint8_t value) {
  if (port == kSystemControl) return write_port61(value);
  if (port == kControl) return control(value);
  if (port < kChannel0 || port > kControl) return;
  const unsigned n = port - kChannel0;
  if (n == 0) update();
  const std::uint64_t at = now();
  pit::write_count(state_.channels[n], value, at);
  if (n == 0) restart_edges();
}

std::uint8_t Pit::read_port61() {
  const GuestNs ns = clock_.now();
  Channel& speaker = state_.channels[2];
  pit::settle(speaker, ticks_at(ns, kHz));
  const bool out = pit::output(speaker, ticks_at(ns, kHz));
  const bool refresh = (ns / kRefreshNs & 1) != 0;
  return static_cast<std::uint8_t>(state_.port61 | (refresh ? kRefresh : 0) | (out ? kOut2 : 0));
}

void Pit::write_port61(std::uint8_t value) {
  state_.port61 = value & kWritable61;
  pit::set_gate(state_.channels[2], (value & kGate2) != 0, now());
}

void Pit::control(std::uint8_t value) {
  const unsigned n = value >> 6;
  if (n == 3) return read_back(value);
  Channel& channel = state_.channels[n];
  if (n == 0) update();
  if ((value >> 4 & 3) == 0) return pit::latch_count(channel, now());
  pit::write_control(channel, value);
  if (!channel.gate) channel.frozen = true;
  if (n == 0) restart_edges();
}

// "Read-Back Command": bits 5 and 4 low latch count and status of the channels in bits 3:1.
void Pit::read_back(std::uint8_t value) {
  update();
  for (unsigned n = 0; n < 3; ++n) {
    if ((value >> (n + 1) & 1) == 0) continue;
    if ((value & 0x20) == 0) pit::latch_count(state_.channels[n], now());
    if ((value & 0x10) == 0) pit::latch_status(state_.channels[n], now());
  }
}

// Channel 0 was programmed: its edges are counted from here, and OUT may have changed.
void Pit::restart_edges() {
  const Channel& channel = state_.channels[0];
  const std::uint64_t at = now();
  state_.edges.given = pit::rising_edges(channel, at);
  const bool level = pit::output(channel, at);
  if (level != state_.line) fabric_.set_pit(level);
  state_.line = level;
  arm();
}

// A periodic output is high again right after its edge, and stays so until the next, so that the
// 8259 still finds the request when it acknowledges.
void Pit::pulse() {
  fabric_.set_pit(false);
  fabric_.set_pit(true);
  state_.line = true;
}

// Loads a count that waited for the end of the cycle and starts a new series of edges. True: the
// old one still owed an edge.
bool Pit::reload() {
  Channel& channel = state_.channels[0];
  const std::uint64_t at = now();
  if (channel.next_count == 0 || channel.frozen || at < channel.next_from) return false;
  const bool owed = pit::rising_edges(channel, channel.next_from) > state_.edges.given;
  pit::settle(channel, at);
  if (channel.next_count == 0) state_.edges.given = 0;
  return owed;
}

void Pit::update() {
  if (reload()) pulse();
  const std::uint64_t edges = pit::rising_edges(state_.channels[0], now());
  // Of the edges that nobody heard, the 8259 has latched one.
  const bool heard = fabric_.pit_heard();
  if (!(heard && heard_) && edges > state_.edges.given) state_.edges.given = edges - 1;
  heard_ = heard;
  if (state_.edges.take(edges)) pulse();
  arm();
}

void Pit::arm() {
  const Channel& channel = state_.channels[0];
  const std::uint64_t at = now();
  const auto next = pit::next_rising_edge(channel, at);
  const std::uint64_t due = pit::rising_edges(channel, at);
  if (!fabric_.pit_heard() || (!next && due <= state_.edges.given)) return timer_.cancel();
  const GuestNs regular = next ? time_of(*next, kHz) : clock_.now();
  timer_.arm(state_.edges.next(due, clock_.now(), regular,
                               time_of(pit::edge_period(channel), kHz)));
}

}  // namespace hv

#include "time/pit_channel.h"

namespace hv::pit {

namespace {

using Channel = PitChannelState;

bool periodic(const Channel& c) { return c.mode == 2 || c.mode == 3; }
bool by_trigger(const Channel& c) { return c.mode == 1 || c.mode == 5; }

std::uint64_t elapsed(const Channel& c, std::uint64_t now) {
  return c.frozen ? c.elapsed : now - c.start;
}

bool counting(const Channel& c) { return c.loaded && (!by_trigger(c) || c.triggered); }

// "Counting": 0 is the largest count, 2^16 or 10^4.
std::uint32_t from_bcd(std::uint32_t digits) {
  return (digits & 0xf) + (digits >> 4 & 0xf) * 10 + (digits >> 8 & 0xf) * 100 +
         (digits >> 12 & 0xf) * 1000;
}
std::uint32_t to_bcd(std::uint32_t n) {
  return n % 10 | n / 10 % 10 << 4 | n / 100 % 10 << 8 | n / 1000 % 10 << 12;
}
std::uint32_t modulus(const Channel& c) { return c.bcd ? 10'000 : 0x10000; }

// Where the clocked logic counts a 1 in modes 2 and 3, which the data sheet forbids, it would
// never fall; 2 is the least that gives edges.
std::uint32_t period(const Channel& c) { return c.count < 2 ? 2 : c.count; }
std::uint32_t high_half(const Channel& c) { return (period(c) + 1) / 2; }

void load(Channel& c, std::uint32_t count, std::uint64_t at) {
  c.count = count;
  c.start = at;
  c.elapsed = 0;
  c.next_count = 0;
  c.null_count = false;
  c.loaded = true;
}

// Modes 2 and 3: a new count waits for the end of the cycle (mode 3: half-cycle) under way.
void load_at_reload(Channel& c, std::uint32_t count, std::uint64_t now) {
  const std::uint64_t passed = elapsed(c, now) % period(c);
  const bool first_half = c.mode == 3 && passed < high_half(c);
  c.next_count = count;
  c.next_from = now + (first_half ? high_half(c) : period(c)) - passed;
  c.null_count = true;
}

void accept_count(Channel& c, std::uint32_t written, std::uint64_t now) {
  std::uint32_t count = c.bcd ? from_bcd(written) : written;
  if (count == 0) count = modulus(c);
  if (by_trigger(c)) {
    c.next_count = count;
    c.null_count = true;
    if (!c.loaded) c.count = count;
    c.loaded = true;
  } else if (periodic(c) && c.loaded && !c.frozen) {
    load_at_reload(c, count, now);
  } else {
    load(c, count, now);
    c.frozen = !c.gate;
  }
}

// The counting element as a guest reads it.
std::uint32_t count_now(const Channel& c, std::uint64_t now) {
  if (!counting(c)) return c.loaded ? c.count % modulus(c) : 0;
  const std::uint64_t passed = elapsed(c, now);
  if (c.mode == 2) return period(c) - static_cast<std::uint32_t>(passed % period(c));
  if (c.mode == 3) {
    // Counts down by two, twice in a period; an odd count takes one step of 1 (high half) or 3.
    const auto at = static_cast<std::uint32_t>(passed % period(c));
    const bool low = at >= high_half(c);
    const std::uint32_t step = low ? at - high_half(c) : at;
    const std::uint32_t odd = period(c) & 1;
    return step == 0 ? period(c) : period(c) + (low ? 0 - odd : odd) - 2 * step;
  }
  const auto wrapped = static_cast<std::uint32_t>(passed % modulus(c));
  return (c.count + modulus(c) - wrapped) % modulus(c);
}

std::uint16_t shown(const Channel& c, std::uint32_t count) {
  const std::uint32_t within = count % modulus(c);
  return static_cast<std::uint16_t>(c.bcd ? to_bcd(within) : within);
}

// The byte of a 16-bit value that comes next, and on to the one after it.
std::uint8_t next_byte(Channel& c, std::uint16_t value) {
  const bool high = c.access == 2 || (c.access == 3 && c.read_high_next);
  if (c.access == 3) c.read_high_next = !c.read_high_next;
  return static_cast<std::uint8_t>(high ? value >> 8 : value);
}

}  // namespace

void settle(Channel& c, std::uint64_t now) {
  if (c.next_count == 0 || by_trigger(c) || c.frozen || now < c.next_from) return;
  const std::uint64_t from = c.next_from;
  const bool half = c.mode == 3 && (from - c.start) % period(c) == high_half(c);
  load(c, c.next_count, from);
  // A count loaded at mode 3's half-cycle: what lies behind is the new count's high half.
  if (half) c.start = from - high_half(c);
}

bool output(const Channel& c, std::uint64_t now) {
  if (!counting(c)) return c.mode != 0;
  const std::uint64_t passed = elapsed(c, now);
  switch (c.mode) {
    case 0: return passed >= c.count;
    case 1: return passed >= c.count;
    // A low gate sets OUT high at once.
    case 2: return !c.gate || passed % period(c) != period(c) - 1;
    case 3: return !c.gate || passed % period(c) < high_half(c);
    default: return passed != c.count;
  }
}

std::uint64_t rising_edges(const Channel& c, std::uint64_t now) {
  if (!counting(c)) return 0;
  const std::uint64_t passed = elapsed(c, now);
  if (periodic(c)) return passed / period(c);
  return passed >= c.count + (c.mode >= 4 ? 1u : 0u) ? 1 : 0;
}

std::optional<std::uint64_t> next_rising_edge(const Channel& c, std::uint64_t now) {
  if (!counting(c) || c.frozen) return std::nullopt;
  if (periodic(c)) {
    const std::uint64_t regular = c.start + (rising_edges(c, now) + 1) * period(c);
    // A new count may be loaded before: look again then.
    return c.next_count != 0 && c.next_from < regular ? c.next_from : regular;
  }
  if (rising_edges(c, now) != 0) return std::nullopt;
  return c.start + c.count + (c.mode >= 4 ? 1 : 0);
}

std::uint64_t edge_period(const Channel& c) { return periodic(c) ? period(c) : 0; }

// "Control Word Format". Modes 6 and 7 are 2 and 3.
void write_control(Channel& c, std::uint8_t value) {
  const bool gate = c.gate;
  c = Channel{};
  c.gate = gate;
  c.access = value >> 4 & 3;
  c.mode = value >> 1 & 7;
  if (c.mode > 5) c.mode = static_cast<std::uint8_t>(c.mode - 4);
  c.bcd = (value & 1) != 0;
}

void write_count(Channel& c, std::uint8_t value, std::uint64_t now) {
  settle(c, now);
  if (c.access == 1) return accept_count(c, value, now);
  if (c.access == 2) return accept_count(c, static_cast<std::uint32_t>(value) << 8, now);
  c.write_high_next = !c.write_high_next;
  if (!c.write_high_next) return accept_count(c, c.write_low | std::uint32_t{value} << 8, now);
  c.write_low = value;
  // Mode 0: the first byte stops counting and OUT is low at once.
  if (c.mode == 0) c.loaded = false;
}

std::uint8_t read(Channel& c, std::uint64_t now) {
  settle(c, now);
  if (c.status_latched) {
    c.status_latched = false;
    return c.latched_status;
  }
  if (c.latched_bytes == 0) return next_byte(c, shown(c, count_now(c, now)));
  --c.latched_bytes;
  return next_byte(c, c.latched_count);
}

// A second latch before the first was read is ignored.
void latch_count(Channel& c, std::uint64_t now) {
  settle(c, now);
  if (c.latched_bytes != 0) return;
  c.latched_count = shown(c, count_now(c, now));
  c.latched_bytes = c.access == 3 ? 2 : 1;
}

// "Status Byte": OUT 7, null count 6, access 5:4, mode 3:1, BCD 0.
void latch_status(Channel& c, std::uint64_t now) {
  settle(c, now);
  if (c.status_latched) return;
  c.status_latched = true;
  c.latched_status =
      static_cast<std::uint8_t>((output(c, now) ? 0x80u : 0u) | (c.null_count ? 0x40u : 0u) |
                                static_cast<unsigned>(c.access) << 4 |
                                static_cast<unsigned>(c.mode) << 1 | (c.bcd ? 1u : 0u));
}

// "Gate Pin Operations Summary".
void set_gate(Channel& c, bool gate, std::uint64_t now) {
  settle(c, now);
  if (c.gate == gate) return;
  c.gate = gate;
  if (by_trigger(c)) {
    if (!gate || !c.loaded) return;
    load(c, c.next_count != 0 ? c.next_count : c.count, now);
    c.triggered = true;
    c.frozen = false;
  } else if (!gate) {
    c.elapsed = elapsed(c, now);
    c.frozen = true;
  } else {
    const bool restart = periodic(c);
    if (restart && c.next_count != 0) c.count = c.next_count;
    if (restart) c.next_count = 0, c.null_count = !c.loaded;
    c.start = now - (restart ? 0 : c.elapsed);
    c.frozen = false;
  }
}

}  // namespace hv::pit

#include "time/hpet.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "accel/frequencies.h"

namespace hv {

namespace {

// IA-PC HPET 1.0a §2.3.1 "Register Overview".
constexpr std::uint64_t kCapabilities = 0x000, kConfig = 0x010, kStatus = 0x020, kCounter = 0x0f0,
                        kFirstTimer = 0x100, kTimerStride = 0x20;
constexpr std::uint64_t kTimerConfig = 0x00, kComparator = 0x08, kFsbRoute = 0x10;

// §2.3.4 "General Capabilities and ID Register": period in femtoseconds, vendor, legacy
// replacement, 64-bit counter, last comparator, revision.
constexpr std::uint64_t kPeriodFs = 1'000'000'000'000'000 / kCrystalHz;
static_assert(kPeriodFs * kCrystalHz == 1'000'000'000'000'000 && kPeriodFs <= 0x05f5e100);
constexpr std::uint64_t kCapabilitiesValue = kPeriodFs << 32 | 0x8086ull << 16 | 1u << 15 |
                                             1u << 13 | (kHpetComparators - 1) << 8 | 0x01;
// §2.3.5 "General Configuration Register".
constexpr std::uint64_t kEnable = 1, kLegacy = 2;

// §2.3.8 "Timer N Configuration and Capabilities Register".
constexpr std::uint64_t kLevel = 1u << 1, kInterrupt = 1u << 2, kPeriodic = 1u << 3,
                        kSetValue = 1u << 6, k32Bit = 1u << 8, kFsb = 1u << 14;
constexpr unsigned kRouteShift = 9;
constexpr std::uint64_t kRouteMask = 0x1full << kRouteShift;
constexpr std::uint64_t kWritable = kLevel | kInterrupt | kPeriodic | k32Bit | kRouteMask | kFsb;
// Periodic (4), 64 bits (5), FSB (15); pins 20 to 23.
constexpr std::uint64_t kRoutes = 0x00f00000;
constexpr std::uint64_t kFixed = kRoutes << 32 | 1u << 15 | 1u << 5 | 1u << 4;

constexpr GuestNs kNever = std::numeric_limits<GuestNs>::max();

unsigned route(const HpetComparatorState& c) {
  return static_cast<unsigned>((c.config & kRouteMask) >> kRouteShift);
}
std::uint64_t width_mask(const HpetComparatorState& c) {
  return (c.config & k32Bit) != 0 ? 0xffffffff : ~0ull;
}
bool is_periodic(const HpetComparatorState& c) {
  return (c.config & kPeriodic) != 0 && c.period != 0;
}
IrqSource source(unsigned n) { return static_cast<IrqSource>(kHpetSource + n); }

}  // namespace

Hpet::Hpet(InterruptFabric& fabric, TimerService& timers)
    : fabric_{fabric},
      timers_{timers},
      clock_{timers.clock()},
      timer_{timers, [this](std::uint64_t) {
               std::scoped_lock hold(mutex_);
               settle_all();
             }} {
  // While the clock stands, as during a restore, no line moves.
  fabric.on_reach_change([this] {
    std::scoped_lock hold(mutex_);
    if (clock_.running())
      settle_all();
    else
      arm();
  });
}

void Hpet::reset() {
  {
    std::scoped_lock hold(mutex_);
    for (unsigned n = 0; n < kHpetComparators; ++n) drop_lines(n);
    state_ = HpetState{};
    fabric_.set_legacy_replacement(false);
    timer_.cancel();
  }
  fabric_.routes_changed();
}

HpetState Hpet::state() const {
  std::scoped_lock hold(mutex_);
  return state_;
}

void Hpet::set_state(const HpetState& state) {
  std::scoped_lock hold(mutex_);
  state_ = state;
  for (Comparator& c : state_.comparators) c.config &= kWritable;
  arm();
}

bool Hpet::running() const { return (state_.config & kEnable) != 0; }

std::uint64_t Hpet::counter() const {
  if (!running()) return state_.counter;
  return state_.counter + (ticks_at(clock_.now(), kCrystalHz) - state_.started);
}

bool Hpet::legacy(unsigned n) const { return n < 2 && (state_.config & kLegacy) != 0; }

// Registers have 64 bits; narrower accesses see their part, ones that cross read 0 beyond.
std::uint64_t Hpet::read(std::uint64_t offset, unsigned size) {
  std::scoped_lock hold(mutex_);
  const unsigned shift = 8 * static_cast<unsigned>(offset & 7);
  const std::uint64_t value = read_register(offset & ~std::uint64_t{7}) >> shift;
  return size >= 8 ? value : value & ((1ull << (8 * size)) - 1);
}

void Hpet::write(std::uint64_t offset, unsigned size, std::uint64_t value) {
  bool routes = false;
  {
    std::scoped_lock hold(mutex_);
    const unsigned shift = 8 * static_cast<unsigned>(offset & 7);
    const std::uint64_t bytes = size >= 8 ? ~0ull : (1ull << (8 * size)) - 1;
    const std::uint64_t before = state_.config;
    write_register(offset & ~std::uint64_t{7}, value << shift, bytes << shift);
    routes = ((before ^ state_.config) & kLegacy) != 0;
  }
  if (routes) fabric_.routes_changed();
}

std::uint64_t Hpet::read_register(std::uint64_t at) {
  if (at == kCapabilities) return kCapabilitiesValue;
  if (at == kConfig) return state_.config;
  if (at == kCounter) return counter();
  if (running()) settle_all();
  if (at == kStatus) {
    std::uint64_t status = 0;
    for (unsigned n = 0; n < kHpetComparators; ++n)
      if (state_.comparators[n].pending) status |= 1ull << n;
    return status;
  }
  const std::uint64_t n = (at - kFirstTimer) / kTimerStride;
  if (at < kFirstTimer || n >= kHpetComparators) return 0;
  const Comparator& c = state_.comparators[n];
  switch (at % kTimerStride) {
    case kTimerConfig: return c.config | kFixed;
    case kComparator: return c.comparator & width_mask(c);
    case kFsbRoute: return c.fsb;
    default: return 0;
  }
}

void Hpet::write_register(std::uint64_t at, std::uint64_t value, std::uint64_t lanes) {
  const auto merged = [&](std::uint64_t old) { return (old & ~lanes) | (value & lanes); };
  if (running()) settle_all();
  if (at == kConfig) {
    write_config(merged(state_.config));
  } else if (at == kStatus) {
    write_status(value & lanes);
  } else if (at == kCounter) {
    // §2.3.7: only while halted.
    if (running()) return;
    state_.counter = merged(state_.counter);
    for (Comparator& c : state_.comparators) expect_match(c);
  } else if (at >= kFirstTimer && (at - kFirstTimer) / kTimerStride < kHpetComparators) {
    write_timer(static_cast<unsigned>((at - kFirstTimer) / kTimerStride), at % kTimerStride, value,
                lanes);
  }
  arm();
}

void Hpet::write_config(std::uint64_t value) {
  const std::uint64_t before = state_.config;
  const std::uint64_t now = counter();
  if (((before ^ value) & kLegacy) != 0) {
    for (unsigned n = 0; n < 2; ++n) drop_lines(n);
    fabric_.set_legacy_replacement((value & kLegacy) != 0);
  }
  state_.config = value & (kEnable | kLegacy);
  state_.counter = now;
  state_.started = ticks_at(clock_.now(), kCrystalHz);
  for (unsigned n = 0; n < 2; ++n) drive_level(n);
}

// §2.3.6 "General Interrupt Status Register": a 1 clears, and lowers a level-triggered line.
void Hpet::write_status(std::uint64_t value) {
  for (unsigned n = 0; n < kHpetComparators; ++n) {
    if ((value >> n & 1) == 0) continue;
    state_.comparators[n].pending = false;
    drop_lines(n);
  }
}

void Hpet::write_timer(unsigned n, std::uint64_t which, std::uint64_t value, std::uint64_t lanes) {
  Comparator& c = state_.comparators[n];
  if (which == kTimerConfig)
    write_timer_config(n, (c.config & ~lanes) | (value & lanes));
  else if (which == kComparator)
    write_comparator(c, value, lanes);
  else if (which == kFsbRoute)
    c.fsb = (c.fsb & ~lanes) | (value & lanes);
}

void Hpet::write_timer_config(unsigned n, std::uint64_t value) {
  Comparator& c = state_.comparators[n];
  drop_lines(n);
  const bool narrowed = (c.config & k32Bit) != (value & k32Bit);
  c.set_accumulator = (value & kSetValue) != 0;
  c.config = value & kWritable;
  // "If the value is not supported by this timer, the value read back will not match."
  if ((kRoutes >> route(c) & 1) == 0) c.config &= ~kRouteMask;
  if ((c.config & kLevel) == 0) c.pending = false;
  if (narrowed) expect_match(c);
  drive_level(n);
}

// §2.3.9 "Timer N Comparator Register": a periodic timer's write is the period, and the next match
// too where Tn_VAL_SET_CNF asked for it.
void Hpet::write_comparator(Comparator& c, std::uint64_t value, std::uint64_t lanes) {
  const std::uint64_t mask = width_mask(c);
  const bool periodic = (c.config & kPeriodic) != 0;
  if (periodic) c.period = ((c.period & ~lanes) | (value & lanes)) & mask;
  if (periodic && !c.set_accumulator) return;
  c.comparator = ((c.comparator & ~lanes) | (value & lanes)) & mask;
  c.set_accumulator = false;
  expect_match(c);
}

// The match is an equality: a 64-bit comparator behind the counter is not met again in this
// universe, a 32-bit one after the wrap.
void Hpet::expect_match(Comparator& c) {
  const std::uint64_t now = counter();
  const std::uint64_t distance = (c.comparator - now) & width_mask(c);
  c.next = now + distance;
  c.armed = c.next >= now;
}

void Hpet::settle(unsigned n) {
  Comparator& c = state_.comparators[n];
  const std::uint64_t now = counter();
  const bool was_heard = std::exchange(heard_[n], heard(n));
  if (!c.armed || now < c.next) return;
  const std::uint64_t wrap = 1ull << 32;
  const std::uint64_t step = is_periodic(c) ? c.period : (c.config & k32Bit) != 0 ? wrap : 0;
  if (step == 0) {
    c.armed = false;
    return fire(n);
  }
  // Late matches come one at a time; what nobody hears, and what is too late, is passed over.
  const std::uint64_t late = (now - c.next) / step;
  const std::uint64_t most = was_heard && heard_[n] && is_periodic(c) ? TickPacer::kMostLate : 0;
  if (late > most) c.next += (late - most) * step;
  c.next += step;
  if (is_periodic(c)) c.comparator = c.next & width_mask(c);
  fire(n);
}

void Hpet::settle_all() {
  if (!running()) return;
  for (unsigned n = 0; n < kHpetComparators; ++n) settle(n);
  arm();
}

bool Hpet::heard(unsigned n) const {
  const Comparator& c = state_.comparators[n];
  if ((c.config & kInterrupt) == 0) return false;
  if (legacy(n)) return fabric_.isa_heard(n == 0 ? 0 : 8);
  return (c.config & kFsb) != 0 || fabric_.pin_heard(route(c));
}

// An edge on a legacy wire leaves it high until the next, so that the 8259 finds the request when
// it acknowledges; the IO-APIC latches a pulse.
void Hpet::fire(unsigned n) {
  Comparator& c = state_.comparators[n];
  const bool level = (c.config & kLevel) != 0;
  if (level) c.pending = true;
  if ((c.config & kInterrupt) == 0) return;
  if (legacy(n) && !level) {
    fabric_.set_hpet_legacy(n, false);
    fabric_.set_hpet_legacy(n, true);
  } else if (!legacy(n) && (c.config & kFsb) != 0) {
    fabric_.msi(c.fsb >> 32, static_cast<std::uint32_t>(c.fsb));
  } else if (level) {
    drive_level(n);
  } else {
    fabric_.set_ioapic_pin(route(c), source(n), true);
    fabric_.set_ioapic_pin(route(c), source(n), false);
  }
}

void Hpet::drop_lines(unsigned n) {
  fabric_.set_hpet_legacy(n, false);
  fabric_.set_ioapic_pin(route(state_.comparators[n]), source(n), false);
}

void Hpet::drive_level(unsigned n) {
  const Comparator& c = state_.comparators[n];
  if (!c.pending || (c.config & (kLevel | kInterrupt)) != (kLevel | kInterrupt)) return;
  if (legacy(n))
    fabric_.set_hpet_legacy(n, true);
  else if ((c.config & kFsb) == 0)
    fabric_.set_ioapic_pin(route(c), source(n), true);
}

// The guest time at which to look at this comparator again.
GuestNs Hpet::due(unsigned n) const {
  const Comparator& c = state_.comparators[n];
  if (!c.armed || !heard(n)) return kNever;
  const GuestNs regular = time_of(later(state_.started, c.next - state_.counter), kCrystalHz);
  if (!is_periodic(c)) return regular;
  // A match that already lies behind is a late tick.
  const TickPacer pacer;
  return pacer.next(c.next <= counter() ? 1 : 0, clock_.now(), regular,
                    time_of(c.period, kCrystalHz));
}

void Hpet::arm() {
  GuestNs next = kNever;
  if (running())
    for (unsigned n = 0; n < kHpetComparators; ++n) next = std::min(next, due(n));
  if (next == kNever)
    timer_.cancel();
  else
    timer_.arm(next);
}

}  // namespace hv

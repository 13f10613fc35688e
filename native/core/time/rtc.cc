#include "time/rtc.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <limits>

#include "time/civil.h"

namespace hv {

namespace {

// MC146818A, "Address Map": date and alarm bytes, registers A to D.
constexpr unsigned kSeconds = 0, kSecondsAlarm = 1, kMinutes = 2, kMinutesAlarm = 3, kHours = 4,
                   kHoursAlarm = 5, kWeekday = 6, kDay = 7, kMonth = 8, kYear = 9, kA = 10, kB = 11,
                   kC = 12, kD = 13;
constexpr unsigned kCentury = 0x32;  // where the FADT says it is

// Register A.
constexpr std::uint8_t kUip = 0x80, kDividerMask = 0x70, kDivide32k = 0x20, kRateMask = 0x0f;
// Register B.
constexpr std::uint8_t kSet = 0x80, kSquareWave = 0x08, kBinary = 0x04, k24Hours = 0x02;
// Registers B (enables) and C (flags).
constexpr std::uint8_t kPeriodic = 0x40, kAlarm = 0x20, kUpdate = 0x10, kInterrupts = 0x70;
constexpr std::uint8_t kIrqf = 0x80;  // register C
constexpr std::uint8_t kValid = 0x80; // register D: VRT
constexpr std::uint8_t kPm = 0x80, kAnyAlarm = 0xc0;

constexpr std::uint64_t kDividerHz = 32'768;
constexpr std::int64_t kSecondNs = 1'000'000'000;
// "Update Cycle": UIP comes 244 µs before the update, which takes 1,984 µs with a 32 kHz crystal.
constexpr std::int64_t kUpdateNs = (244 + 1'984) * 1'000;
constexpr std::int64_t kDaySeconds = 86'400;
constexpr std::int64_t kNoAlarm = std::numeric_limits<std::int64_t>::max();
// The host's wall clock may be set; a far alarm is looked at again.
constexpr std::int64_t kLongestWait = 60;

constexpr bool is_date(unsigned index) {
  return index == kSeconds || index == kMinutes || index == kHours ||
         (index >= kWeekday && index <= kYear) || index == kCentury;
}

constexpr std::int64_t floor_divide(std::int64_t value, std::int64_t by) {
  return value / by - (value % by < 0 ? 1 : 0);
}

void put_word(std::array<std::uint8_t, 128>& bytes, unsigned at, std::uint64_t value) {
  bytes[at] = static_cast<std::uint8_t>(value);
  bytes[at + 1] = static_cast<std::uint8_t>(value >> 8);
}

}  // namespace

WallClock host_wall_clock() {
  return [] {
    const auto since = std::chrono::system_clock::now().time_since_epoch();
    return std::int64_t{std::chrono::duration_cast<std::chrono::nanoseconds>(since).count()};
  };
}

std::int64_t host_zone_offset(std::int64_t seconds) {
  const auto time = static_cast<std::time_t>(seconds);
  std::tm local{};
  if (localtime_r(&time, &local) == nullptr) return 0;
  return local.tm_gmtoff;
}

Rtc::Rtc(InterruptFabric& fabric, TimerService& timers, const RtcConfig& config, WallClock wall)
    : fabric_{fabric},
      timers_{timers},
      clock_{timers.clock()},
      wall_{std::move(wall)},
      local_{config.local_time},
      timer_{timers, [this](std::uint64_t) {
               std::scoped_lock hold(mutex_);
               update();
             }} {
  // As a PC's firmware leaves it: 32,768 Hz, 1,024 Hz rate, BCD, 24 hours, battery good.
  state_.bytes[kA] = 0x26;
  state_.bytes[kB] = k24Hours;
  state_.bytes[kD] = kValid;
  fill_memory_sizes(config);
  state_.seen_second = wall_now().second;
  show(state_.seen_second);
  // While the clock stands, as during a restore, no line moves.
  fabric.on_reach_change([this] {
    std::scoped_lock hold(mutex_);
    if (clock_.running())
      update();
    else
      arm();
  });
}

// The PC's convention: KiB below 1 MiB, KiB above it (twice), 64 KiB units from 16 MiB to 4 GiB
// and above 4 GiB.
void Rtc::fill_memory_sizes(const RtcConfig& config) {
  const auto above = [](std::uint64_t size, std::uint64_t start) {
    return size > start ? size - start : 0;
  };
  const std::uint64_t extended = above(config.memory_below_4g, 1 << 20) >> 10;
  const std::uint64_t high = above(config.memory_below_4g, 16 << 20) >> 16;
  put_word(state_.bytes, 0x15, 640);
  put_word(state_.bytes, 0x17, std::min<std::uint64_t>(extended, 0xffff));
  put_word(state_.bytes, 0x30, std::min<std::uint64_t>(extended, 0xffff));
  put_word(state_.bytes, 0x34, std::min<std::uint64_t>(high, 0xffff));
  put_word(state_.bytes, 0x5b, config.memory_above_4g >> 16);
  state_.bytes[0x5d] = static_cast<std::uint8_t>(config.memory_above_4g >> 32);
}

// "RESET": clears the enables and the flags.
void Rtc::reset() {
  std::scoped_lock hold(mutex_);
  state_.bytes[kB] &= static_cast<std::uint8_t>(~(kInterrupts | kSquareWave));
  state_.bytes[kC] = 0;
  state_.index = 0;
  state_.nmi_disabled = false;
  state_.line = false;
  fabric_.set_rtc(false);
  timer_.cancel();
}

RtcState Rtc::state() const {
  std::scoped_lock hold(mutex_);
  return state_;
}

void Rtc::set_state(const RtcState& state) {
  std::scoped_lock hold(mutex_);
  state_ = state;
  state_.index &= 0x7f;
  constexpr std::int64_t kFurthest = 400ll * 366 * kDaySeconds * 100;
  state_.offset = std::clamp(state_.offset, -kFurthest, kFurthest);
  arm();
}

bool Rtc::nmi_enabled() const {
  std::scoped_lock hold(mutex_);
  return !state_.nmi_disabled;
}

std::int64_t Rtc::guest_seconds() const {
  std::scoped_lock hold(mutex_);
  return held() ? shown() : wall_now().second;
}

std::uint32_t Rtc::read(std::uint16_t port, unsigned size) {
  std::scoped_lock hold(mutex_);
  std::uint32_t value = 0;
  for (unsigned i = 0; i < size && i < 4; ++i)
    value |= std::uint32_t{port + i == 0x71 ? read_data() : std::uint8_t{0xff}} << (8 * i);
  return value;
}

// Bit 7 of the index port keeps NMIs from the processor.
void Rtc::write(std::uint16_t port, unsigned size, std::uint32_t value) {
  std::scoped_lock hold(mutex_);
  for (unsigned i = 0; i < size && i < 4; ++i) {
    const auto byte = static_cast<std::uint8_t>(value >> (8 * i));
    if (port + i == 0x70) {
      state_.index = byte & 0x7f;
      state_.nmi_disabled = (byte & 0x80) != 0;
    } else if (port + i == 0x71) {
      write_data(byte);
    }
  }
}

// --- the date ---

Rtc::Now Rtc::wall_now() const {
  const std::int64_t wall = wall_();
  const std::int64_t second = floor_divide(wall, kSecondNs);
  const std::int64_t zone = local_ ? host_zone_offset(second) : 0;
  return {second + zone + state_.offset, wall - second * kSecondNs};
}

bool Rtc::held() const {
  return (reg(kB) & kSet) != 0 || (reg(kA) & kDividerMask) != kDivide32k;
}

std::uint8_t Rtc::encode(unsigned value) const {
  if ((reg(kB) & kBinary) != 0) return static_cast<std::uint8_t>(value);
  return static_cast<std::uint8_t>(value / 10 << 4 | value % 10);
}

unsigned Rtc::decode(std::uint8_t byte) const {
  if ((reg(kB) & kBinary) != 0) return byte;
  return (byte >> 4) * 10u + (byte & 0xfu);
}

// "12 or 24 hours": 12 AM is midnight, bit 7 is PM.
std::uint8_t Rtc::encode_hour(unsigned hour) const {
  if ((reg(kB) & k24Hours) != 0) return encode(hour);
  const std::uint8_t twelve = encode(hour % 12 == 0 ? 12 : hour % 12);
  return static_cast<std::uint8_t>(hour >= 12 ? twelve | kPm : twelve);
}

unsigned Rtc::decode_hour(std::uint8_t byte) const {
  if ((reg(kB) & k24Hours) != 0) return decode(byte);
  const unsigned hour = decode(byte & 0x7f) % 12;
  return (byte & kPm) != 0 ? hour + 12 : hour;
}

void Rtc::show(std::int64_t second) {
  const std::int64_t day = floor_divide(second, kDaySeconds);
  const auto in_day = static_cast<unsigned>(second - day * kDaySeconds);
  const CivilDate date = civil_of(day);
  auto& bytes = state_.bytes;
  bytes[kSeconds] = encode(in_day % 60);
  bytes[kMinutes] = encode(in_day / 60 % 60);
  bytes[kHours] = encode_hour(in_day / 3600);
  // 1970-01-01 was a Thursday, and Sunday is day 1.
  bytes[kWeekday] = encode(static_cast<unsigned>(((day + 4) % 7 + 7) % 7) + 1);
  bytes[kDay] = encode(date.day);
  bytes[kMonth] = encode(date.month);
  const auto year = static_cast<unsigned>(std::clamp<std::int64_t>(date.year, 0, 9999));
  bytes[kYear] = encode(year % 100);
  bytes[kCentury] = encode(year / 100);
}

// Whatever the bytes hold, some second comes out: a 31st of February is a day of March.
std::int64_t Rtc::shown() const {
  const unsigned month = std::clamp(decode(reg(kMonth)), 1u, 12u);
  const std::int64_t year = std::int64_t{decode(reg(kCentury))} * 100 + decode(reg(kYear));
  const std::int64_t days = days_of({year, month, 1}) + decode(reg(kDay)) - 1;
  return days * kDaySeconds + decode_hour(reg(kHours)) * 3600ll + decode(reg(kMinutes)) * 60ll +
         decode(reg(kSeconds));
}

void Rtc::adopt_shown() {
  const std::int64_t now = wall_now().second;
  state_.offset += shown() - now;
  state_.seen_second = wall_now().second;
}

// "Alarm": bytes of 0xC0 and above match everything.
std::int64_t Rtc::next_alarm(std::int64_t after) const {
  const auto matches = [](std::uint8_t alarm, unsigned wanted, unsigned is) {
    return alarm >= kAnyAlarm || wanted == is;
  };
  const std::uint8_t hours = reg(kHoursAlarm), minutes = reg(kMinutesAlarm),
                     seconds = reg(kSecondsAlarm);
  // In 12-hour mode bit 7 is PM, so only both upper bits mean "any" there too.
  const unsigned hour = decode_hour(hours), minute = decode(minutes), second = decode(seconds);
  const std::int64_t start = after + 1;
  for (std::int64_t at = start; at <= start + kDaySeconds;) {
    const std::int64_t day = floor_divide(at, kDaySeconds);
    const auto in_day = static_cast<unsigned>(at - day * kDaySeconds);
    if (!matches(hours, hour, in_day / 3600))
      at += 3600 - in_day % 3600;
    else if (!matches(minutes, minute, in_day / 60 % 60))
      at += 60 - in_day % 60;
    else if (!matches(seconds, second, in_day % 60))
      ++at;
    else
      return at;
  }
  return kNoAlarm;
}

// --- the data port ---

std::uint8_t Rtc::read_data() {
  const unsigned index = state_.index;
  if (index == kA) return read_register_a();
  if (index == kC) return read_register_c();
  if (is_date(index) && !held()) show(wall_now().second);
  return reg(index);
}

std::uint8_t Rtc::read_register_a() const {
  const bool updating = !held() && wall_now().ns >= kSecondNs - kUpdateNs;
  return static_cast<std::uint8_t>(reg(kA) | (updating ? kUip : 0));
}

// Reading clears all flags and releases the line.
std::uint8_t Rtc::read_register_c() {
  update();
  const std::uint8_t flags = reg(kC);
  state_.bytes[kC] = 0;
  // The line must fall before a tick that is owed raises it again.
  if (state_.line) fabric_.set_rtc(false);
  state_.line = false;
  arm();
  return flags;
}

void Rtc::write_data(std::uint8_t value) {
  const unsigned index = state_.index;
  if (index == kC || index == kD) return;
  if (index == kA || index == kB)
    write_control(index, value);
  else if (is_date(index))
    write_date(index, value);
  else
    state_.bytes[index] = value;
  if (index < kC) update();
}

void Rtc::write_control(unsigned index, std::uint8_t value) {
  update();
  const bool was_held = held();
  const std::uint64_t period_before = period();
  if (!was_held) show(wall_now().second);
  if (index == kA) value &= static_cast<std::uint8_t>(~kUip);
  // "SET": a 1 clears the update-ended enable.
  if (index == kB && (value & kSet) != 0) value &= static_cast<std::uint8_t>(~kUpdate);
  state_.bytes[index] = value;
  if (was_held && !held()) adopt_shown();
  if (period() != period_before) {
    state_.periodic_start = ticks_at(clock_.now(), kDividerHz);
    state_.periodic = {};
  }
}

void Rtc::write_date(unsigned index, std::uint8_t value) {
  if (!held()) show(wall_now().second);
  state_.bytes[index] = value;
  if (!held()) adopt_shown();
}

// --- interrupts ---

// In ticks of 32,768 Hz; 0: none. Rates 1 and 2 are those of 8 and 9 ("Periodic Interrupt Rate").
std::uint64_t Rtc::period() const {
  const unsigned rate = reg(kA) & kRateMask;
  if (rate == 0 || (reg(kA) & kDividerMask) != kDivide32k) return 0;
  return 1ull << ((rate <= 2 ? rate + 7 : rate) - 1);
}

std::uint64_t Rtc::periodic_due() const {
  if (period() == 0) return 0;
  return (ticks_at(clock_.now(), kDividerHz) - state_.periodic_start) / period();
}

void Rtc::settle_seconds() {
  const std::int64_t now = wall_now().second;
  const std::int64_t seen = state_.seen_second;
  state_.seen_second = now;
  if (held() || now <= seen) return;  // a host clock set back ends no second
  state_.bytes[kC] |= kUpdate;
  if (next_alarm(std::max(seen, now - kDaySeconds)) <= now) state_.bytes[kC] |= kAlarm;
}

void Rtc::settle_periodic() {
  const std::uint64_t due = periodic_due();
  if (due <= state_.periodic.given) return;
  const bool wanted = (reg(kB) & kPeriodic) != 0 && fabric_.rtc_heard();
  if (!wanted) {
    // Ticks that interrupt nobody leave the flag.
    state_.periodic.given = due;
    state_.bytes[kC] |= kPeriodic;
  } else if ((reg(kC) & kPeriodic) == 0 && state_.periodic.take(due)) {
    state_.bytes[kC] |= kPeriodic;
  }
}

void Rtc::update() {
  settle_seconds();
  settle_periodic();
  const bool line = (reg(kC) & reg(kB) & kInterrupts) != 0;
  state_.bytes[kC] = static_cast<std::uint8_t>(line ? reg(kC) | kIrqf : reg(kC) & ~kIrqf);
  if (line != state_.line) fabric_.set_rtc(line);
  state_.line = line;
  arm();
}

GuestNs Rtc::guest_time_of(std::int64_t second, const Now& now) const {
  const std::int64_t seconds = std::clamp<std::int64_t>(second - now.second, 0, kLongestWait);
  const std::int64_t delay = seconds * kSecondNs - now.ns;
  return later(clock_.now(), static_cast<GuestNs>(std::max<std::int64_t>(delay, 0)));
}

// While the line is up nothing more can be told until register C is read.
void Rtc::arm() {
  constexpr GuestNs kNever = std::numeric_limits<GuestNs>::max();
  const std::uint8_t enables = reg(kB) & kInterrupts;
  GuestNs next = kNever;
  if (enables == 0 || state_.line || !fabric_.rtc_heard()) return timer_.cancel();
  const Now now = wall_now();
  if ((enables & kUpdate) != 0 && !held()) next = guest_time_of(now.second + 1, now);
  if ((enables & kAlarm) != 0 && !held()) {
    const std::int64_t alarm = next_alarm(now.second);
    if (alarm != kNoAlarm) next = std::min(next, guest_time_of(alarm, now));
  }
  if ((enables & kPeriodic) != 0 && period() != 0) {
    const std::uint64_t due = periodic_due();
    const GuestNs regular = time_of(state_.periodic_start + (due + 1) * period(), kDividerHz);
    next = std::min(next, state_.periodic.next(due, clock_.now(), regular,
                                               time_of(period(), kDividerHz)));
  }
  if (next == kNever)
    timer_.cancel();
  else
    timer_.arm(next);
}

}  // namespace hv

// The local APIC's way of an interrupt: sent, matched, accepted, in service, ended.
#include <bit>

#include "irq/lapic.h"
#include "irq/lapic_bits.h"

namespace hv {

namespace {

using namespace lapic;

constexpr unsigned kFirstLegalVector = 16;

constexpr std::uint32_t bit_of(unsigned vector) { return 1u << (vector & 31); }

int highest(const ApicBits& bits) {
  for (int word = 7; word >= 0; --word)
    if (const std::uint32_t value = bits[static_cast<unsigned>(word)]; value != 0)
      return word * 32 + 31 - std::countl_zero(value);
  return -1;
}

constexpr DeliveryMode mode_of(std::uint64_t value) {
  return static_cast<DeliveryMode>(value >> 8 & 7);
}

}  // namespace

// --- priorities ---

// "Processor Priority": the task's, or the class of what is in service where that is higher.
std::uint8_t Lapic::processor_priority() const {
  const int serving = highest(state_.isr);
  const std::uint32_t in_service = serving < 0 ? 0 : static_cast<std::uint32_t>(serving);
  const std::uint32_t task = state_.tpr & 0xff;
  return static_cast<std::uint8_t>((task >> 4) >= (in_service >> 4) ? task : in_service & 0xf0);
}

// "Arbitration Priority Register (APR)".
std::uint32_t Lapic::arbitration_priority() const {
  const int requested = highest(state_.irr), serving = highest(state_.isr);
  const std::uint32_t irr = requested < 0 ? 0 : static_cast<std::uint32_t>(requested) & 0xf0;
  const std::uint32_t isr = serving < 0 ? 0 : static_cast<std::uint32_t>(serving) & 0xf0;
  const std::uint32_t task = state_.tpr;
  if ((task & 0xf0) >= irr && (task & 0xf0) > isr) return task;
  const std::uint32_t most = (task & 0xf0) > isr ? task & 0xf0 : isr;
  return most > irr ? most : irr;
}

int Lapic::deliverable() const {
  const int requested = highest(state_.irr);
  if (requested < 0 || lent_ || !enabled()) return -1;
  return requested >> 4 > processor_priority() >> 4 ? requested : -1;
}

// The 8259 pair's INT reaches the processor as it is while the APIC is off, and through LINT0 in
// virtual wire mode; ExtINT messages wait for their INTA.
bool Lapic::ext_int_wanted() const {
  const bool asserted = (state_.lint & 1) != 0;
  // The kernel's own LINT0 lets it through, or not.
  if (lent_ || mode() == Mode::kDisabled) return asserted;
  const std::uint32_t lint0 = state_.lvt[kLvtLint0];
  const bool open = (lint0 & kLvtMasked) == 0 && mode_of(lint0) == DeliveryMode::kExtInt;
  return state_.ext_int || (open && asserted);
}

void Lapic::update() {
  const bool wanted = ext_int_wanted() || deliverable() >= 0;
  if (wanted != signals_.has(Signal::kInterrupt)) {
    if (wanted)
      signals_.raise(Signal::kInterrupt);
    else
      signals_.clear(Signal::kInterrupt);
  }
  const std::uint64_t flat = state_.dfr >> 28 == 0xf ? 1 : 0;
  identity_.store(static_cast<std::uint64_t>(mode()) << 62 | flat << 40 |
                      std::uint64_t{state_.ldr >> 24} << 32 | state_.id,
                  std::memory_order_relaxed);
  constexpr std::uint64_t kNowhere = ~0ull;
  base_.store(mode() == Mode::kXapic && !lent_ ? state_.base & ~std::uint64_t{0xfff} : kNowhere,
              std::memory_order_relaxed);
  arbitrates_.store(enabled(), std::memory_order_relaxed);
  priority_.store(processor_priority(), std::memory_order_relaxed);
}

// --- INTA and EOI ---

std::optional<std::uint8_t> Lapic::acknowledge() {
  {
    std::scoped_lock hold(mutex_);
    if (!ext_int_wanted()) {
      const int vector = deliverable();
      if (vector < 0) return std::nullopt;
      const auto number = static_cast<unsigned>(vector);
      state_.irr[number / 32] &= ~bit_of(number);
      state_.isr[number / 32] |= bit_of(number);
      update();
      return static_cast<std::uint8_t>(number);
    }
    state_.ext_int = false;
    update();
  }
  // Without the lock: the pair's INT comes back to set_lint().
  return bus_.acknowledge_pic();
}

bool Lapic::ends_level_interrupt() const {
  const int vector = highest(state_.isr);
  if (vector < 0) return false;
  const auto number = static_cast<unsigned>(vector);
  return (state_.tmr[number / 32] & bit_of(number)) != 0;
}

void Lapic::wait_before_eoi() {
  bool level = false;
  {
    std::scoped_lock hold(mutex_);
    level = ends_level_interrupt();
  }
  if (level) bus_.before_level_eoi(index_);
}

void Lapic::end_of_interrupt(Effects& effects) {
  const int vector = highest(state_.isr);
  if (vector < 0) return;
  const bool level = ends_level_interrupt();
  const auto number = static_cast<unsigned>(vector);
  state_.isr[number / 32] &= ~bit_of(number);
  if (!level) return;
  if ((state_.svr & kSvrNoEoiBroadcast) == 0) effects.eoi = static_cast<std::uint8_t>(number);
  if (state_.lint_remote_irr && (state_.lvt[kLvtLint0] & 0xff) == number) {
    state_.lint_remote_irr = false;
    request_by_level();
  }
}

// --- sending ---

void Lapic::perform(const Effects& effects) {
  if (effects.eoi) bus_.broadcast_eoi(*effects.eoi);
  if (effects.icr) send(*effects.icr);
}

// "Interrupt Command Register (ICR)".
void Lapic::send(std::uint64_t icr) {
  const std::uint64_t shorthand = icr >> 18 & 3;
  const bool level = (icr >> 15 & 1) != 0, assert = (icr >> 14 & 1) != 0;
  InterruptMessage message;
  message.mode = mode_of(icr);
  message.vector = static_cast<std::uint8_t>(icr);
  message.logical = (icr >> 11 & 1) != 0;
  const bool vectored = message.mode == DeliveryMode::kFixed ||
                        message.mode == DeliveryMode::kLowestPriority;
  {
    std::scoped_lock hold(mutex_);
    message.wide = mode() == Mode::kX2apic;
    if (vectored && message.vector < kFirstLegalVector) {
      error(kSendIllegalVector);
      return update();
    }
  }
  message.destination = static_cast<std::uint32_t>(message.wide ? icr >> 32 : icr >> 56);
  if (message.mode == DeliveryMode::kReserved || message.mode == DeliveryMode::kExtInt) return;
  // "INIT Level De-assert": nothing since the Pentium 4.
  if (message.mode == DeliveryMode::kInit && level && !assert) return;
  // "Valid Combinations": no INIT or start-up to a set that has the sender in it.
  const bool to_self = shorthand == 1 || shorthand == 2;
  if (to_self && !vectored && message.mode != DeliveryMode::kNmi) return;
  if (shorthand == 0)
    bus_.deliver(message);
  else if (shorthand == 1)
    accept(message);
  else
    bus_.deliver_all(message, shorthand == 3 ? std::optional{index_} : std::nullopt);
}

// --- receiving ---

// "Determining IPI Destination". 0xFF, or all 32 bits of a wide one, names all.
bool Lapic::matches(const InterruptMessage& message) const noexcept {
  const std::uint64_t identity = identity_.load(std::memory_order_relaxed);
  const auto own_mode = static_cast<Mode>(identity >> 62);
  const auto id = static_cast<std::uint32_t>(identity);
  const std::uint32_t to = message.destination;
  const std::uint32_t everyone = message.wide ? 0xffffffff : 0xff;
  if (own_mode == Mode::kDisabled) return false;
  if (!message.logical) return to == id || to == everyone;
  if (own_mode == Mode::kX2apic) {
    if (message.wide && to == everyone) return true;
    return to >> 16 == id >> 4 && (to >> (id & 0xf) & 1) != 0;
  }
  if (to == everyone) return true;
  const auto logical = static_cast<std::uint32_t>(identity >> 32 & 0xff);
  const bool flat = (identity >> 40 & 1) != 0;
  if (flat) return (to & logical) != 0;
  const bool cluster = to >> 4 == logical >> 4 || to >> 4 == 0xf;
  return cluster && (to & logical & 0xf) != 0;
}

void Lapic::accept(const InterruptMessage& message) {
  std::scoped_lock hold(mutex_);
  if (mode() == Mode::kDisabled) return;
  accept_locked(message);
  update();
}

void Lapic::accept_locked(const InterruptMessage& message) {
  switch (message.mode) {
    case DeliveryMode::kFixed:
    case DeliveryMode::kLowestPriority:
      if (enabled()) set_requested(message.vector, message.level);
      break;
    case DeliveryMode::kNmi: signals_.raise(Signal::kNmi); break;
    case DeliveryMode::kInit:
      // A start-up IPI that came before has nothing to start any more.
      init();
      signals_.clear(Signal::kSipi);
      signals_.raise(Signal::kInit);
      break;
    case DeliveryMode::kStartUp:
      signals_.sipi_vector.store(message.vector, std::memory_order_relaxed);
      signals_.raise(Signal::kSipi);
      break;
    case DeliveryMode::kExtInt:
      if (enabled()) state_.ext_int = true;
      break;
    case DeliveryMode::kSmi:
    case DeliveryMode::kReserved: break;  // no system management mode here
  }
}

void Lapic::set_requested(std::uint8_t vector, bool level) {
  if (vector < kFirstLegalVector) return error(kReceiveIllegalVector);
  const std::uint32_t bit = bit_of(vector);
  state_.irr[vector / 32] |= bit;
  if (level)
    state_.tmr[vector / 32] |= bit;
  else
    state_.tmr[vector / 32] &= ~bit;
}

// "Error Handling". An error entry whose own vector is illegal leaves it at the status bit.
void Lapic::error(std::uint32_t bit) {
  state_.esr_pending |= bit;
  if ((state_.lvt[kLvtError] & 0xff) >= kFirstLegalVector)
    local_interrupt(kLvtError);
  else if ((state_.lvt[kLvtError] & kLvtMasked) == 0)
    state_.esr_pending |= kReceiveIllegalVector;
}

// "Local Vector Table": an event of one of its sources.
void Lapic::local_interrupt(unsigned lvt) {
  const std::uint32_t entry = state_.lvt[lvt];
  if ((entry & kLvtMasked) != 0) return;
  InterruptMessage message;
  message.mode = lvt == kLvtTimer || lvt == kLvtError ? DeliveryMode::kFixed : mode_of(entry);
  message.vector = static_cast<std::uint8_t>(entry);
  message.level = lvt == kLvtLint0 && (entry & kLvtLevel) != 0;
  if (message.mode != DeliveryMode::kStartUp) accept_locked(message);
}

// --- LINT0 and LINT1 ---

void Lapic::set_lint(unsigned pin, bool level) {
  if (pin > 1) return;
  std::scoped_lock hold(mutex_);
  set_lint_locked(pin, level);
  update();
}

void Lapic::set_lint_locked(unsigned pin, bool level) {
  const auto mask = static_cast<std::uint8_t>(1u << pin);
  const bool rises = level && (state_.lint & mask) == 0;
  state_.lint = static_cast<std::uint8_t>(level ? state_.lint | mask : state_.lint & ~mask);
  if (lent_ || mode() == Mode::kDisabled) {
    if (pin == 1 && rises) signals_.raise(Signal::kNmi);
    return;
  }
  const std::uint32_t entry = state_.lvt[kLvtLint0 + pin];
  const DeliveryMode delivery = mode_of(entry);
  // ExtINT on LINT0 is not an event: ext_int_wanted() looks at the level.
  if (pin == 0 && delivery == DeliveryMode::kExtInt) return;
  const bool by_level = pin == 0 && delivery == DeliveryMode::kFixed && (entry & kLvtLevel) != 0;
  if (by_level)
    request_by_level();
  else if (rises)
    local_interrupt(kLvtLint0 + pin);
}

// LINT0 as a level-triggered fixed interrupt ("LINT1 must always be edge-sensitive").
void Lapic::request_by_level() {
  const std::uint32_t entry = state_.lvt[kLvtLint0];
  if ((state_.lint & 1) == 0 || state_.lint_remote_irr || (entry & kLvtMasked) != 0) return;
  if ((entry & kLvtLevel) == 0 || mode_of(entry) != DeliveryMode::kFixed) return;
  state_.lint_remote_irr = true;
  local_interrupt(kLvtLint0);
}

}  // namespace hv

#include "irq/ioapic.h"

namespace hv {

namespace {

// 82093AA §3.1 "Memory Mapped Registers for Accessing IOAPIC Registers"; the EOI register is the
// ICH family's.
constexpr std::uint64_t kSelect = 0x00, kWindow = 0x10, kEoi = 0x40;
// §3.2 "IOAPIC Registers".
constexpr std::uint8_t kId = 0x00, kVersion = 0x01, kArbitration = 0x02, kFirstEntry = 0x10;
constexpr std::uint32_t kVersionValue = 0x00170020;  // 24 entries, version 0x20

// §3.2.4 "I/O Redirection Table Registers".
constexpr std::uint64_t kVectorMask = 0xff;
constexpr unsigned kModeShift = 8;
constexpr std::uint64_t kLogical = 1u << 11;
constexpr std::uint64_t kRemoteIrr = 1u << 14;
constexpr std::uint64_t kLevel = 1u << 15;
constexpr std::uint64_t kMasked = 1u << 16;
constexpr unsigned kDestinationShift = 56;
constexpr std::uint64_t kLowWritable = 0x1afff;  // all but delivery status (12) and remote IRR
constexpr std::uint64_t kHighWritable = 0xffull << kDestinationShift;

constexpr std::uint32_t pin_bit(unsigned pin) { return 1u << pin; }

InterruptMessage message_of(std::uint64_t entry) {
  InterruptMessage message;
  message.mode = static_cast<DeliveryMode>(entry >> kModeShift & 7);
  message.vector = static_cast<std::uint8_t>(entry & kVectorMask);
  message.level = (entry & kLevel) != 0;
  message.logical = (entry & kLogical) != 0;
  message.destination = static_cast<std::uint32_t>(entry >> kDestinationShift);
  return message;
}

// Only these two leave an in-service bit behind, and so get an EOI (§3.2.4, "Delivery Mode":
// SMI, NMI, INIT and ExtINT are edge-triggered whatever bit 15 says).
bool is_level(std::uint64_t entry) {
  const auto mode = static_cast<DeliveryMode>(entry >> kModeShift & 7);
  return (entry & kLevel) != 0 &&
         (mode == DeliveryMode::kFixed || mode == DeliveryMode::kLowestPriority);
}

}  // namespace

IoApic::IoApic(IoApicHost& host, std::uint8_t id) : host_{host}, first_id_{id} {
  state_.id = id;
  state_.entries.fill(kMasked);
  publish_unmasked();
}

void IoApic::reset() {
  {
    std::scoped_lock hold(mutex_);
    state_.select = 0;
    state_.id = first_id_;
    state_.entries.fill(kMasked);
    publish_unmasked();
    host_.level_messages_changed();
  }
  host_.reach_changed();
}

IoApicState IoApic::state() const {
  std::scoped_lock hold(mutex_);
  return state_;
}

void IoApic::set_state(const IoApicState& state) {
  {
    std::scoped_lock hold(mutex_);
    state_ = state;
    state_.id &= 0xf;
    state_.lines &= pin_bit(kIoApicPins) - 1;
    publish_unmasked();
    host_.level_messages_changed();
  }
  host_.reach_changed();
}

std::optional<InterruptMessage> IoApic::level_message(std::uint64_t entry) {
  return is_level(entry) ? std::optional{message_of(entry)} : std::nullopt;
}

void IoApic::publish_unmasked() {
  std::uint32_t unmasked = 0;
  for (unsigned pin = 0; pin < kIoApicPins; ++pin)
    if ((state_.entries[pin] & kMasked) == 0) unmasked |= pin_bit(pin);
  unmasked_.store(unmasked, std::memory_order_release);
}

// Both registers are 32 bits wide and 16 apart; a narrower read shows their bytes, and what lies
// between them reads 0.
std::uint64_t IoApic::read(std::uint64_t offset, unsigned size) {
  std::scoped_lock hold(mutex_);
  const std::uint64_t at = offset & ~std::uint64_t{0xf};
  std::uint64_t value = 0;
  if (at == kSelect) value = state_.select;
  if (at == kWindow) value = read_register(state_.select);
  const unsigned lane = static_cast<unsigned>(offset & 0xf);
  value = lane < 4 ? value >> (8 * lane) : 0;
  return size >= 8 ? value : value & ((1ull << (8 * size)) - 1);
}

std::uint32_t IoApic::read_register(std::uint8_t index) const {
  if (index == kId || index == kArbitration) return static_cast<std::uint32_t>(state_.id) << 24;
  if (index == kVersion) return kVersionValue;
  const unsigned pin = (index - kFirstEntry) / 2u;
  if (index < kFirstEntry || pin >= kIoApicPins) return 0;
  const std::uint64_t entry = state_.entries[pin];
  return static_cast<std::uint32_t>((index & 1) != 0 ? entry >> 32 : entry);
}

// Writes take effect where a register begins; a narrow one is extended with zeros.
void IoApic::write(std::uint64_t offset, unsigned, std::uint64_t value) {
  bool reach = false;
  {
    std::scoped_lock hold(mutex_);
    const std::uint32_t before = unmasked();
    if (offset == kSelect) state_.select = static_cast<std::uint8_t>(value);
    if (offset == kWindow) write_register(state_.select, static_cast<std::uint32_t>(value));
    reach = unmasked() != before;
  }
  if (offset == kEoi) end_of_interrupt(static_cast<std::uint8_t>(value));
  if (reach) host_.reach_changed();
}

void IoApic::write_register(std::uint8_t index, std::uint32_t value) {
  if (index == kId) state_.id = value >> 24 & 0xf;
  const unsigned pin = (index - kFirstEntry) / 2u;
  if (index < kFirstEntry || pin >= kIoApicPins) return;
  write_entry(pin, (index & 1) != 0, value);
}

void IoApic::write_entry(unsigned pin, bool high, std::uint32_t value) {
  std::uint64_t& entry = state_.entries[pin];
  const std::optional<InterruptMessage> before = level_message(entry);
  if (high) {
    entry = (entry & 0xffffffff) | (static_cast<std::uint64_t>(value) << 32 & kHighWritable);
    if (level_message(entry) != before) host_.level_messages_changed();
    return;
  }
  entry = (entry & ~kLowWritable) | (value & kLowWritable);
  // An edge-triggered entry has no remote IRR: guests clear a stuck one by switching the trigger
  // mode there and back, which the 82093AA needed.
  if (!is_level(entry)) entry &= ~kRemoteIrr;
  publish_unmasked();
  if (level_message(entry) != before) host_.level_messages_changed();
  deliver_level(pin);
}

void IoApic::deliver(unsigned pin) {
  std::uint64_t& entry = state_.entries[pin];
  InterruptMessage message = message_of(entry);
  message.level = is_level(entry);
  if (message.level) entry |= kRemoteIrr;
  host_.deliver(message);
}

void IoApic::deliver_level(unsigned pin) {
  const std::uint64_t entry = state_.entries[pin];
  if (!is_level(entry) || (entry & (kMasked | kRemoteIrr)) != 0) return;
  if ((state_.lines & pin_bit(pin)) != 0) deliver(pin);
}

void IoApic::set_pin(unsigned pin, bool asserted) {
  if (pin >= kIoApicPins) return;
  std::scoped_lock hold(mutex_);
  const bool was = (state_.lines & pin_bit(pin)) != 0;
  if (was == asserted) return;
  state_.lines ^= pin_bit(pin);
  if (!asserted) return;
  const std::uint64_t entry = state_.entries[pin];
  // §3.2.4 "Interrupt Mask": an edge on a masked pin is lost, a level waits.
  if (is_level(entry))
    deliver_level(pin);
  else if ((entry & kMasked) == 0)
    deliver(pin);
}

void IoApic::end_of_interrupt(std::uint8_t vector) {
  std::scoped_lock hold(mutex_);
  for (unsigned pin = 0; pin < kIoApicPins; ++pin) {
    std::uint64_t& entry = state_.entries[pin];
    if ((entry & kVectorMask) != vector || (entry & kRemoteIrr) == 0) continue;
    entry &= ~kRemoteIrr;
    deliver_level(pin);
  }
}

}  // namespace hv

// The IO-APIC: 24 pins, one redirection entry each. Intel 82093AA data sheet; version 0x20 with
// the EOI register of the ICH family (Intel ICH9 data sheet, "EOIR - EOI Register").
//
// Locks: one mutex; IoApicHost::deliver() is called under it (order: irq/interrupt_fabric.h),
// reach_changed() without it.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string_view>

#include "irq/message.h"

namespace hv {

class IoApicHost {
 public:
  virtual ~IoApicHost() = default;
  virtual void deliver(const InterruptMessage& message) = 0;
  virtual void reach_changed() = 0;
  // The entries' level-triggered messages are others than before; called under the lock.
  virtual void level_messages_changed() = 0;
};

inline constexpr unsigned kIoApicPins = 24;

struct IoApicState {
  static constexpr std::string_view kName = "ioapic";
  static constexpr std::uint32_t kVersion = 1;
  std::uint8_t select = 0;
  std::uint8_t id = 0;
  std::uint32_t lines = 0;  // a bit a pin: asserted, whatever the polarity bit says
  std::array<std::uint64_t, kIoApicPins> entries{};
  template <class Visit>
  void fields(Visit&& visit) {
    visit("select", select);
    visit("id", id);
    visit("lines", lines);
    visit("entries", entries);
  }
};

class IoApic {
 public:
  static constexpr std::uint64_t kAddress = 0xfec00000;
  static constexpr std::uint64_t kLength = 0x1000;

  IoApic(IoApicHost& host, std::uint8_t id = 0);

  // Keeps the pins' levels: those belong to what drives them.
  void reset();
  IoApicState state() const;
  void set_state(const IoApicState& state);

  std::uint64_t read(std::uint64_t offset, unsigned size);
  void write(std::uint64_t offset, unsigned size, std::uint64_t value);

  // A pin's asserted level, already the OR of its sources.
  void set_pin(unsigned pin, bool asserted);
  // A local APIC ended a level-triggered vector.
  void end_of_interrupt(std::uint8_t vector);
  // Pins whose interrupts are delivered, a bit each. Any thread, no lock.
  std::uint32_t unmasked() const noexcept { return unmasked_.load(std::memory_order_acquire); }
  // What level-triggered pins send, masked or not. Only inside level_messages_changed(), or while
  // nothing runs.
  template <class Visit>
  void each_level_message(Visit visit) const {
    for (unsigned pin = 0; pin < kIoApicPins; ++pin)
      if (const auto message = level_message(state_.entries[pin])) visit(pin, *message);
  }

 private:
  static std::optional<InterruptMessage> level_message(std::uint64_t entry);
  std::uint32_t read_register(std::uint8_t index) const;
  void write_register(std::uint8_t index, std::uint32_t value);
  void write_entry(unsigned pin, bool high, std::uint32_t value);
  void deliver(unsigned pin);
  // Level-triggered, asserted, unmasked and not yet accepted: delivers.
  void deliver_level(unsigned pin);
  void publish_unmasked();

  IoApicHost& host_;
  const std::uint8_t first_id_;
  mutable std::mutex mutex_;
  IoApicState state_;
  std::atomic<std::uint32_t> unmasked_{0};
};

}  // namespace hv

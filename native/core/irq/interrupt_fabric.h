// Everything between a device's interrupt line and a vCPU: the wires, the 8259 pair, the IO-APIC,
// the local APICs and the bus that joins them.
//
//   ISA IRQ n ──┬── 8259 input n ── INT ──┬── LINT0 of vCPU 0
//               │                         └── IO-APIC pin 0 (ExtINT)
//               └── IO-APIC pin n (IRQ 0: pin 2)
//   GSI 16..23 ──── IO-APIC pin
//   MSI, IPI ────── local APICs
//
// A wire is the OR of its sources, each of which has a number of its own on that wire.
//
// Lock order, from the first taken to the last; nobody holds a later one while taking an earlier:
//   1. a chip that drives lines (PIT, HPET, RTC, TypeScript's devices)
//   2. the wires (this class)    3. the 8259 pair    4. the IO-APIC
//   5. where the local APICs are (`place_`)
//   6. one local APIC (never two at once)    7. the timer service    8. the guest clock
// A chip keeps its lock while it sets a line, so that two changes arrive in their order; nothing
// calls back into a chip, except reach_changed(), which runs without any lock.
#pragma once
#include <array>
#include <atomic>
#include <bitset>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "accel/signals.h"
#include "base/types.h"
#include "irq/ioapic.h"
#include "irq/kernel_apics.h"
#include "irq/lapic.h"
#include "irq/msi.h"
#include "irq/pic.h"

namespace hv {

// A source's number: 0 to 255 are for PCI functions (bus 0, device and function as in a
// configuration address), the rest for what has none.
using IrqSource = std::uint16_t;
inline constexpr IrqSource kFirstChipSource = 256;
inline constexpr IrqSource kPitSource = 256, kRtcSource = 257, kHpetSource = 258;  // 8 of them
inline constexpr IrqSource kFirstFreeSource = 272;
inline constexpr IrqSource kIrqSources = 512;

struct WiresState {
  static constexpr std::string_view kName = "wires";
  static constexpr std::uint32_t kVersion = 1;
  std::vector<std::uint32_t> asserted;  // wire << 16 | source; wires 0-15 8259, 16-39 IO-APIC
  bool legacy_replacement = false;
  bool pit = false, rtc = false;        // the outputs, which legacy replacement cuts off
  std::uint8_t turn = 0;                // of lowest-priority arbitration
  template <class Visit>
  void fields(Visit&& visit) {
    visit("asserted", asserted);
    visit("legacyReplacement", legacy_replacement);
    visit("pit", pit);
    visit("rtc", rtc);
    visit("turn", turn);
  }
};

class InterruptFabric final : private ApicBus, private PicHost, private IoApicHost {
 public:
  // One local APIC for each of `signals`, whose index is its vCPU's and its APIC id.
  InterruptFabric(TimerService& timers, std::span<VcpuSignals* const> signals);
  ~InterruptFabric() override;

  Lapic& lapic(VcpuIndex vcpu) { return *lapics_[vcpu]; }
  VcpuIndex lapic_count() const { return static_cast<VcpuIndex>(lapics_.size()); }
  IoApic& ioapic() { return ioapic_; }
  Pic& pic() { return pic_; }

  // All of the above, and the wires go low: before what drives them is reset.
  void reset();
  // The wires; the controllers have their own state(). Restore all of them in any order while
  // everything stands still.
  WiresState state() const;
  void set_state(const WiresState& state);

  // Any thread. Numbers that do not exist are ignored.
  void set_isa(unsigned irq, IrqSource source, bool level);
  void set_ioapic_pin(unsigned pin, IrqSource source, bool level);
  void set_pic_input(unsigned irq, IrqSource source, bool level);
  // GSI n: the ISA wire of IRQ n for 1 to 15, except that 2 is IRQ 0's; the IO-APIC pin alone from
  // 16 on. GSI 0 is the 8259 pair's and cannot be set.
  void set_gsi(Gsi gsi, IrqSource source, bool level);
  // False: nothing took it (no interrupt address, or a mode that messages may not have).
  bool msi(std::uint64_t address, std::uint32_t data);

  // --- local APICs in the host's kernel (irq/kernel_apics.h), while no vCPU runs ---
  // Which: before lend(), and nullptr before they are gone.
  void use(KernelApics* kernel);
  void lend();
  void take_back();
  // A vCPU ended a level-triggered vector there.
  void end_of_interrupt(VcpuIndex vcpu, std::uint8_t vector);

  // NMI to vCPU 0 through LINT1 (the operator's button, port 0x61's and 0x70's errors).
  void pulse_nmi();

  // --- the native timers' outputs ---
  void set_pit(bool level);
  void set_rtc(bool level);
  // HPET comparator 0 or 1 in place of PIT and RTC, which lose their wires meanwhile (IA-PC HPET
  // 1.0a §2.3.5, "LegacyReplacement Route").
  // Its caller calls routes_changed() once it holds no lock.
  void set_legacy_replacement(bool on);
  void routes_changed() { reach_changed(); }
  void set_hpet_legacy(unsigned comparator, bool level);
  // Whether an edge would be noticed: else no timer needs to make one. No lock.
  bool pit_heard() const noexcept;
  bool rtc_heard() const noexcept;
  bool isa_heard(unsigned irq) const noexcept;
  bool pin_heard(unsigned pin) const noexcept;
  // Called without a lock, on any thread, when one of the above may have changed. Before the
  // vCPUs run.
  void on_reach_change(std::function<void()> listener);
  // Called by a vCPU before it ends a level-triggered interrupt, without a lock; before the vCPUs
  // run: waits for the posted writes of that vCPU.
  void on_level_eoi(std::function<void(VcpuIndex)> wait);

 private:
  static constexpr unsigned kPicWires = 16;
  static constexpr unsigned kWires = kPicWires + kIoApicPins;
  using Sources = std::bitset<kIrqSources>;

  void deliver(const InterruptMessage& message) override;
  void deliver_all(const InterruptMessage& message, std::optional<VcpuIndex> except) override;
  void before_level_eoi(VcpuIndex vcpu) override;
  void broadcast_eoi(std::uint8_t vector) override;
  std::uint8_t acknowledge_pic() override;
  void pic_output(bool level) override;
  void reach_changed() override;
  void level_messages_changed() override;

  void deliver_lowest(const InterruptMessage& message);
  // Under wires_mutex_.
  void drive(unsigned wire, IrqSource source, bool level);
  void drive_isa(unsigned irq, IrqSource source, bool level);

  std::vector<std::unique_ptr<Lapic>> lapics_;
  Pic pic_{*this};
  // Held shared by whoever sends to the local APICs, alone by who moves them.
  std::shared_mutex place_;
  KernelApics* kernel_ = nullptr;
  bool lent_ = false;
  IoApic ioapic_;
  mutable std::mutex wires_mutex_;
  std::array<Sources, kWires> wires_;
  bool pit_ = false, rtc_ = false;
  std::atomic<bool> legacy_{false};
  std::atomic<std::uint8_t> turn_{0};
  std::vector<std::function<void()>> reach_listeners_;
  std::function<void(VcpuIndex)> level_eoi_;
};

// One source on one wire, for a device that should not know numbers.
class Line {
 public:
  enum class Kind : std::uint8_t { kNone, kIsa, kIoApic, kPic };
  Line() = default;
  Line(InterruptFabric& fabric, Kind kind, unsigned number, IrqSource source)
      : fabric_{&fabric}, kind_{kind}, number_{number}, source_{source} {}
  void set(bool level) const;

 private:
  InterruptFabric* fabric_ = nullptr;
  Kind kind_ = Kind::kNone;
  unsigned number_ = 0;
  IrqSource source_ = 0;
};

}  // namespace hv

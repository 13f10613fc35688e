// A board for tests: time in hand, N vCPUs that are only their signals, and all the wires. The
// helpers do what a driver does.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "irq/interrupt_fabric.h"
#include "time/manual_time.h"

namespace hv::test {

struct Rig {
  ManualTime time;
  std::vector<std::unique_ptr<VcpuSignals>> signals;
  std::unique_ptr<InterruptFabric> fabric;

  explicit Rig(unsigned vcpus = 1) {
    std::vector<VcpuSignals*> pointers;
    for (unsigned i = 0; i < vcpus; ++i) {
      signals.push_back(std::make_unique<VcpuSignals>());
      pointers.push_back(signals.back().get());
    }
    fabric = std::make_unique<InterruptFabric>(time.timers, pointers);
  }

  bool intr(unsigned vcpu = 0) const { return signals[vcpu]->has(Signal::kInterrupt); }
  // What the vCPU does with INTR; 0x100 where there was nothing.
  unsigned acknowledge(unsigned vcpu = 0) {
    const auto vector = fabric->lapic(vcpu).acknowledge();
    return vector ? *vector : 0x100u;
  }
  std::uint32_t apic(unsigned vcpu, std::uint64_t at) {
    return static_cast<std::uint32_t>(fabric->lapic(vcpu).read(at, 4));
  }
  void apic(unsigned vcpu, std::uint64_t at, std::uint32_t value) {
    fabric->lapic(vcpu).write(at, 4, value);
  }
  void enable_apic(unsigned vcpu) { apic(vcpu, 0xf0, 0x1ff); }
  void eoi(unsigned vcpu = 0) { apic(vcpu, 0xb0, 0); }

  std::uint32_t ioapic(std::uint8_t index) {
    fabric->ioapic().write(0, 4, index);
    return static_cast<std::uint32_t>(fabric->ioapic().read(0x10, 4));
  }
  void ioapic(std::uint8_t index, std::uint32_t value) {
    fabric->ioapic().write(0, 4, index);
    fabric->ioapic().write(0x10, 4, value);
  }
  void route(unsigned pin, std::uint32_t low, std::uint32_t destination = 0) {
    ioapic(static_cast<std::uint8_t>(0x11 + 2 * pin), destination << 24);
    ioapic(static_cast<std::uint8_t>(0x10 + 2 * pin), low);
  }

  void out(std::uint16_t port, unsigned value) { fabric->pic().write(port, 1, value); }
  unsigned in(std::uint16_t port) { return fabric->pic().read(port, 1); }
  // As a PC's BIOS and Linux do: vectors `master` and `slave`, then the masks.
  void init_pic(unsigned master, unsigned slave, unsigned masks = 0, unsigned icw4 = 1) {
    out(0x20, 0x11), out(0x21, master), out(0x21, 4), out(0x21, icw4);
    out(0xa0, 0x11), out(0xa1, slave), out(0xa1, 2), out(0xa1, icw4 & ~0x10u);
    out(0x21, masks & 0xff), out(0xa1, masks >> 8);
  }
};

}  // namespace hv::test

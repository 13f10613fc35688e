// Local APICs that the host's kernel keeps for the vCPUs that it runs (KVM's split irqchip): timers,
// IPIs, INTA and EOI then happen without leaving the guest. They are the same chips in another
// place: while the VM is parked each one's state lies in our Lapic, whole and in its one saved form,
// and everything that looks at it or sends to it finds it there.
#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "irq/lapic.h"
#include "irq/message.h"

namespace hv {

// A level-triggered message of an IO-APIC's pin.
struct PinMessage {
  unsigned pin;
  InterruptMessage message;
};

// An accelerator's.
class KernelApics {
 public:
  virtual ~KernelApics() = default;

  // What it does otherwise than hardware on this host, a sentence: then it is used only on demand.
  virtual std::string flaw() const { return {}; }

  // --- any thread ---
  // From a device or the IO-APIC; IPIs are the kernel's own.
  virtual void deliver(const InterruptMessage& message) = 0;
  // What the IO-APIC may send from now on: a vCPU that ends such a vector tells
  // Platform::end_of_interrupt(). Before the first of them is delivered.
  virtual void watch(std::span<const PinMessage> messages) = 0;

  // --- any thread, while no vCPU is in Vcpu::run() ---
  // INIT and start-up IPIs that are under way to it take effect, and an NMI becomes its signal.
  virtual void settle(VcpuIndex vcpu) = 0;
  virtual void give(VcpuIndex vcpu, const LentLapic& apic) = 0;
  virtual LentLapic take(VcpuIndex vcpu) = 0;
};

}  // namespace hv

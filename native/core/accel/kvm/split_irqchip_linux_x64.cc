#include "accel/kvm/split_irqchip.h"

#include <cstddef>
#include <cstdio>

#include "accel/frequencies.h"
#include "accel/kvm/split_probe.h"
#include "accel/kvm/vcpu.h"
#include "irq/ioapic.h"

namespace hv::kvm {
namespace {

// Not yet in Debian's headers (api.rst, KVM_CAP_X86_APIC_BUS_CYCLES_NS; Linux 6.11).
constexpr std::uint32_t kCapApicBusCycles = 237;
// api.rst, KVM_CAP_X2APIC_API.
constexpr std::uint64_t kSuppressEoiBroadcast = 1u << 2;

bool enable(const Handle& vm, std::uint32_t capability, std::uint64_t argument) {
  kvm_enable_cap wanted{};
  wanted.cap = capability;
  wanted.args[0] = argument;
  return vm.call(KVM_ENABLE_CAP, &wanted) == 0;
}

// A timer of another frequency than the guest is told would be another machine: without the last
// there is no such irqchip here.
bool offered(const Handle& vm) {
  for (const unsigned long capability :
       {std::uint32_t{KVM_CAP_SPLIT_IRQCHIP}, std::uint32_t{KVM_CAP_SIGNAL_MSI},
        std::uint32_t{KVM_CAP_IRQ_ROUTING}, std::uint32_t{KVM_CAP_MP_STATE},
        std::uint32_t{KVM_CAP_TSC_DEADLINE_TIMER}, kCapApicBusCycles})
    if (vm.call(KVM_CHECK_EXTENSION, capability) <= 0) return false;
  return true;
}

// SDM Vol. 3, "Message Signalled Interrupts"; api.rst, KVM_SIGNAL_MSI.
struct Msi {
  std::uint32_t address, data;
};
Msi msi_of(const InterruptMessage& m) {
  constexpr std::uint32_t kBase = 0xfee0'0000, kLogical = 1u << 2, kAssert = 1u << 14,
                          kLevel = 1u << 15;
  const auto mode = static_cast<std::uint32_t>(m.mode);
  return {kBase | (m.destination & 0xff) << 12 | (m.logical ? kLogical : 0),
          m.vector | mode << 8 | kAssert | (m.level ? kLevel : 0)};
}

struct RoutingTable {
  std::uint32_t count = 0, flags = 0;
  std::array<kvm_irq_routing_entry, kIoApicPins> entries{};
};
constexpr unsigned long kSetRouting = request(kWrite, 0x6a, offsetof(RoutingTable, entries));

}  // namespace

std::unique_ptr<SplitIrqchip> SplitIrqchip::create(const Handle& vm) {
  if (!offered(vm)) return nullptr;
  constexpr std::uint64_t kCycle = 1'000'000'000 / kCrystalHz;
  static_assert(kCycle * kCrystalHz == 1'000'000'000, "whole nanoseconds");
  if (!enable(vm, KVM_CAP_SPLIT_IRQCHIP, kIoApicPins)) return nullptr;
  if (!enable(vm, kCapApicBusCycles, kCycle))
    std::perror("kvm: KVM_CAP_X86_APIC_BUS_CYCLES_NS");
  (void)enable(vm, KVM_CAP_X2APIC_API, kSuppressEoiBroadcast);  // newer kernels than the rest asks for
  return std::unique_ptr<SplitIrqchip>{new SplitIrqchip{vm}};
}

std::string SplitIrqchip::flaw() const { return split_irqchip_lacks(); }

// What no local APIC takes is lost, as on the bus.
void SplitIrqchip::deliver(const InterruptMessage& message) {
  const Msi msi = msi_of(message);
  kvm_msi out{};
  out.address_lo = msi.address;
  out.data = msi.data;
  (void)vm_.call(KVM_SIGNAL_MSI, &out);
}

void SplitIrqchip::watch(std::span<const PinMessage> messages) {
  RoutingTable table;
  for (const PinMessage& one : messages) {
    const Msi msi = msi_of(one.message);
    kvm_irq_routing_entry& entry = table.entries[table.count++];
    entry.gsi = one.pin;
    entry.type = KVM_IRQ_ROUTING_MSI;
    entry.u.msi.address_lo = msi.address;
    entry.u.msi.data = msi.data;
  }
  if (vm_.call(kSetRouting, &table) != 0) std::perror("kvm: KVM_SET_GSI_ROUTING");
}

void SplitIrqchip::settle(VcpuIndex vcpu) { vcpus_[vcpu]->settle_apic(); }
void SplitIrqchip::give(VcpuIndex vcpu, const LentLapic& apic) { vcpus_[vcpu]->give_apic(apic); }
LentLapic SplitIrqchip::take(VcpuIndex vcpu) { return vcpus_[vcpu]->take_apic(); }

}  // namespace hv::kvm

// What a vCPU meets outside itself, whichever accelerator runs it: the port and MMIO buses, its
// local APIC, the clock. Every call is made on the vCPU's own thread, and may wait for JavaScript
// (a direct access); none fails: what nothing decodes reads as all ones and swallows writes.
#pragma once
#include <cstdint>
#include <optional>

#include "base/types.h"

namespace hv {

class Platform {
 public:
  virtual ~Platform() = default;

  // size: 1, 2 or 4 bytes.
  virtual std::uint32_t in(VcpuIndex vcpu, std::uint16_t port, unsigned size) = 0;
  virtual void out(VcpuIndex vcpu, std::uint16_t port, unsigned size, std::uint32_t value) = 0;
  // Physical addresses that are no RAM. size: 1 to 8 bytes, any alignment, never across a page.
  virtual std::uint64_t read(VcpuIndex vcpu, Gpa at, unsigned size) = 0;
  virtual void write(VcpuIndex vcpu, Gpa at, unsigned size, std::uint64_t value) = 0;

  // The MSRs of the local APIC: IA32_APIC_BASE, IA32_TSC_DEADLINE, 0x800 to 0x8FF. nullopt or
  // false: the access faults (#GP(0)).
  virtual std::optional<std::uint64_t> read_apic_msr(VcpuIndex vcpu, std::uint32_t index) = 0;
  virtual bool write_apic_msr(VcpuIndex vcpu, std::uint32_t index, std::uint64_t value) = 0;
  // Whether an MSR that nothing knows reads 0 and swallows writes; else it is #GP(0).
  virtual bool ignore_unknown_msrs() const { return false; }
  // CR8, bits 3:0: the high half of the local APIC's task priority.
  virtual std::uint8_t cr8(VcpuIndex vcpu) = 0;
  virtual void set_cr8(VcpuIndex vcpu, std::uint8_t value) = 0;
  // INTA: the vector to deliver now, which becomes in service; nullopt when it was withdrawn.
  virtual std::optional<std::uint8_t> acknowledge_interrupt(VcpuIndex vcpu) = 0;

  // Where the vCPU's local APIC is in the host's kernel: it ended a level-triggered vector of the
  // IO-APIC's.
  virtual void end_of_interrupt(VcpuIndex, std::uint8_t /* vector */) {}

  // The time-stamp counter that all vCPUs share, without IA32_TSC_ADJUST. Hz in tsc_frequency().
  virtual std::uint64_t tsc() = 0;
  virtual std::uint64_t tsc_frequency() const = 0;
  // How often that counter was let run. Where hardware counts on while the VM is paused, another
  // number than before says that it must be set anew.
  virtual std::uint64_t clock_rounds() const { return 0; }

  // All ones, or bit 20 clear while the A20 gate is closed.
  virtual std::uint64_t a20_mask() const = 0;
  // PAUSE in a spin loop: gives the host's core away where vCPUs outnumber cores.
  virtual void spin_hint(VcpuIndex vcpu) = 0;
};

}  // namespace hv

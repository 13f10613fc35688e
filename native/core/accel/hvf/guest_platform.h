// The platform as the interpreter meets it while it stands in for the hardware: time is the
// hardware's, which has another frequency than the machine's own counter; everything else is the
// machine's.
#pragma once
#include "accel/host_counter.h"
#include "accel/msr_policy.h"
#include "accel/platform.h"

namespace hv::hvf {

class GuestPlatform final : public Platform {
 public:
  GuestPlatform(Platform& machine, std::uint64_t tsc_hz) : machine_{machine}, tsc_hz_{tsc_hz} {}

  // Of the guest's counter, before IA32_TSC_ADJUST.
  void set_tsc_offset(std::uint64_t offset) { offset_ = offset; }
  std::uint64_t tsc() override { return host_tsc() + offset_; }
  std::uint64_t tsc_frequency() const override { return tsc_hz_; }
  std::uint64_t clock_rounds() const override { return machine_.clock_rounds(); }

  std::optional<std::uint64_t> read_apic_msr(VcpuIndex vcpu, std::uint32_t index) override {
    const auto value = machine_.read_apic_msr(vcpu, index);
    // The deadline as the guest wrote it, unless the machine has fired or disarmed it.
    const bool armed = index == kMsrTscDeadline && value && *value != 0;
    return armed && *value == machine_deadline_ ? guest_deadline_ : value;
  }
  bool write_apic_msr(VcpuIndex vcpu, std::uint32_t index, std::uint64_t value) override {
    if (index != kMsrTscDeadline || value == 0) return machine_.write_apic_msr(vcpu, index, value);
    guest_deadline_ = value;
    machine_deadline_ = to_machine(value);
    return machine_.write_apic_msr(vcpu, index, machine_deadline_);
  }

  std::uint32_t in(VcpuIndex vcpu, std::uint16_t port, unsigned size) override {
    return machine_.in(vcpu, port, size);
  }
  void out(VcpuIndex vcpu, std::uint16_t port, unsigned size, std::uint32_t value) override {
    machine_.out(vcpu, port, size, value);
  }
  std::uint64_t read(VcpuIndex vcpu, Gpa at, unsigned size) override {
    return machine_.read(vcpu, at, size);
  }
  void write(VcpuIndex vcpu, Gpa at, unsigned size, std::uint64_t value) override {
    machine_.write(vcpu, at, size, value);
  }
  bool ignore_unknown_msrs() const override { return machine_.ignore_unknown_msrs(); }
  std::uint8_t cr8(VcpuIndex vcpu) override { return machine_.cr8(vcpu); }
  void set_cr8(VcpuIndex vcpu, std::uint8_t value) override { machine_.set_cr8(vcpu, value); }
  std::optional<std::uint8_t> acknowledge_interrupt(VcpuIndex vcpu) override {
    return machine_.acknowledge_interrupt(vcpu);
  }
  std::uint64_t a20_mask() const override { return machine_.a20_mask(); }
  void spin_hint(VcpuIndex vcpu) override { machine_.spin_hint(vcpu); }

 private:
  // Never 0, which would disarm; past the end of the counter is never.
  std::uint64_t to_machine(std::uint64_t deadline) {
    const std::uint64_t now = tsc(), there = machine_.tsc();
    const auto ahead = static_cast<std::int64_t>(deadline - now);
    if (ahead <= 0) return there == 0 ? 1 : there;
    const std::uint64_t wait =
        scale(static_cast<std::uint64_t>(ahead), machine_.tsc_frequency(), tsc_hz_);
    return there + wait < there ? ~0ull : there + wait;
  }

  Platform& machine_;
  const std::uint64_t tsc_hz_;
  std::uint64_t offset_ = 0, guest_deadline_ = 0, machine_deadline_ = 0;
};

}  // namespace hv::hvf

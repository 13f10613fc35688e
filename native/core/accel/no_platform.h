// A platform with nothing on it: for a vCPU that runs a few instructions of our own and meets no
// device, no interrupt and no time.
#pragma once
#include "accel/platform.h"

namespace hv {

class NoPlatform final : public Platform {
 public:
  std::uint32_t in(VcpuIndex, std::uint16_t, unsigned) override { return ~0u; }
  void out(VcpuIndex, std::uint16_t, unsigned, std::uint32_t) override {}
  std::uint64_t read(VcpuIndex, Gpa, unsigned) override { return ~0ull; }
  void write(VcpuIndex, Gpa, unsigned, std::uint64_t) override {}
  std::optional<std::uint64_t> read_apic_msr(VcpuIndex, std::uint32_t) override { return {}; }
  bool write_apic_msr(VcpuIndex, std::uint32_t, std::uint64_t) override { return false; }
  std::uint8_t cr8(VcpuIndex) override { return 0; }
  void set_cr8(VcpuIndex, std::uint8_t) override {}
  std::optional<std::uint8_t> acknowledge_interrupt(VcpuIndex) override { return {}; }
  std::uint64_t tsc() override { return 1; }
  std::uint64_t tsc_frequency() const override { return 1'000'000'000; }
  std::uint64_t a20_mask() const override { return ~0ull; }
  void spin_hint(VcpuIndex) override {}
};

}  // namespace hv

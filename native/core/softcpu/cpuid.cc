// CPUID as an instruction; what it says is accel/cpuid_policy.h's.
#include "accel/cpuid_policy.h"
#include "softcpu/system_ops.h"

namespace hv::softcpu {

static_assert(kPhysicalBits == kCpuidPhysicalBits);

void cpuid(Cpu& cpu) {
  const auto base = cpu.platform.read_apic_msr(cpu.index, 0x1b);
  const bool apic = !base || (*base >> 11 & 1) != 0;
  const CpuidSubject subject{cpu.index, cpu.vcpu_count, cpu.platform.tsc_frequency(), apic};
  const CpuidRegisters r =
      cpuid_policy(subject, cpu.reg<std::uint32_t>(kRax), cpu.reg<std::uint32_t>(kRcx));
  cpu.gpr[kRax] = r.eax;
  cpu.gpr[kRbx] = r.ebx;
  cpu.gpr[kRcx] = r.ecx;
  cpu.gpr[kRdx] = r.edx;
}

}  // namespace hv::softcpu

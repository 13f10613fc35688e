#include "accel/kvm/limits.h"

#include <cerrno>

namespace hv::kvm {
namespace {

// SDM Vol. 3, "Control Registers": what a guest of another accelerator may have turned on in CR4.
struct Feature {
  unsigned bit;
  const char* flag;
  const char* name;
};
constexpr Feature kCr4Features[] = {
    {0, "VME", "virtual-8086 mode extensions"},
    {1, "PVI", "protected-mode virtual interrupts"},
    {2, "TSD", "time-stamp disable"},
    {3, "DE", "debugging extensions"},
    {4, "PSE", "4 MiB pages"},
    {6, "MCE", "machine checks"},
    {7, "PGE", "global pages"},
    {8, "PCE", "performance counters for user mode"},
    {9, "OSFXSR", "FXSAVE and SSE"},
    {10, "OSXMMEXCPT", "SIMD floating-point exceptions"},
    {11, "UMIP", "user-mode instruction prevention"},
    {16, "FSGSBASE", "FSGSBASE"},
    {17, "PCIDE", "process-context identifiers"},
    {18, "OSXSAVE", "XSAVE"},
    {20, "SMEP", "supervisor-mode execution prevention"},
    {21, "SMAP", "supervisor-mode access prevention"},
};

// A vCPU of a VM of its own, in 64-bit mode, that never runs.
class Probe {
 public:
  explicit Probe(const CpuidTable& cpuid) {
    ready_ = vm_ && vcpu_ && vcpu_.call(kSetCpuid2, &cpuid) == 0 &&
             vcpu_.call(KVM_GET_SREGS, &system_) == 0;
    system_.cr0 = 0x8000'0033;  // PG, NE, ET, MP, PE
    system_.efer = 0x500;       // LMA, LME
    system_.cs.l = 1;
    system_.cs.db = 0;
  }
  // False only where the kernel takes 64-bit mode without this bit of CR4, and not with it.
  bool takes(unsigned bit) { return !ready_ || !set(kPae) || set(kPae | 1ull << bit); }

 private:
  static constexpr std::uint64_t kPae = 1u << 5;

  bool set(std::uint64_t cr4) {
    system_.cr4 = cr4;
    return vcpu_.call(KVM_SET_SREGS, &system_) == 0 || errno != EINVAL;
  }

  const Handle vm_{host().device.call(KVM_CREATE_VM)};
  const Handle vcpu_{vm_.call(KVM_CREATE_VCPU)};
  kvm_sregs system_{};
  bool ready_ = false;
};

}  // namespace

std::string refused_state(const CpuState& state, const CpuidTable& cpuid) {
  Probe probe{cpuid};
  for (const Feature& feature : kCr4Features)
    if ((state.cr4 >> feature.bit & 1) != 0 && !probe.takes(feature.bit))
      return std::string{"cr4: "} + feature.flag + " (bit " + std::to_string(feature.bit) +
             ") is set, and this host's KVM has no " + feature.name + " for guests";
  return {};
}

}  // namespace hv::kvm

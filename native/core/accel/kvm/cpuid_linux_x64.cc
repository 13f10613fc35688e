// CPUID as the kernel is told it, once for each vCPU: the policy, less what this host's KVM lacks.
#include <algorithm>

#include "accel/kvm/limits.h"

namespace hv::kvm {
namespace {

CpuidRegisters hardware(std::uint32_t leaf) {
  const kvm_cpuid_entry2* const offered = host().leaf(leaf);
  if (offered == nullptr) return {};
  return {offered->eax, offered->ebx, offered->ecx, offered->edx};
}

// Every leaf that is not all zero, and how many of its subleaves are told apart.
struct Leaves {
  std::uint32_t first, last, subleaves;  // 0: ECX does not matter
};
constexpr Leaves kLeaves[] = {{0, 3, 0},   {4, 4, 5},     {5, 6, 0},
                              {7, 7, 1},   {8, 0xa, 0},   {0xb, 0xb, 3},
                              {0xc, 0x16, 0}, {0x4000'0000, 0x4000'0010, 0},
                              {0x8000'0000, 0x8000'0008, 0}};

std::uint32_t physical_bits() {
  const kvm_cpuid_entry2* const sizes = host().leaf(0x8000'0008);
  const std::uint32_t host_bits = sizes == nullptr ? 36 : sizes->eax & 0xff;
  return std::min(host_bits, kCpuidPhysicalBits);
}

}  // namespace

CpuidTable cpuid_table(CpuidSubject cpu) {
  cpu.physical_bits = physical_bits();
  CpuidTable table;
  const auto entry = [&](std::uint32_t leaf, std::uint32_t sub, std::uint32_t flags) {
    const CpuidRegisters r = limit_to_hardware(leaf, cpuid_policy(cpu, leaf, sub), hardware(leaf));
    kvm_cpuid_entry2& out = table.entries[table.count++];
    out.function = leaf;
    out.index = sub;
    out.flags = flags;
    out.eax = r.eax;
    out.ebx = r.ebx;
    out.ecx = r.ecx;
    out.edx = r.edx;
  };
  for (const Leaves& leaves : kLeaves)
    for (std::uint32_t leaf = leaves.first; leaf <= leaves.last; ++leaf) {
      if (leaves.subleaves == 0) entry(leaf, 0, 0);
      for (std::uint32_t sub = 0; sub < leaves.subleaves; ++sub)
        entry(leaf, sub, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
    }
  return table;
}

}  // namespace hv::kvm

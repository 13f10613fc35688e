// CPUID as the kernel is told it, once for each vCPU: the policy, less what this host's KVM lacks, or
// the host's own.
#include <cpuid.h>

#include <algorithm>

#include "accel/kvm/clock.h"
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

void append(CpuidTable& table, const CpuidLeaf& leaf) {
  kvm_cpuid_entry2& out = table.entries[table.count++];
  out.function = leaf.leaf;
  out.index = leaf.sub;
  out.flags = leaf.by_sub ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0;
  out.eax = leaf.registers.eax;
  out.ebx = leaf.registers.ebx;
  out.ecx = leaf.registers.ecx;
  out.edx = leaf.registers.edx;
}

// The brand string, which KVM leaves out of what it offers.
CpuidLeaf brand(std::uint32_t leaf) {
  CpuidRegisters r;
  __cpuid(leaf, r.eax, r.ebx, r.ecx, r.edx);
  return {leaf, 0, false, r};
}

std::vector<CpuidLeaf> offered() {
  std::vector<CpuidLeaf> out;
  for (const std::uint32_t leaf : {0x8000'0002u, 0x8000'0003u, 0x8000'0004u})
    out.push_back(brand(leaf));
  for (std::uint32_t i = 0; i < host().cpuid.count; ++i) {
    const kvm_cpuid_entry2& e = host().cpuid.entries[i];
    const bool by_sub = (e.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0;
    out.push_back({e.function, e.index, by_sub, {e.eax, e.ebx, e.ecx, e.edx}});
  }
  return out;
}

// KVM's leaves, behind the machine's own (guests look for them at each 0x100): its clock and nothing
// else.
void add_clock(std::vector<CpuidLeaf>& table) {
  constexpr std::uint32_t kBase = 0x4000'0100;
  constexpr CpuidRegisters kSignature{kBase + 1, 0x4b4d'564b, 0x564b'4d56, 0x4d};  // "KVMKVMKVM"
  table.push_back({kBase, 0, false, kSignature});
  table.push_back({kBase + 1, 0, false, {host().leaf(kFeaturesLeaf)->eax & kClockFeatures}});
}

}  // namespace

std::vector<CpuidLeaf> host_cpuid_here(CpuidSubject cpu) {
  static const std::vector<CpuidLeaf> kOffered = offered();
  cpu.physical_bits = physical_bits();
  std::vector<CpuidLeaf> table = host_cpuid(cpu, kOffered);
  if (has_clock()) add_clock(table);
  return table;
}

CpuidTable host_cpuid_table(const CpuidSubject& cpu) {
  CpuidTable table;
  for (const CpuidLeaf& leaf : host_cpuid_here(cpu)) append(table, leaf);
  return table;
}

CpuidTable cpuid_table(CpuidSubject cpu) {
  cpu.physical_bits = physical_bits();
  CpuidTable table;
  const auto entry = [&](std::uint32_t leaf, std::uint32_t sub, bool by_sub) {
    const CpuidRegisters r = limit_to_hardware(leaf, cpuid_policy(cpu, leaf, sub), hardware(leaf));
    append(table, {leaf, sub, by_sub, r});
  };
  for (const Leaves& leaves : kLeaves)
    for (std::uint32_t leaf = leaves.first; leaf <= leaves.last; ++leaf) {
      if (leaves.subleaves == 0) entry(leaf, 0, false);
      for (std::uint32_t sub = 0; sub < leaves.subleaves; ++sub)
        entry(leaf, sub, true);
    }
  return table;
}

}  // namespace hv::kvm

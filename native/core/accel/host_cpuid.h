// CPUID of the CPU model `host`: what the host's hypervisor offers to guests, less what a machine of
// ours cannot carry along or answer for. Each feature register is made of rows that say whose its
// bits are, and why some are nobody's; a bit without a row is withheld, since nobody has looked yet
// at what it needs.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "accel/cpuid_policy.h"

namespace hv {

struct CpuidLeaf {
  std::uint32_t leaf = 0, sub = 0;
  bool by_sub = false;  // ECX matters
  CpuidRegisters registers;
  template <class Visit>
  void fields(Visit&& visit) {
    visit("leaf", leaf);
    visit("subleaf", sub);
    visit("bySubleaf", by_sub);
    visit("eax", registers.eax);
    visit("ebx", registers.ebx);
    visit("ecx", registers.ecx);
    visit("edx", registers.edx);
  }
};

// All leaves that `cpu` has; every other is zero. `offered`: KVM_GET_SUPPORTED_CPUID or the like.
std::vector<CpuidLeaf> host_cpuid(const CpuidSubject& cpu, std::span<const CpuidLeaf> offered);

// Leaf 0's EBX of AMD and Hygon, whose CPUs are alike.
constexpr bool is_amd(std::uint32_t vendor) {
  return vendor == 0x6874'7541 || vendor == 0x6f67'7948;  // "Auth", "Hygo"
}

// The first difference between two tables, as "leaf 0x1 ecx: 0x… was saved, this host has 0x…"; empty
// where there is none.
std::string cpuid_difference(std::span<const CpuidLeaf> saved, std::span<const CpuidLeaf> here);

enum class CpuidFrom : std::uint8_t { kHost, kMachine, kNobody };
struct CpuidRow {
  std::uint32_t leaf, sub;
  std::uint32_t CpuidRegisters::*word;
  std::uint32_t bits;
  CpuidFrom from;
  std::string_view why;  // of kNobody
};
std::span<const CpuidRow> host_cpuid_rows();

}  // namespace hv

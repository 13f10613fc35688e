// CPUID: SDM Vol. 2, its entry. GenuineIntel of family 6 with the features of x86-64-v2 and what
// kernels want beside them.
#include "accel/cpuid_policy.h"

#include <bit>
#include <cstring>
#include <iterator>
#include <numeric>

#include "accel/frequencies.h"

namespace hv {

namespace {

using Registers = CpuidRegisters;

constexpr std::uint32_t bit(unsigned n) { return 1u << n; }
constexpr std::uint32_t word(const char (&text)[5]) {
  std::uint32_t value = 0;
  for (unsigned i = 0; i < 4; ++i)
    value |= std::uint32_t{static_cast<unsigned char>(text[i])} << (8 * i);
  return value;
}

constexpr std::uint32_t kLinearBits = 48;
constexpr std::uint32_t kMaxBasic = 0x16, kMaxExtended = 0x8000'0008;
constexpr std::uint32_t kHypervisor = 0x4000'0000, kTiming = 0x4000'0010;
constexpr std::uint32_t kSignature = 0x000806f8;  // family 6, model 0x8f, stepping 8

constexpr std::uint32_t kLeaf1Ecx =
    bit(0) |   // SSE3
    bit(9) |   // SSSE3
    bit(13) |  // CMPXCHG16B
    bit(17) |  // PCID
    bit(19) |  // SSE4.1
    bit(20) |  // SSE4.2
    bit(21) |  // x2APIC
    bit(22) |  // MOVBE
    bit(23) |  // POPCNT
    bit(24) |  // TSC deadline
    bit(30) |  // RDRAND
    bit(31);   // a hypervisor
constexpr std::uint32_t kApic = bit(9), kHtt = bit(28);
constexpr std::uint32_t kLeaf1Edx =
    bit(0) |   // x87
    bit(2) |   // DE
    bit(3) |   // PSE
    bit(4) |   // TSC
    bit(5) |   // MSR
    bit(6) |   // PAE
    bit(7) |   // MCE
    bit(8) |   // CMPXCHG8B
    bit(11) |  // SYSENTER
    bit(12) |  // MTRR
    bit(13) |  // PGE
    bit(14) |  // MCA
    bit(15) |  // CMOV
    bit(16) |  // PAT
    bit(17) |  // PSE-36
    bit(19) |  // CLFLUSH
    bit(23) |  // MMX
    bit(24) |  // FXSAVE
    bit(25) |  // SSE
    bit(26);   // SSE2

constexpr std::uint32_t kLeaf7Ebx =
    bit(0) |   // FSGSBASE
    bit(1) |   // IA32_TSC_ADJUST
    bit(7) |   // SMEP
    bit(9) |   // ERMS
    bit(10) |  // INVPCID
    bit(18) |  // RDSEED
    bit(20);   // SMAP
constexpr std::uint32_t kLeaf7Ecx = bit(2);  // UMIP
constexpr std::uint32_t kLeaf7Edx =
    bit(4) |   // FSRM
    bit(26) |  // IA32_SPEC_CTRL, IA32_PRED_CMD
    bit(27) |  // STIBP
    bit(29) |  // IA32_ARCH_CAPABILITIES
    bit(31);   // SSBD

constexpr std::uint32_t kExtendedEcx = bit(0) | bit(8);  // LAHF in 64-bit mode, PREFETCHW
constexpr std::uint32_t kExtendedEdx =
    bit(11) |  // SYSCALL
    bit(20) |  // NX
    bit(26) |  // 1 GiB pages
    bit(27) |  // RDTSCP
    bit(29);   // long mode

constexpr char kBrand[49] = "xhyved virtual CPU @ 2.50GHz";

// Bits that hold any CPU's number.
unsigned id_bits(std::uint32_t count) { return static_cast<unsigned>(std::bit_width(count - 1)); }

Registers features(const CpuidSubject& cpu) {
  Registers r{kSignature, 8u << 8 | cpu.count << 16 | cpu.index << 24, kLeaf1Ecx, kLeaf1Edx};
  if (cpu.apic_enabled) r.edx |= kApic;
  if (cpu.count > 1) r.edx |= kHtt;
  return r;
}

struct Cache {
  std::uint32_t type, level, kib, ways;  // type: 1 data, 2 instructions, 3 unified
};
constexpr Cache kCaches[] = {{1, 1, 32, 8}, {2, 1, 32, 8}, {3, 2, 1024, 16}, {3, 3, 16384, 16}};

Registers cache(const CpuidSubject& cpu, std::uint32_t n) {
  if (n >= std::size(kCaches)) return {};
  const Cache& c = kCaches[n];
  const std::uint32_t all = (1u << id_bits(cpu.count)) - 1;
  const std::uint32_t sharing = c.level == 3 ? all : 0;
  const std::uint32_t sets = c.kib * 1024 / (c.ways * 64);
  return {c.type | c.level << 5 | bit(8) | sharing << 14 | all << 26, 63 | (c.ways - 1) << 22,
          sets - 1, 0};
}

Registers topology(const CpuidSubject& cpu, std::uint32_t level) {
  if (level == 0) return {0, 1, 1u << 8 | 0, cpu.index};
  if (level == 1) return {id_bits(cpu.count), cpu.count, 2u << 8 | 1, cpu.index};
  return {0, 0, level & 0xff, cpu.index};
}

// Features that the hardware must have; every other bit of these registers is the machine's own
// (APIC, MTRR, machine check, topology, the hypervisor's presence).
struct HardwareFeatures {
  std::uint32_t leaf;
  std::uint32_t Registers::*word;
  std::uint32_t machines;  // bits that are not the hardware's
};
constexpr HardwareFeatures kFeatures[] = {
    {1, &Registers::ecx, bit(21) | bit(24) | bit(31)},
    {1, &Registers::edx, bit(5) | bit(7) | bit(9) | bit(12) | bit(14) | bit(16) | bit(28)},
    {7, &Registers::ebx, bit(1)},
    {7, &Registers::ecx, 0},
    {7, &Registers::edx, bit(29)},
    {0x8000'0001, &Registers::ecx, 0},
    {0x8000'0001, &Registers::edx, 0},
};

Registers brand(std::uint32_t part) {
  Registers r;
  std::memcpy(&r, kBrand + 16 * part, sizeof r);
  return r;
}

// The TSC in terms of the crystal clock: hertz = ECX * EBX / EAX. Kernels multiply ECX in kilohertz
// by EBX in 32 bits (Linux, native_calibrate_tsc), so a frequency that shares too little with the
// crystal's is told by the nearest ratio that fits: within 3 millionths.
Registers tsc_ratio(std::uint64_t hz) {
  constexpr std::uint64_t kMost = 0xffff'ffff / (kCrystalHz / 1000);
  std::uint64_t denominator = kCrystalHz / std::gcd(hz, kCrystalHz);
  if (hz * denominator / kCrystalHz > kMost) denominator = kMost * kCrystalHz / hz;
  if (denominator == 0) denominator = 1;
  const std::uint64_t numerator = (hz * denominator + kCrystalHz / 2) / kCrystalHz;
  return {static_cast<std::uint32_t>(denominator), static_cast<std::uint32_t>(numerator),
          static_cast<std::uint32_t>(kCrystalHz), 0};
}

Registers basic(const CpuidSubject& cpu, std::uint32_t leaf, std::uint32_t sub) {
  const auto mhz = static_cast<std::uint32_t>(cpu.tsc_hz / 1'000'000);
  switch (leaf) {
    case 0x00: return {kMaxBasic, word("Genu"), word("ntel"), word("ineI")};
    case 0x01: return features(cpu);
    case 0x02: return {0x00ff'0001, 0, 0, 0};  // "see leaf 4"
    case 0x04: return cache(cpu, sub);
    case 0x06: return {bit(2), 0, 0, 0};  // ARAT
    case 0x07: return sub == 0 ? Registers{0, kLeaf7Ebx, kLeaf7Ecx, kLeaf7Edx} : Registers{};
    case 0x0b: return topology(cpu, sub);
    case 0x15:
      return tsc_ratio(cpu.tsc_hz);
    case 0x16: return {mhz, mhz, 100, 0};
    default: return {};
  }
}

Registers extended(const CpuidSubject& cpu, std::uint32_t leaf) {
  switch (leaf) {
    case 0x8000'0000: return {kMaxExtended, 0, 0, 0};
    case 0x8000'0001: return {0, 0, kExtendedEcx, kExtendedEdx};
    case 0x8000'0002: case 0x8000'0003: case 0x8000'0004: return brand(leaf - 0x8000'0002);
    case 0x8000'0006: return {0, 0, 1024u << 16 | 8u << 12 | 64, 0};
    case 0x8000'0007: return {0, 0, 0, bit(8)};  // invariant TSC
    case 0x8000'0008: return {cpu.physical_bits | kLinearBits << 8, 0, 0, 0};
    default: return {};
  }
}

// The counter and the clock of the local APIC's timer in kHz, as hypervisors have agreed to tell
// them: kernels that ask need not measure either.
Registers timing(const CpuidSubject& cpu) {
  return {static_cast<std::uint32_t>(cpu.tsc_hz / 1000),
          static_cast<std::uint32_t>(kCrystalHz / 1000), 0, 0};
}

}  // namespace

// A leaf past the last answers as the last basic one (SDM Vol. 2, "CPUID—CPU Identification").
CpuidRegisters cpuid_policy(const CpuidSubject& cpu, std::uint32_t leaf, std::uint32_t sub) {
  if (leaf == kHypervisor) return {kTiming, word("bhyv"), word("e bh"), word("yve ")};
  if (leaf == kTiming) return timing(cpu);
  if (leaf > kHypervisor && leaf < 0x5000'0000) return {};
  if (leaf >= 0x8000'0000 && leaf <= kMaxExtended) return extended(cpu, leaf);
  return basic(cpu, leaf <= kMaxBasic ? leaf : kMaxBasic, sub);
}

CpuidRegisters limit_to_hardware(std::uint32_t leaf, const CpuidRegisters& policy,
                                 const CpuidRegisters& hardware) {
  CpuidRegisters r = policy;
  for (const HardwareFeatures& row : kFeatures)
    if (row.leaf == leaf) r.*row.word &= hardware.*row.word | row.machines;
  return r;
}

}  // namespace hv

// Bits: SDM Vol. 2, "CPUID—CPU Identification", and AMD's APM Vol. 3, Appendix E.
#include "accel/host_cpuid.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <initializer_list>
#include <string>

namespace hv {
namespace {

using Registers = CpuidRegisters;
constexpr auto kEax = &Registers::eax, kEbx = &Registers::ebx, kEcx = &Registers::ecx,
               kEdx = &Registers::edx;
constexpr CpuidFrom kHost = CpuidFrom::kHost, kMachine = CpuidFrom::kMachine,
                    kNobody = CpuidFrom::kNobody;
constexpr std::uint32_t kAll = ~0u;

constexpr std::uint32_t bits(std::initializer_list<unsigned> numbers) {
  std::uint32_t all = 0;
  for (const unsigned n : numbers) all |= 1u << n;
  return all;
}

constexpr std::string_view
    kVector = "registers that only XSAVE keeps, which saved state does not hold",
    kXsave = "XSAVE and its components: saved state holds x87 and SSE",
    kNested = "virtualization in the guest: its state and MSRs are not kept",
    kMonitor = "MONITOR and MWAIT would keep the host's core while the guest sleeps",
    kMsrs = "announces MSRs that the machine does not have (accel/msr_policy.cc)",
    kSpeculation = "bits of IA32_SPEC_CTRL or IA32_PRED_CMD that the MSR policy refuses",
    kCounters = "performance counters and tracing: their MSRs are not kept",
    kPower = "the host's power, heat and frequency are its own",
    kDebug = "debugging beyond DR0 to DR7 and RFLAGS.TF: MSRs that are not kept",
    kLinear = "linear addresses are 48 bits without tags or keys to every part of the machine",
    kTopology = "which CPUs share what is the machine's own to say",
    kEncryption = "encryption and enclaves: keys and state that cannot be saved",
    kStores = "stores made for devices, which neither KVM's emulator nor our interpreter knows",
    kEvents = "another way to deliver events: state and MSRs that are not kept",
    kFxsave = "changes what FXSAVE stores, which our interpreter does not follow",
    kFaults = "faults CPUID by an MSR, and the table is the hypervisor's";

constexpr CpuidRow kRows[] = {
    {0x0, 0, kEax, kAll, kMachine, {}},
    {0x0, 0, kEbx, kAll, kHost, {}},
    {0x0, 0, kEcx, kAll, kHost, {}},
    {0x0, 0, kEdx, kAll, kHost, {}},

    {0x1, 0, kEax, kAll, kHost, {}},
    {0x1, 0, kEbx, 0x0000'ffff, kHost, {}},     // CLFLUSH's line, brand
    {0x1, 0, kEbx, 0xffff'0000, kMachine, {}},  // APIC's number, logical CPUs
    // SSE3, PCLMULQDQ, SSSE3, CX16, PCID, SSE4.1, SSE4.2, MOVBE, POPCNT, AES, RDRAND
    {0x1, 0, kEcx, bits({0, 1, 9, 13, 17, 19, 20, 22, 23, 25, 30}), kHost, {}},
    {0x1, 0, kEcx, bits({21, 24, 31}), kMachine, {}},  // x2APIC, TSC deadline, a hypervisor
    {0x1, 0, kEcx, bits({2, 4}), kNobody, kCounters},  // DTES64, DS-CPL
    {0x1, 0, kEcx, bits({3}), kNobody, kMonitor},
    {0x1, 0, kEcx, bits({5, 6}), kNobody, kNested},             // VMX, SMX
    {0x1, 0, kEcx, bits({7, 8}), kNobody, kPower},              // EIST, TM2
    {0x1, 0, kEcx, bits({10, 14, 15, 18}), kNobody, kMsrs},     // CNXT-ID, xTPR, PDCM, DCA
    {0x1, 0, kEcx, bits({11}), kNobody, kDebug},                // SDBG
    {0x1, 0, kEcx, bits({12, 28, 29}), kNobody, kVector},       // FMA, AVX, F16C
    {0x1, 0, kEcx, bits({26, 27}), kNobody, kXsave},            // XSAVE, OSXSAVE
    // x87, VME, DE, PSE, TSC, PAE, CX8, SEP, PGE, CMOV, PSE-36, CLFLUSH, MMX, FXSR, SSE, SSE2, SS
    {0x1, 0, kEdx, bits({0, 1, 2, 3, 4, 6, 8, 11, 13, 15, 17, 19, 23, 24, 25, 26, 27}), kHost, {}},
    {0x1, 0, kEdx, bits({5, 7, 9, 12, 14, 16, 28}), kMachine, {}},  // MSR, MCE, APIC, MTRR, MCA, PAT, HTT
    {0x1, 0, kEdx, bits({18}), kNobody, kMsrs},                     // PSN
    {0x1, 0, kEdx, bits({21}), kNobody, kCounters},                 // DS
    {0x1, 0, kEdx, bits({22, 29, 31}), kNobody, kPower},            // ACPI, TM, PBE

    {0x2, 0, kEax, kAll, kHost, {}},
    {0x2, 0, kEbx, kAll, kHost, {}},
    {0x2, 0, kEcx, kAll, kHost, {}},
    {0x2, 0, kEdx, kAll, kHost, {}},

    {0x6, 0, kEax, bits({2}), kMachine, {}},  // ARAT
    {0x6, 0, kEax, ~bits({2}), kNobody, kPower},
    {0x6, 0, kEcx, kAll, kNobody, kPower},

    // FSGSBASE, BMI1, HLE, FDP on exceptions only, SMEP, BMI2, ERMS, INVPCID, RTM, no FCS and FDS,
    // RDSEED, ADX, SMAP, CLFLUSHOPT, CLWB, SHA
    {0x7, 0, kEbx, bits({0, 3, 4, 6, 7, 8, 9, 10, 11, 13, 18, 19, 20, 23, 24, 29}), kHost, {}},
    {0x7, 0, kEbx, bits({1}), kMachine, {}},                // IA32_TSC_ADJUST
    {0x7, 0, kEbx, bits({2}), kNobody, kEncryption},        // SGX
    {0x7, 0, kEbx, bits({5, 16, 17, 21, 26, 27, 28, 30, 31}), kNobody, kVector},  // AVX2, AVX-512
    {0x7, 0, kEbx, bits({14}), kNobody, kXsave},            // MPX
    {0x7, 0, kEbx, bits({12, 15}), kNobody, kMsrs},         // RDT
    {0x7, 0, kEbx, bits({25}), kNobody, kCounters},         // Processor Trace
    // PREFETCHWT1, UMIP, GFNI, RDPID, CLDEMOTE
    {0x7, 0, kEcx, bits({0, 2, 8, 22, 25}), kHost, {}},
    {0x7, 0, kEcx, bits({1, 6, 9, 10, 11, 12, 14}), kNobody, kVector},  // AVX-512, VAES, VPCLMULQDQ
    {0x7, 0, kEcx, bits({3, 4}), kNobody, kXsave},           // PKU, OSPKE
    {0x7, 0, kEcx, bits({5}), kNobody, kMonitor},            // WAITPKG
    {0x7, 0, kEcx, bits({7, 29}), kNobody, kMsrs},           // CET shadow stacks, ENQCMD
    {0x7, 0, kEcx, bits({13, 23, 30}), kNobody, kEncryption},  // TME, Key Locker, SGX_LC
    {0x7, 0, kEcx, bits({16, 31}), kNobody, kLinear},        // LA57, PKS
    {0x7, 0, kEcx, bits({24}), kNobody, kDebug},             // bus-lock detection
    {0x7, 0, kEcx, bits({27, 28}), kNobody, kStores},        // MOVDIRI, MOVDIR64B
    // FSRM, MD_CLEAR, SERIALIZE, TSXLDTRK, IBRS and IBPB, STIBP, SSBD
    {0x7, 0, kEdx, bits({4, 10, 14, 16, 26, 27, 31}), kHost, {}},
    {0x7, 0, kEdx, bits({29}), kMachine, {}},                // IA32_ARCH_CAPABILITIES
    {0x7, 0, kEdx, bits({1, 18}), kNobody, kEncryption},     // SGX keys, PCONFIG
    {0x7, 0, kEdx, bits({2, 3, 8, 23}), kNobody, kVector},   // AVX-512
    {0x7, 0, kEdx, bits({22, 24, 25}), kNobody, kXsave},     // AMX
    {0x7, 0, kEdx, bits({5}), kNobody, kEvents},             // user interrupts
    {0x7, 0, kEdx, bits({15}), kNobody, kTopology},          // hybrid
    {0x7, 0, kEdx, bits({19}), kNobody, kCounters},          // architectural LBRs
    // SRBDS_CTRL, RTM_ALWAYS_ABORT, TSX_FORCE_ABORT, CET_IBT, L1D_FLUSH, IA32_CORE_CAPABILITIES
    {0x7, 0, kEdx, bits({9, 11, 13, 20, 28, 30}), kNobody, kMsrs},
    {0x7, 1, kEax, bits({7, 10, 11, 12}), kHost, {}},        // CMPCCXADD; fast short REP
    {0x7, 1, kEax, bits({0, 1, 2, 4, 5, 23}), kNobody, kVector},  // SHA512, SM3, SM4, AVX
    {0x7, 1, kEax, bits({21}), kNobody, kXsave},             // AMX
    {0x7, 1, kEax, bits({8}), kNobody, kCounters},
    {0x7, 1, kEax, bits({17, 18}), kNobody, kEvents},        // FRED, LKGS
    {0x7, 1, kEax, bits({6, 26}), kNobody, kLinear},         // LASS, LAM
    {0x7, 1, kEax, bits({19, 22, 27}), kNobody, kMsrs},      // WRMSRNS, HRESET, MSRLIST
    {0x7, 2, kEdx, bits({5}), kHost, {}},                    // MCDT_NO
    {0x7, 2, kEdx, bits({0, 1, 2, 3, 4}), kNobody, kSpeculation},  // PSFD to BHI_CTRL

    {0x8000'0000, 0, kEbx, kAll, kHost, {}},
    {0x8000'0000, 0, kEcx, kAll, kHost, {}},
    {0x8000'0000, 0, kEdx, kAll, kHost, {}},

    {0x8000'0001, 0, kEax, kAll, kHost, {}},
    // LAHF in 64-bit mode, LOCK MOV CR0, LZCNT, SSE4A, misaligned SSE, PREFETCHW, TCE, TBM
    {0x8000'0001, 0, kEcx, bits({0, 4, 5, 6, 7, 8, 17, 21}), kHost, {}},
    {0x8000'0001, 0, kEcx, bits({1, 22}), kNobody, kTopology},      // CmpLegacy, TOPOEXT
    {0x8000'0001, 0, kEcx, bits({2, 12}), kNobody, kNested},        // SVM, SKINIT
    {0x8000'0001, 0, kEcx, bits({11, 16}), kNobody, kVector},       // XOP, FMA4
    {0x8000'0001, 0, kEcx, bits({15}), kNobody, kXsave},            // LWP
    {0x8000'0001, 0, kEcx, bits({10, 23, 24, 27, 28}), kNobody, kCounters},
    {0x8000'0001, 0, kEcx, bits({26, 30}), kNobody, kDebug},        // breakpoint extensions
    {0x8000'0001, 0, kEcx, bits({29}), kNobody, kMonitor},          // MONITORX
    {0x8000'0001, 0, kEcx, bits({3, 9, 13, 19}), kNobody, kMsrs},   // extended APIC, OSVW, WDT, NodeId
    // SYSCALL, NX, MMXEXT, 1 GiB pages, RDTSCP, long mode, 3DNow!
    {0x8000'0001, 0, kEdx, bits({11, 20, 22, 26, 27, 29, 30, 31}), kHost, {}},
    {0x8000'0001, 0, kEdx, bits({25}), kNobody, kFxsave},           // FFXSR

    {0x8000'0007, 0, kEdx, bits({8}), kMachine, {}},                // invariant TSC
    {0x8000'0007, 0, kEdx, ~bits({8}), kNobody, kPower},
    {0x8000'0007, 0, kEbx, kAll, kNobody, kMsrs},                   // RAS
    {0x8000'0008, 0, kEax, kAll, kMachine, {}},
    // CLZERO, WBNOINVD, IBPB, IBRS, STIBP, always on (both), preferred, same mode, no EFER.LMSLE,
    // SSBD, SSB_NO, BTC_NO, IBPB_RET
    {0x8000'0008, 0, kEbx, bits({0, 9, 12, 14, 15, 16, 17, 18, 19, 20, 24, 26, 29, 30}), kHost, {}},
    {0x8000'0008, 0, kEbx, bits({1, 4}), kNobody, kCounters},       // IRPERF, RDPRU
    {0x8000'0008, 0, kEbx, bits({2}), kNobody, kXsave},             // XSAVE's error pointers
    {0x8000'0008, 0, kEbx, bits({28}), kNobody, kSpeculation},      // PSFD
    {0x8000'0008, 0, kEbx, bits({6, 8, 13, 23, 25, 31}), kNobody, kMsrs},
    {0x8000'0021, 0, kEax, bits({0, 1, 2, 6, 8, 9, 28, 29, 30}), kHost, {}},
    {0x8000'0021, 0, kEax, bits({3}), kNobody, kMsrs},              // SMM's
    {0x8000'0021, 0, kEax, bits({7}), kNobody, kLinear},            // upper address ignore
    {0x8000'0021, 0, kEax, bits({17}), kNobody, kFaults},           // CpuidUserDis
    {0x8000'0021, 0, kEax, bits({24, 27}), kNobody, kSpeculation},  // ERAPS, SBPB
};

// Leaves whose registers are no rows: all the host's, all the machine's, or zero. Those of zero are
// told as such, since a KVM may show the hardware's where it is told nothing.
struct WholeLeaf {
  std::uint32_t leaf, subs;  // 0: ECX does not matter
  CpuidFrom from;
  std::string_view why = {};
};
constexpr WholeLeaf kWhole[] = {
    {0x3, 0, kNobody, kMsrs},  // serial number
    {0x4, 5, kHost},           // caches; shared() says by whom
    {0x5, 0, kNobody, kMonitor},
    {0x9, 0, kNobody, kMsrs},  // direct cache access
    {0xa, 0, kNobody, kCounters},
    {0xb, 3, kMachine},
    {0xd, 0, kNobody, kXsave},
    {0xf, 0, kNobody, kMsrs},   // RDT
    {0x10, 0, kNobody, kMsrs},  // RDT
    {0x12, 0, kNobody, kEncryption},
    {0x14, 0, kNobody, kCounters},
    {0x15, 0, kMachine},
    {0x16, 0, kMachine},
    {0x4000'0000, 0, kMachine},
    {0x4000'0010, 0, kMachine},
    {0x8000'0002, 0, kHost},
    {0x8000'0003, 0, kHost},
    {0x8000'0004, 0, kHost},
    {0x8000'0005, 0, kHost},
    {0x8000'0006, 0, kHost},
    {0x8000'000a, 0, kNobody, kNested},
    {0x8000'001b, 0, kNobody, kCounters},
    {0x8000'001c, 0, kNobody, kXsave},
    {0x8000'001d, 0, kNobody, kTopology},
    {0x8000'001e, 0, kNobody, kTopology},
    {0x8000'001f, 0, kNobody, kEncryption},
};
constexpr std::uint32_t kMaxExtended = 0x8000'0021, kMaxSubleaf7 = 2;

const Registers* find(std::span<const CpuidLeaf> table, std::uint32_t leaf, std::uint32_t sub) {
  for (const CpuidLeaf& one : table)
    if (one.leaf == leaf && (one.sub == sub || !one.by_sub)) return &one.registers;
  return nullptr;
}

class Host {
 public:
  Host(const CpuidSubject& cpu, std::span<const CpuidLeaf> offered)
      : cpu_{cpu}, offered_{offered}, vendor_{of(0, 0).ebx} {}

  std::vector<CpuidLeaf> table() const {
    std::vector<CpuidLeaf> out;
    for (const WholeLeaf& whole : kWhole)
      for (std::uint32_t sub = 0; sub < std::max(1u, whole.subs); ++sub)
        out.push_back({whole.leaf, sub, whole.subs != 0, of_whole(whole, sub)});
    for (const CpuidRow& row : kRows) add(row, out);
    for (CpuidLeaf& leaf : out) complete(leaf, out);
    return out;
  }

 private:
  Registers of(std::uint32_t leaf, std::uint32_t sub) const {
    const Registers* const found = find(offered_, leaf, sub);
    return found == nullptr ? Registers{} : *found;
  }

  Registers of_whole(const WholeLeaf& whole, std::uint32_t sub) const {
    if (whole.from == kNobody) return {};
    if (whole.from == kMachine) return cpuid_policy(cpu_, whole.leaf, sub);
    const Registers host = of(whole.leaf, sub);
    return whole.leaf == 4 ? shared(host) : host;
  }

  // Caches of the third level are every CPU's, those before each CPU's own.
  Registers shared(Registers cache) const {
    if ((cache.eax & 0x1f) == 0) return {};
    const auto all = std::bit_ceil(cpu_.count) - 1;
    const std::uint32_t level = cache.eax >> 5 & 7;
    cache.eax = (cache.eax & 0x3fff) | (level < 3 ? 0 : all) << 14 | all << 26;
    return cache;
  }

  void add(const CpuidRow& row, std::vector<CpuidLeaf>& out) const {
    const auto here = [&row](const CpuidLeaf& l) { return l.leaf == row.leaf && l.sub == row.sub; };
    auto at = std::find_if(out.begin(), out.end(), here);
    if (at == out.end()) at = out.insert(at, {row.leaf, row.sub, row.leaf == 7, {}});
    if (row.from == kHost) at->registers.*row.word |= of(row.leaf, row.sub).*row.word & row.bits;
    if (row.from == kMachine)
      at->registers.*row.word |= cpuid_policy(cpu_, row.leaf, row.sub).*row.word & row.bits;
  }

  // What is neither a bit of the one nor of the other.
  void complete(CpuidLeaf& leaf, std::span<const CpuidLeaf> table) const {
    Registers& r = leaf.registers;
    if (leaf.leaf == 7 && leaf.sub == 0) r.eax = std::min(of(7, 0).eax, kMaxSubleaf7);
    if (leaf.leaf == 0x8000'0000)
      r.eax = std::clamp(of(leaf.leaf, 0).eax, 0x8000'0008u, kMaxExtended);
    if (!is_amd(vendor_)) return;
    // APM Vol. 3, E.4.1: leaf 1's features once more, and CmpLegacy: the logical CPUs are cores.
    if (leaf.leaf == 0x8000'0001) {
      r.edx |= find(table, 1, 0)->edx & 0x0183'f3ff;
      if (cpu_.count > 1) r.ecx |= 1u << 1;
    }
    if (leaf.leaf == 0x8000'0008)
      r.ecx = (cpu_.count - 1) | static_cast<std::uint32_t>(std::bit_width(cpu_.count - 1)) << 12;
  }

  const CpuidSubject& cpu_;
  const std::span<const CpuidLeaf> offered_;
  const std::uint32_t vendor_;
};

std::string hex(std::uint32_t value) {
  char text[16];
  std::snprintf(text, sizeof text, "0x%x", value);
  return text;
}

constexpr struct {
  const char* name;
  std::uint32_t Registers::*at;
} kWords[] = {{"eax", kEax}, {"ebx", kEbx}, {"ecx", kEcx}, {"edx", kEdx}};

}  // namespace

std::span<const CpuidRow> host_cpuid_rows() { return kRows; }

std::vector<CpuidLeaf> host_cpuid(const CpuidSubject& cpu, std::span<const CpuidLeaf> offered) {
  return Host{cpu, offered}.table();
}

std::string cpuid_difference(std::span<const CpuidLeaf> saved, std::span<const CpuidLeaf> here) {
  const auto missing = [](std::span<const CpuidLeaf> in, const CpuidLeaf& leaf) {
    return find(in, leaf.leaf, leaf.sub) == nullptr;
  };
  for (const CpuidLeaf& leaf : saved)
    if (missing(here, leaf)) return "leaf " + hex(leaf.leaf) + " is none of this host's";
  for (const CpuidLeaf& leaf : here) {
    const std::string name = "leaf " + hex(leaf.leaf) + (leaf.by_sub ? "." + hex(leaf.sub) : "");
    if (missing(saved, leaf)) return name + " was not saved, and this host has it";
    for (const auto& word : kWords) {
      const std::uint32_t was = find(saved, leaf.leaf, leaf.sub)->*word.at;
      if (was != leaf.registers.*word.at)
        return name + " " + word.name + ": " + hex(was) + " was saved, this host has " +
               hex(leaf.registers.*word.at);
    }
  }
  return {};
}

}  // namespace hv

// Model-specific registers: SDM Vol. 4, "Architectural MSRs". Each kind of register is a row of a
// table: what may be written, and where it is kept.
#include "accel/msr_policy.h"

#include <algorithm>
#include <iterator>

#include "accel/cpuid_policy.h"

namespace hv {

namespace {

// IA32_ARCH_CAPABILITIES: what this CPU, which speculates nothing of its own, need not be
// protected from. docs/security.md says what the host's speculation may leak.
constexpr std::uint64_t kArchCapabilities =
    1u << 0 |      // RDCL_NO
    1u << 1 |      // IBRS_ALL
    1u << 3 |      // SKIP_L1DFL_VMENTRY
    1u << 4 |      // SSB_NO
    1u << 5 |      // MDS_NO
    1u << 6 |      // IF_PSCHANGE_MC_NO
    1u << 8 |      // TAA_NO
    1u << 13 |     // SBDR_SSDP_NO
    1u << 14 |     // FBSDP_NO
    1u << 15 |     // PSDP_NO
    1u << 20 |     // BHI_NO
    1u << 24 |     // PBRSB_NO
    1u << 26 |     // GDS_NO
    1u << 27 |     // RFDS_NO
    1ull << 62;    // ITS_NO

constexpr std::uint64_t kMicrocode = 0x1ull << 32;
constexpr std::uint64_t kMtrrCap = 8 | 1u << 8 | 1u << 10;  // 8 variable, fixed, WC
constexpr std::uint64_t kMcgCap = 10 | 1u << 8;             // 10 banks, MCG_CTL
constexpr std::uint64_t kPlatformInfo = 25u << 8;           // base ratio of 100 MHz
constexpr std::uint64_t kPhysical = (1ull << kCpuidPhysicalBits) - 1;

// Bits 63:47 alike (48-bit linear addresses).
bool canonical_address(std::uint64_t value) {
  const auto top = static_cast<std::int64_t>(value) >> 47;
  return top == 0 || top == -1;
}

enum class Rule : std::uint8_t { kAny, kCanonical, kLow32, kPat, kMtrrDefault, kSpecCtrl, kZero };

struct Plain {
  std::uint32_t index;
  std::uint64_t CpuState::*at;
  Rule rule;
};
constexpr Plain kPlainMsrs[] = {
    {0x048, &CpuState::spec_ctrl, Rule::kSpecCtrl},
    {0x174, &CpuState::sysenter_cs, Rule::kLow32},
    {0x175, &CpuState::sysenter_esp, Rule::kCanonical},
    {0x176, &CpuState::sysenter_eip, Rule::kCanonical},
    {0x17a, &CpuState::mcg_status, Rule::kAny},
    {0x17b, &CpuState::mcg_ctl, Rule::kAny},
    {0x1a0, &CpuState::misc_enable, Rule::kAny},
    {0x277, &CpuState::pat, Rule::kPat},
    {0x2ff, &CpuState::mtrr_def_type, Rule::kMtrrDefault},
    {0xc0000081, &CpuState::star, Rule::kAny},
    {0xc0000082, &CpuState::lstar, Rule::kCanonical},
    {0xc0000083, &CpuState::cstar, Rule::kCanonical},
    {0xc0000084, &CpuState::fmask, Rule::kLow32},
    {0xc0000102, &CpuState::kernel_gs_base, Rule::kCanonical},
    {0xc0000103, &CpuState::tsc_aux, Rule::kLow32},
};

struct Constant {
  std::uint32_t index;
  std::uint64_t value;
  bool swallows;  // writes vanish; else they fault
};
constexpr Constant kConstants[] = {
    {0x017, 0, false},                  // IA32_PLATFORM_ID
    {0x03a, 1, false},                  // IA32_FEATURE_CONTROL: locked, nothing enabled
    {0x079, 0, true},                   // IA32_BIOS_UPDT_TRIG: an update is taken and does nothing
    {0x08b, kMicrocode, true},          // IA32_BIOS_SIGN_ID
    {0x0ce, kPlatformInfo, false},      // MSR_PLATFORM_INFO
    {0x0fe, kMtrrCap, false},           // IA32_MTRRCAP
    {0x10a, kArchCapabilities, false},  // IA32_ARCH_CAPABILITIES
    {0x179, kMcgCap, false},            // IA32_MCG_CAP
    {0x1d9, 0, true},                   // IA32_DEBUGCTL: LBR and BTF are accepted, not kept
};

// AMD's APM Vol. 2, Appendix A, and the PPRs of families 17h to 1Ah.
constexpr struct {
  std::uint32_t index;
  std::uint64_t value;
} kAmdMsrs[] = {
    {0xc001'0010, 0},         // SYSCFG: no memory encryption, MTRRs of this machine's
    {0xc001'0015, 1u << 24},  // HWCR: the time-stamp counter counts at P0's frequency
    {0xc001'001f, 0},         // NB_CFG
    {0xc001'0020, 0},         // PATCH_LOADER: an update is taken and does nothing
    {0xc001'0055, 0},         // INT_PENDING: no C1E
    {0xc001'1022, 0},         // DC_CFG
    {0xc001'1029, 1u << 1},   // DE_CFG: LFENCE serializes
    {0xc001'102a, 0},         // BU_CFG2
};

// IA32_MTRR_FIX64K_00000, FIX16K_80000 and A0000, FIX4K_C0000 to F8000.
constexpr std::uint32_t kFixedMtrrs[] = {0x250, 0x258, 0x259, 0x268, 0x269, 0x26a,
                                         0x26b, 0x26c, 0x26d, 0x26e, 0x26f};
constexpr std::uint32_t kVariableMtrrs = 0x200, kBanks0 = 0x400;

bool memory_type(std::uint64_t type, bool pat) {
  return type == 0 || type == 1 || (type >= 4 && type <= 6) || (pat && type == 7);
}
bool memory_types(std::uint64_t eight, bool pat) {
  for (unsigned i = 0; i < 8; ++i)
    if (!memory_type(eight >> (8 * i) & 0xff, pat)) return false;
  return true;
}

bool allowed(Rule rule, std::uint64_t value) {
  switch (rule) {
    case Rule::kAny: return true;
    case Rule::kCanonical: return canonical_address(value);
    case Rule::kLow32: return value >> 32 == 0;
    case Rule::kPat: return memory_types(value, true);
    case Rule::kMtrrDefault: return (value & ~0xcffull) == 0 && memory_type(value & 0xff, false);
    case Rule::kSpecCtrl: return (value & ~7ull) == 0;
    case Rule::kZero: return value == 0;
  }
  return false;
}

bool variable_mtrr_allowed(std::uint32_t number, std::uint64_t value) {
  if ((value & ~kPhysical) != 0) return false;
  const bool mask = (number & 1) != 0;
  return mask ? (value & 0x7ff) == 0
              : (value & 0xf00) == 0 && memory_type(value & 0xff, false);
}

// The registers that are kept in arrays; nullptr where `index` is none of them.
std::uint64_t* in_array(CpuState& s, std::uint32_t index) {
  if (index - kVariableMtrrs < s.mtrr_variable.size())
    return &s.mtrr_variable[index - kVariableMtrrs];
  if (index - kBanks0 < s.mc_banks.size()) return &s.mc_banks[index - kBanks0];
  const auto* fixed = std::find(std::begin(kFixedMtrrs), std::end(kFixedMtrrs), index);
  if (fixed == std::end(kFixedMtrrs)) return nullptr;
  return &s.mtrr_fixed[static_cast<std::size_t>(fixed - kFixedMtrrs)];
}

bool array_allowed(std::uint32_t index, std::uint64_t value) {
  if (index >= kBanks0) return (index & 3) == 0 || value == 0;  // CTL; the rest may be cleared
  if (index < 0x250) return variable_mtrr_allowed(index - kVariableMtrrs, value);
  return memory_types(value, false);
}

template <class Table>
const auto* look_up(const Table& table, std::uint32_t index) {
  const auto* found = std::find_if(std::begin(table), std::end(table),
                                   [index](const auto& row) { return row.index == index; });
  return found == std::end(table) ? nullptr : found;
}

}  // namespace

std::optional<std::uint64_t> read_amd_msr(std::uint32_t index) {
  const auto* const found = look_up(kAmdMsrs, index);
  return found == nullptr ? std::nullopt : std::optional{found->value};
}

std::optional<std::uint64_t> read_kept_msr(const CpuState& state, std::uint32_t index) {
  if (const Plain* plain = look_up(kPlainMsrs, index)) return state.*plain->at;
  if (const Constant* constant = look_up(kConstants, index)) return constant->value;
  if (const std::uint64_t* kept = in_array(const_cast<CpuState&>(state), index)) return *kept;
  return std::nullopt;
}

MsrWrite write_kept_msr(CpuState& state, std::uint32_t index, std::uint64_t value) {
  const auto refused_unless = [](bool ok) { return ok ? MsrWrite::kDone : MsrWrite::kRefused; };
  // IA32_PRED_CMD: nothing of the state's.
  if (index == kMsrPredCmd) return refused_unless((value & ~1ull) == 0);
  if (const Plain* plain = look_up(kPlainMsrs, index)) {
    if (!allowed(plain->rule, value)) return MsrWrite::kRefused;
    state.*plain->at = value;
    return MsrWrite::kDone;
  }
  if (const Constant* constant = look_up(kConstants, index))
    return refused_unless(constant->swallows);
  if (std::uint64_t* kept = in_array(state, index)) {
    if (!array_allowed(index, value)) return MsrWrite::kRefused;
    *kept = value;
    return MsrWrite::kDone;
  }
  return MsrWrite::kUnknown;
}

}  // namespace hv

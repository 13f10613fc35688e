#include "entry_checks.h"

namespace hv::sim {
namespace {

using namespace hvf;

constexpr std::uint64_t kCr0Pe = 1u << 0, kCr0Pg = 1u << 31;
constexpr std::uint64_t kCr4Pae = 1u << 5, kCr4Pcide = 1u << 17;
constexpr std::uint64_t kTf = 1u << 8, kIf = 1u << 9, kVm = 1u << 17;
constexpr std::uint64_t kEferKnown = 0xd01, kEferLme = 1u << 8, kEferLma = 1u << 10;
constexpr unsigned kPhysicalBits = 46;

// Bits of a segment's access rights.
constexpr std::uint32_t kS = 1u << 4, kP = 1u << 7, kL = 1u << 13, kDb = 1u << 14, kG = 1u << 15,
                        kUnusable = 1u << 16, kReserved = 0xfffe'0f00;

bool canonical(std::uint64_t linear) {
  const auto top = static_cast<std::int64_t>(linear) >> 47;
  return top == 0 || top == -1;
}

bool within(std::uint32_t controls, std::uint64_t offered) {
  const auto must = static_cast<std::uint32_t>(offered);
  const auto may = static_cast<std::uint32_t>(offered >> 32);
  return (controls & must) == must && (controls & ~may) == 0;
}

// The guest state as the checks read it.
struct Guest {
  const Vmcs& vmcs;
  std::uint64_t cr0 = vmcs.get(Field::kGuestCr0), cr4 = vmcs.get(Field::kGuestCr4),
                rflags = vmcs.get(Field::kGuestRflags), rip = vmcs.get(Field::kGuestRip),
                efer = vmcs.get(Field::kGuestEfer);
  std::uint32_t entry = vmcs.get32(Field::kEntryControls),
                primary = vmcs.get32(Field::kPrimaryControls),
                pin = vmcs.get32(Field::kPinControls),
                event = vmcs.get32(Field::kEntryEvent),
                blocked = vmcs.get32(Field::kGuestInterruptibility);
  std::uint32_t secondary =
      (primary & kSecondaryActive) != 0 ? vmcs.get32(Field::kSecondaryControls) : 0;

  bool long_guest() const { return (entry & kIa32eGuest) != 0; }
  bool unrestricted() const { return (secondary & kUnrestrictedGuest) != 0; }
  bool v86() const { return (rflags & kVm) != 0; }
  bool injects(EventType type) const {
    return (event & kEventValid) != 0 &&
           (event & kEventTypeMask) >> kEventTypeShift == static_cast<std::uint32_t>(type);
  }
  std::uint16_t selector(unsigned n) const {
    return static_cast<std::uint16_t>(vmcs.get(nth(Field::kGuestSelector, n)));
  }
  std::uint64_t base(unsigned n) const { return vmcs.get(nth(Field::kGuestBase, n)); }
  std::uint32_t limit(unsigned n) const { return vmcs.get32(nth(Field::kGuestLimit, n)); }
  std::uint32_t access(unsigned n) const { return vmcs.get32(nth(Field::kGuestAccess, n)); }
  unsigned type(unsigned n) const { return access(n) & 15; }
  unsigned dpl(unsigned n) const { return access(n) >> 5 & 3; }
  unsigned rpl(unsigned n) const { return selector(n) & 3u; }
  bool usable(unsigned n) const { return (access(n) & kUnusable) == 0; }
};

// ---- "VM-Entry Control Fields": the event to inject ---------------------------------------------

bool has_error_code(std::uint32_t vector) {
  constexpr std::uint32_t kWith = 1u << 8 | 0x1fu << 10 | 1u << 17;
  return vector < 32 && (kWith >> vector & 1) != 0;
}

const char* wrong_event(const Vmcs& vmcs) {
  const std::uint32_t event = vmcs.get32(Field::kEntryEvent);
  if ((event & kEventValid) == 0) return nullptr;
  const std::uint32_t vector = event & 0xff;
  const std::uint32_t number = (event & kEventTypeMask) >> kEventTypeShift;
  const auto type = static_cast<EventType>(number);
  if (number == 1 || number == 7) return "an event of a reserved type";
  if (type == EventType::kNmi && vector != 2) return "an NMI of another vector than 2";
  if (type == EventType::kException && vector > 31) return "an exception above vector 31";
  if ((event & 0x7fff'f000) != 0) return "reserved bits of the event";
  const bool protects = (vmcs.get(Field::kGuestCr0) & kCr0Pe) != 0;
  const bool error = (event & kEventHasError) != 0;
  if (error != (type == EventType::kException && protects && has_error_code(vector)))
    return "an error code where there is none, or none where there is one";
  if (error && vmcs.get32(Field::kEntryEventError) >> 16 != 0) return "reserved error-code bits";
  const std::uint32_t length = vmcs.get32(Field::kEntryInstructionLength);
  if (number >= 4 && (length == 0 || length > 15)) return "an instruction length of 0 or above 15";
  return nullptr;
}

// ---- "Checks on Guest Control Registers, Debug Registers, and MSRs" -----------------------------

bool pat_valid(std::uint64_t pat) {
  for (unsigned i = 0; i < 8; ++i) {
    const std::uint64_t type = pat >> (8 * i) & 0xff;
    if (type > 7 || type == 2 || type == 3) return false;
  }
  return true;
}

const char* wrong_registers(const Guest& g, const Capabilities& offered) {
  std::uint64_t must = offered.cr0_fixed0;
  if (g.unrestricted()) must &= ~(kCr0Pe | kCr0Pg);
  if ((g.cr0 & must) != must || (g.cr0 & ~offered.cr0_fixed1) != 0) return "fixed bits of CR0";
  if ((g.cr0 & kCr0Pg) != 0 && (g.cr0 & kCr0Pe) == 0) return "CR0.PG without PE";
  if ((g.cr4 & offered.cr4_fixed0) != offered.cr4_fixed0 || (g.cr4 & ~offered.cr4_fixed1) != 0)
    return "fixed bits of CR4";
  if (g.long_guest() && ((g.cr0 & kCr0Pg) == 0 || (g.cr4 & kCr4Pae) == 0))
    return "an IA-32e guest without paging or PAE";
  if (!g.long_guest() && (g.cr4 & kCr4Pcide) != 0) return "CR4.PCIDE outside IA-32e mode";
  if (g.vmcs.get(Field::kGuestCr3) >> kPhysicalBits != 0) return "CR3 beyond physical addresses";
  if ((g.entry & kLoadDebugControls) != 0 && g.vmcs.get(Field::kGuestDr7) >> 32 != 0)
    return "upper half of DR7";
  if ((g.entry & kLoadDebugControls) != 0 && (g.vmcs.get(Field::kGuestDebugctl) & ~0xffc3ull) != 0)
    return "reserved bits of DEBUGCTL";
  if (!canonical(g.vmcs.get(Field::kGuestSysenterEsp)) ||
      !canonical(g.vmcs.get(Field::kGuestSysenterEip)))
    return "SYSENTER addresses that are not canonical";
  if ((g.entry & kLoadPat) != 0 && !pat_valid(g.vmcs.get(Field::kGuestPat))) return "PAT";
  if ((g.entry & kLoadEfer) == 0) return nullptr;
  const bool active = (g.efer & kEferLma) != 0, enabled = (g.efer & kEferLme) != 0;
  if ((g.efer & ~kEferKnown) != 0) return "reserved bits of EFER";
  if (active != g.long_guest()) return "EFER.LMA against the IA-32e control";
  if ((g.cr0 & kCr0Pg) != 0 && active != enabled) return "EFER.LMA against LME";
  return nullptr;
}

// ---- "Checks on Guest Segment Registers" --------------------------------------------------------

const char* wrong_v86(const Guest& g) {
  for (unsigned n = 0; n < kSegCount; ++n) {
    if (g.base(n) != std::uint64_t{g.selector(n)} << 4) return "a base in virtual-8086 mode";
    if (g.limit(n) != 0xffff) return "a limit in virtual-8086 mode";
    if (g.access(n) != 0xf3) return "access rights in virtual-8086 mode";
  }
  return nullptr;
}

bool limit_fits(std::uint32_t limit, std::uint32_t access) {
  if ((limit & 0xfff) != 0xfff && (access & kG) != 0) return false;
  return (limit & 0xfff0'0000) == 0 || (access & kG) != 0;
}

const char* wrong_code(const Guest& g) {
  const unsigned type = g.type(kCs);
  const bool code = type == 9 || type == 11 || type == 13 || type == 15;
  if (!code && !(type == 3 && g.unrestricted())) return "the type of CS";
  const unsigned dpl = g.dpl(kCs), ss = g.dpl(kSs);
  if (type == 3 && dpl != 0) return "the DPL of a data segment in CS";
  if ((type == 9 || type == 11) && dpl != ss) return "the DPL of CS against SS";
  if ((type == 13 || type == 15) && dpl > ss) return "the DPL of a conforming CS";
  if (g.long_guest() && (g.access(kCs) & kL) != 0 && (g.access(kCs) & kDb) != 0)
    return "a CS of 64 and 32 bits";
  return nullptr;
}

const char* wrong_stack(const Guest& g) {
  if (g.usable(kSs) && g.type(kSs) != 3 && g.type(kSs) != 7) return "the type of SS";
  if (!g.unrestricted() && g.dpl(kSs) != g.rpl(kSs)) return "the RPL of SS against its DPL";
  const bool unprotected = (g.cr0 & kCr0Pe) == 0;
  if ((g.type(kCs) == 3 || unprotected) && g.dpl(kSs) != 0)
    return "the DPL of SS without protection";
  return nullptr;
}

const char* wrong_data(const Guest& g, unsigned n) {
  const unsigned type = g.type(n);
  if ((type & 1) == 0) return "a data segment that was not accessed";
  if ((type & 8) != 0 && (type & 2) == 0) return "a data segment that cannot be read";
  if (!g.unrestricted() && type < 12 && g.dpl(n) < g.rpl(n)) return "the DPL of a data segment";
  return nullptr;
}

const char* wrong_common(const Guest& g, unsigned n) {
  const std::uint32_t access = g.access(n);
  if ((access & kS) == 0) return "a system descriptor in a segment register";
  if ((access & kP) == 0) return "a segment that is not present";
  if ((access & kReserved) != 0) return "reserved access rights";
  return limit_fits(g.limit(n), access) ? nullptr : "a limit against its granularity";
}

const char* wrong_bases(const Guest& g) {
  for (const unsigned n : {unsigned{kFs}, unsigned{kGs}, kTrNumber})
    if (!canonical(g.base(n))) return "a base that is not canonical";
  if (g.usable(kLdtrNumber) && !canonical(g.base(kLdtrNumber))) return "the base of LDTR";
  if (g.base(kCs) >> 32 != 0) return "the upper half of CS's base";
  for (const unsigned n : {kSs, kDs, kEs})
    if (g.usable(n) && g.base(n) >> 32 != 0) return "the upper half of a data segment's base";
  return nullptr;
}

const char* wrong_segments(const Guest& g) {
  for (unsigned n = 0; n < kSegCount; ++n) {
    if (n != kCs && !g.usable(n)) continue;
    if (const char* what = wrong_common(g, n)) return what;
    if (n == kCs || n == kSs) continue;
    if (const char* what = wrong_data(g, n)) return what;
  }
  if (const char* what = wrong_code(g)) return what;
  return wrong_stack(g);
}

const char* wrong_system_segments(const Guest& g) {
  constexpr unsigned kTr = kTrNumber, kLdtr = kLdtrNumber;
  if ((g.selector(kTr) & 4) != 0) return "TR from the LDT";
  const bool busy16 = g.type(kTr) == 3 && !g.long_guest();
  if (!busy16 && g.type(kTr) != 11) return "the type of TR";
  const std::uint32_t tr = g.access(kTr);
  if ((tr & kS) != 0 || (tr & kP) == 0 || (tr & (kReserved | kUnusable)) != 0)
    return "the access rights of TR";
  if (!limit_fits(g.limit(kTr), tr)) return "the limit of TR";
  if (!g.usable(kLdtr)) return nullptr;
  if ((g.selector(kLdtr) & 4) != 0) return "LDTR from the LDT";
  const std::uint32_t ldtr = g.access(kLdtr);
  if (g.type(kLdtr) != 2 || (ldtr & kS) != 0 || (ldtr & kP) == 0 || (ldtr & kReserved) != 0)
    return "the access rights of LDTR";
  return limit_fits(g.limit(kLdtr), ldtr) ? nullptr : "the limit of LDTR";
}

// ---- "Checks on Guest Descriptor-Table Registers", "… RIP, RFLAGS", "… Non-Register State" ------

const char* wrong_tables(const Guest& g) {
  if (!canonical(g.vmcs.get(Field::kGuestGdtrBase)) ||
      !canonical(g.vmcs.get(Field::kGuestIdtrBase)))
    return "the base of a descriptor table";
  if ((g.vmcs.get(Field::kGuestGdtrLimit) | g.vmcs.get(Field::kGuestIdtrLimit)) >> 16 != 0)
    return "the limit of a descriptor table";
  return nullptr;
}

const char* wrong_rip_and_flags(const Guest& g) {
  const bool code64 = g.long_guest() && (g.access(kCs) & kL) != 0;
  if (!code64 && g.rip >> 32 != 0) return "the upper half of RIP";
  if (code64 && !canonical(g.rip)) return "an RIP that is not canonical";
  constexpr std::uint64_t kFixed1 = 2, kFixed0 = ~0x3f'7fd7ull;
  if ((g.rflags & kFixed1) == 0 || (g.rflags & kFixed0) != 0) return "reserved bits of RFLAGS";
  if (g.v86() && (g.long_guest() || (g.cr0 & kCr0Pe) == 0)) return "RFLAGS.VM outside its mode";
  if (g.injects(EventType::kExternal) && (g.rflags & kIf) == 0)
    return "an interrupt to inject with IF clear";
  return nullptr;
}

const char* wrong_interruptibility(const Guest& g) {
  const bool sti = (g.blocked & kBlockedBySti) != 0, mov_ss = (g.blocked & kBlockedByMovSs) != 0;
  if ((g.blocked & ~0x1fu) != 0) return "reserved bits of the interruptibility state";
  if (sti && mov_ss) return "blocking by STI and by MOV SS";
  if (sti && (g.rflags & kIf) == 0) return "blocking by STI with IF clear";
  if (g.injects(EventType::kExternal) && (sti || mov_ss))
    return "an interrupt to inject that is blocked";
  if (g.injects(EventType::kNmi) && (sti || mov_ss)) return "an NMI to inject that is blocked";
  if ((g.blocked & kBlockedBySmi) != 0) return "blocking by SMI";
  if ((g.pin & kVirtualNmis) != 0 && g.injects(EventType::kNmi) &&
      (g.blocked & kBlockedByNmi) != 0)
    return "an NMI to inject while NMIs are blocked";
  return nullptr;
}

const char* wrong_activity(const Guest& g) {
  constexpr std::uint32_t kActive = 0, kHlt = 1, kShutdown = 2;
  const std::uint32_t activity = g.vmcs.get32(Field::kGuestActivity);
  if (activity > 3) return "an activity state that there is not";
  if (activity == kHlt && g.dpl(kSs) != 0) return "HLT at another privilege than 0";
  const bool shadow = (g.blocked & (kBlockedBySti | kBlockedByMovSs)) != 0;
  if (activity != kActive && shadow) return "a shadow of STI or MOV SS while not active";
  if (activity == kShutdown && (g.event & kEventValid) != 0 && !g.injects(EventType::kNmi))
    return "an event to inject in shutdown";
  return nullptr;
}

const char* wrong_pending_debug(const Guest& g) {
  const std::uint64_t pending = g.vmcs.get(Field::kGuestPendingDebug);
  constexpr std::uint64_t kKnown = kPendingBreakpoints | kPendingEnabled | kPendingStep;
  if ((pending & ~kKnown) != 0) return "reserved bits of the pending debug exceptions";
  const bool held = (g.blocked & (kBlockedBySti | kBlockedByMovSs)) != 0 ||
                    g.vmcs.get32(Field::kGuestActivity) == 1;
  const bool steps = (g.rflags & kTf) != 0 && (g.vmcs.get(Field::kGuestDebugctl) & 2) == 0;
  if (held && steps != ((pending & kPendingStep) != 0))
    return "a held single step against RFLAGS.TF";
  return nullptr;
}

// "Checks on Guest Page-Directory-Pointer-Table Entries".
bool pdptes_valid(const Guest& g) {
  const bool pae = (g.cr0 & kCr0Pg) != 0 && (g.cr4 & kCr4Pae) != 0 && !g.long_guest();
  if (!pae) return true;
  constexpr std::uint64_t kReservedBits = 0x1e6 | ~0ull << kPhysicalBits;
  for (unsigned i = 0; i < 4; ++i) {
    const std::uint64_t entry = g.vmcs.get(nth(Field::kGuestPdpte, i));
    if ((entry & 1) != 0 && (entry & kReservedBits) != 0) return false;
  }
  return true;
}

}  // namespace

const char* wrong_controls(const Vmcs& vmcs, const Capabilities& offered) {
  const std::uint32_t pin = vmcs.get32(Field::kPinControls);
  const std::uint32_t primary = vmcs.get32(Field::kPrimaryControls);
  const bool has_secondary = (primary & kSecondaryActive) != 0;
  const std::uint32_t secondary = has_secondary ? vmcs.get32(Field::kSecondaryControls) : 0;
  if (!within(pin, offered.pin)) return "pin-based controls";
  if (!within(primary, offered.primary)) return "primary processor-based controls";
  if (has_secondary && !within(secondary, offered.secondary)) return "secondary controls";
  if (!within(vmcs.get32(Field::kExitControls), offered.exit)) return "exit controls";
  if (!within(vmcs.get32(Field::kEntryControls), offered.entry)) return "entry controls";
  if (vmcs.get32(Field::kCr3TargetCount) > 4) return "more than four CR3 targets";
  if ((pin & kNmiExiting) == 0 && (pin & kVirtualNmis) != 0) return "virtual NMIs alone";
  if ((pin & kVirtualNmis) == 0 && (primary & kNmiWindowExiting) != 0)
    return "NMI windows without virtual NMIs";
  if ((secondary & kUnrestrictedGuest) != 0 && (secondary & kEpt) == 0)
    return "an unrestricted guest without EPT";
  return wrong_event(vmcs);
}

WrongState wrong_state(const Vmcs& vmcs, const Capabilities& offered) {
  const Guest g{vmcs};
  if (const char* what = wrong_registers(g, offered)) return {what};
  if (const char* what = g.v86() ? wrong_v86(g) : wrong_segments(g)) return {what};
  for (const auto check : {wrong_system_segments, wrong_bases, wrong_tables, wrong_rip_and_flags,
                           wrong_activity, wrong_interruptibility, wrong_pending_debug})
    if (const char* what = check(g)) return {what};
  constexpr std::uint64_t kPdpteLoading = 2, kLinkPointer = 4;
  if (vmcs.get(Field::kLinkPointer) != ~0ull) return {"the link pointer", kLinkPointer};
  if (!pdptes_valid(g)) return {"a page-directory pointer", kPdpteLoading};
  return {};
}

}  // namespace hv::sim

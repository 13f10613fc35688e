// The vCPU's state from and to CpuState.
#include <cstring>

#include "accel/hvf/vcpu.h"

namespace hv::hvf {
namespace {

// By CpuState's numbers, which are those of instructions.
constexpr hv_x86_reg_t kGeneral[16] = {
    HV_X86_RAX, HV_X86_RCX, HV_X86_RDX, HV_X86_RBX, HV_X86_RSP, HV_X86_RBP, HV_X86_RSI, HV_X86_RDI,
    HV_X86_R8,  HV_X86_R9,  HV_X86_R10, HV_X86_R11, HV_X86_R12, HV_X86_R13, HV_X86_R14, HV_X86_R15};
constexpr unsigned kStackPointer = 4;
constexpr hv_x86_reg_t kDebug[4] = {HV_X86_DR0, HV_X86_DR1, HV_X86_DR2, HV_X86_DR3};

struct InVmcs {
  Field field;
  std::uint64_t CpuState::*at;
};
constexpr InVmcs kPlain[] = {
    {Field::kGuestRip, &CpuState::rip},
    {Field::kGuestRflags, &CpuState::rflags},
    {Field::kGuestCr3, &CpuState::cr3},
    {Field::kGuestDr7, &CpuState::dr7},
    {Field::kGuestEfer, &CpuState::efer},
    {Field::kGuestSysenterCs, &CpuState::sysenter_cs},
    {Field::kGuestSysenterEsp, &CpuState::sysenter_esp},
    {Field::kGuestSysenterEip, &CpuState::sysenter_eip},
};

struct InRegister {
  hv_x86_reg_t reg;
  std::uint64_t CpuState::*at;
};
constexpr InRegister kRegisters[] = {
    {HV_X86_CR2, &CpuState::cr2}, {HV_X86_DR6, &CpuState::dr6}, {HV_X86_XCR0, &CpuState::xcr0}};

struct InMsr {
  std::uint32_t index;
  std::uint64_t CpuState::*at;
};
constexpr InMsr kMsrs[] = {
    {0xc000'0081, &CpuState::star},  {0xc000'0082, &CpuState::lstar},
    {0xc000'0083, &CpuState::cstar}, {0xc000'0084, &CpuState::fmask},
    {0xc000'0102, &CpuState::kernel_gs_base}};
constexpr InMsr kTscAux{0xc000'0103, &CpuState::tsc_aux};

// CR0.CD and NW: the host's caches stay on whatever the guest's kernel says of its own.
constexpr std::uint64_t kCacheControl = 3u << 29;
constexpr std::uint64_t kPaging = 1ull << 31, kPae = 1u << 5, kLongModeActive = 1u << 10;
constexpr std::uint64_t kTrapFlag = 1u << 8;

std::uint64_t held_cr0(const Controls& controls, std::uint64_t cr0) {
  return (((cr0 & ~kCacheControl) | controls.cr0_must) & controls.cr0_may);
}
std::uint64_t held_cr4(const Controls& controls, std::uint64_t cr4) {
  return (cr4 | controls.cr4_must) & controls.cr4_may;
}
// What the guest reads: its own bits from the register, the others from the shadow.
std::uint64_t shown(std::uint64_t held, std::uint64_t shadow, std::uint64_t mask) {
  return (held & ~mask) | (shadow & mask);
}

bool pae_paging(const CpuState& s) {
  return (s.cr0 & kPaging) != 0 && (s.cr4 & kPae) != 0 && (s.efer & kLongModeActive) == 0;
}

Segment read_segment(const Handle& handle, unsigned n) {
  return {.base = handle.read(nth(Field::kGuestBase, n)),
          .limit = static_cast<std::uint32_t>(handle.read(nth(Field::kGuestLimit, n))),
          .access = static_cast<std::uint32_t>(handle.read(nth(Field::kGuestAccess, n))),
          .selector = static_cast<std::uint16_t>(handle.read(nth(Field::kGuestSelector, n)))};
}

void write_segment(Handle& handle, unsigned n, const Segment& now, const Segment* before) {
  if (before != nullptr && *before == now) return;
  handle.write(nth(Field::kGuestSelector, n), now.selector);
  handle.write(nth(Field::kGuestLimit, n), now.limit);
  handle.write(nth(Field::kGuestAccess, n), now.access);
  handle.write(nth(Field::kGuestBase, n), now.base);
}

}  // namespace

CpuState HvfVcpu::state() const {
  CpuState s = kept_;
  if (!handle_.failed()) read_state(s);
  return s;
}

void HvfVcpu::set_state(const CpuState& s) {
  event_ = {};
  write_state(s, nullptr);
  if (s.accepted_interrupt != 0)
    event_ = Event::of(EventType::kExternal, static_cast<std::uint8_t>(s.accepted_interrupt));
  handle_.invalidate_tlb();
}

void HvfVcpu::read_state(CpuState& s) const {
  for (unsigned i = 0; i < 16; ++i)
    s.gpr[i] = i == kStackPointer ? handle_.read(Field::kGuestRsp) : handle_.get(kGeneral[i]);
  for (const InVmcs& one : kPlain) s.*one.at = handle_.read(one.field);
  for (const InRegister& one : kRegisters) s.*one.at = handle_.get(one.reg);
  for (const InMsr& one : kMsrs) s.*one.at = handle_.msr(one.index);
  if (has_tsc_aux_) s.*kTscAux.at = handle_.msr(kTscAux.index);
  if (controls_.pat()) s.pat = handle_.read(Field::kGuestPat);
  for (unsigned i = 0; i < kSegCount; ++i) s.segments[i] = read_segment(handle_, i);
  s.ldtr = read_segment(handle_, kLdtrNumber);
  s.tr = read_segment(handle_, kTrNumber);
  s.gdtr = {handle_.read(Field::kGuestGdtrBase),
            static_cast<std::uint16_t>(handle_.read(Field::kGuestGdtrLimit))};
  s.idtr = {handle_.read(Field::kGuestIdtrBase),
            static_cast<std::uint16_t>(handle_.read(Field::kGuestIdtrLimit))};
  s.cr0 = shown(handle_.read(Field::kGuestCr0), handle_.read(Field::kCr0Shadow), cr0_mask());
  s.cr4 = shown(handle_.read(Field::kGuestCr4), handle_.read(Field::kCr4Shadow), cr4_mask());
  if (pae_paging(s))
    for (unsigned i = 0; i < 4; ++i) s.pdpte[i] = handle_.read(nth(Field::kGuestPdpte, i));
  for (unsigned i = 0; i < 4; ++i) s.dr[i] = handle_.get(kDebug[i]);
  XsaveArea fpu;
  handle_.read_fpu(fpu);
  get_fpu(fpu, s);
  read_events(s);
}

void HvfVcpu::read_events(CpuState& s) const {
  const std::uint64_t blocked = handle_.read(Field::kGuestInterruptibility);
  s.interrupt_shadow = (blocked & (kBlockedBySti | kBlockedByMovSs)) != 0;
  s.shadow_blocks_debug = (blocked & kBlockedByMovSs) != 0;
  s.nmi_blocked = (blocked & kBlockedByNmi) != 0;
  s.pending_debug = handle_.read(Field::kGuestPendingDebug) & kPendingBreakpoints;
  s.accepted_interrupt = 0;
  if (!event_) return;
  if (event_.type() == EventType::kExternal)
    s.accepted_interrupt = static_cast<std::uint16_t>(0x100u | event_.vector());
  if (event_.type() == EventType::kException && event_.vector() == 1)
    s.pending_debug |= s.dr6 & 0xe00f;
}

void HvfVcpu::write_state(const CpuState& s, const CpuState* before) {
  const bool adjusted = before == nullptr || s.tsc_adjust != before->tsc_adjust;
  kept_ = s;
  kept_.accepted_interrupt = 0;
  for (unsigned i = 0; i < 16; ++i) {
    if (before != nullptr && s.gpr[i] == before->gpr[i]) continue;
    if (i == kStackPointer)
      handle_.write(Field::kGuestRsp, s.gpr[i]);
    else
      handle_.set(kGeneral[i], s.gpr[i]);
  }
  for (const InVmcs& one : kPlain)
    if (before == nullptr || s.*one.at != before->*one.at) handle_.write(one.field, s.*one.at);
  for (const InRegister& one : kRegisters)
    if (before == nullptr || s.*one.at != before->*one.at) handle_.set(one.reg, s.*one.at);
  write_segments(s, before);
  write_modes(s, before);
  write_msrs(s, before);
  write_events(s);
  for (unsigned i = 0; i < 4; ++i)
    if (before == nullptr || s.dr[i] != before->dr[i]) handle_.set(kDebug[i], s.dr[i]);
  if (adjusted) handle_.write(Field::kTscOffset, tsc_offset_ + s.tsc_adjust);
  if (before != nullptr && s.fpu == before->fpu) return;
  XsaveArea fpu;
  put_fpu(s, fpu);
  handle_.write_fpu(fpu);
}

void HvfVcpu::write_segments(const CpuState& s, const CpuState* before) {
  for (unsigned i = 0; i < kSegCount; ++i)
    write_segment(handle_, i, s.segments[i], before == nullptr ? nullptr : &before->segments[i]);
  write_segment(handle_, kLdtrNumber, s.ldtr, before == nullptr ? nullptr : &before->ldtr);
  write_segment(handle_, kTrNumber, s.tr, before == nullptr ? nullptr : &before->tr);
  if (before != nullptr && s.gdtr == before->gdtr && s.idtr == before->idtr) return;
  handle_.write(Field::kGuestGdtrBase, s.gdtr.base);
  handle_.write(Field::kGuestGdtrLimit, s.gdtr.limit);
  handle_.write(Field::kGuestIdtrBase, s.idtr.base);
  handle_.write(Field::kGuestIdtrLimit, s.idtr.limit);
}

// CR0, CR4 and what follows from them and EFER: the kind of guest that VM entry is told of, and
// PAE paging's page-directory pointers, which it takes from the VMCS.
void HvfVcpu::write_modes(const CpuState& s, const CpuState* before) {
  if (before == nullptr || s.cr0 != before->cr0) {
    handle_.write(Field::kGuestCr0, held_cr0(controls_, s.cr0));
    handle_.write(Field::kCr0Shadow, s.cr0);
  }
  if (before == nullptr || s.cr4 != before->cr4) {
    handle_.write(Field::kGuestCr4, held_cr4(controls_, s.cr4));
    handle_.write(Field::kCr4Shadow, s.cr4);
  }
  if (before == nullptr || s.efer != before->efer) {
    const bool long_mode = (s.efer & kLongModeActive) != 0;
    handle_.write(Field::kEntryControls,
                  (controls_.entry & ~kIa32eGuest) | (long_mode ? kIa32eGuest : 0u));
  }
  if (!pae_paging(s)) return;
  for (unsigned i = 0; i < 4; ++i) handle_.write(nth(Field::kGuestPdpte, i), s.pdpte[i]);
}

void HvfVcpu::write_msrs(const CpuState& s, const CpuState* before) {
  const auto put = [&](const InMsr& one) {
    if (before == nullptr || s.*one.at != before->*one.at) handle_.set_msr(one.index, s.*one.at);
  };
  for (const InMsr& one : kMsrs) put(one);
  if (has_tsc_aux_) put(kTscAux);
  if (controls_.pat() && (before == nullptr || s.pat != before->pat))
    handle_.write(Field::kGuestPat, s.pat);
}

// SDM Vol. 3, "Guest Non-Register State".
void HvfVcpu::write_events(const CpuState& s) {
  std::uint64_t blocked = s.nmi_blocked ? kBlockedByNmi : 0u;
  if (s.interrupt_shadow) blocked |= s.shadow_blocks_debug ? kBlockedByMovSs : kBlockedBySti;
  std::uint64_t pending = s.pending_debug & kPendingBreakpoints;
  if (pending != 0) pending |= kPendingEnabled;
  // A single step that the shadow holds back.
  if (s.interrupt_shadow && (s.rflags & kTrapFlag) != 0) pending |= kPendingStep;
  handle_.write(Field::kGuestInterruptibility, blocked);
  handle_.write(Field::kGuestPendingDebug, pending);
  handle_.write(Field::kGuestActivity, 0);
}

}  // namespace hv::hvf

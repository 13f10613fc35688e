// The guest-state area: what VM entry loads and VM exit saves (SDM Vol. 3, "Loading Guest State",
// "Saving Guest State").
#include "softcpu/system_ops.h"
#include "virtual_cpu.h"

namespace hv::sim {

using namespace hvf;

namespace {

constexpr std::uint64_t kVmxe = 1u << 13;  // of CR4; the software CPU itself offers no VMX
constexpr std::uint64_t kDr6Fixed = 0xf;

struct Plain {
  Field field;
  std::uint64_t CpuState::*at;
};
constexpr Plain kMsrs[] = {{Field::kGuestSysenterCs, &CpuState::sysenter_cs},
                           {Field::kGuestSysenterEsp, &CpuState::sysenter_esp},
                           {Field::kGuestSysenterEip, &CpuState::sysenter_eip}};

// True: it changed.
template <class T, class U>
bool take(T& into, const U& value) {
  const auto now = static_cast<T>(value);
  if (into == now) return false;
  into = now;
  return true;
}

Segment segment(const Vmcs& vmcs, unsigned n) {
  return {.base = vmcs.get(nth(Field::kGuestBase, n)),
          .limit = vmcs.get32(nth(Field::kGuestLimit, n)),
          .access = vmcs.get32(nth(Field::kGuestAccess, n)),
          .selector = static_cast<std::uint16_t>(vmcs.get(nth(Field::kGuestSelector, n)))};
}

void put_segment(Vmcs& vmcs, unsigned n, const Segment& s) {
  vmcs.put(nth(Field::kGuestBase, n), s.base);
  vmcs.put(nth(Field::kGuestLimit, n), s.limit);
  vmcs.put(nth(Field::kGuestAccess, n), s.access);
  vmcs.put(nth(Field::kGuestSelector, n), s.selector);
}

bool pae_paging(const softcpu::Cpu& cpu) {
  return (cpu.cr0 & softcpu::kCr0Pg) != 0 && (cpu.cr4 & softcpu::kCr4Pae) != 0 &&
         !cpu.long_mode();
}

}  // namespace

void VirtualCpu::load_guest() {
  const bool modes = load_modes();
  load_segments();
  cpu.gpr[softcpu::kRip] = vmcs.get(Field::kGuestRip);
  cpu.gpr[softcpu::kRsp] = vmcs.get(Field::kGuestRsp);
  if (cpu.rflags() != vmcs.get(Field::kGuestRflags)) cpu.set_rflags(vmcs.get(Field::kGuestRflags));
  for (const Plain& msr : kMsrs) cpu.slow.*msr.at = vmcs.get(msr.field);
  if ((vmcs.get32(Field::kEntryControls) & kLoadPat) != 0)
    cpu.slow.pat = vmcs.get(Field::kGuestPat);
  if ((vmcs.get32(Field::kEntryControls) & kLoadDebugControls) != 0 &&
      take(cpu.dr7, vmcs.get(Field::kGuestDr7)))
    cpu.flush_tlb(false);  // pages with breakpoints have no entries
  if (modes) cpu.mode_changed();
  for (unsigned n = 0; n < kSegCount; ++n) cpu.update_window(n);
  load_events();
  if (space_version_ == space_.version()) return;
  space_version_ = space_.version();
  cpu.flush_tlb(false);
}

bool VirtualCpu::load_modes() {
  bool changed = take(cpu.cr0, vmcs.get(Field::kGuestCr0));
  changed |= take(cpu.cr4, vmcs.get(Field::kGuestCr4) & ~kVmxe);
  if ((vmcs.get32(Field::kEntryControls) & kLoadEfer) != 0)
    changed |= take(cpu.efer, vmcs.get(Field::kGuestEfer));
  if (take(cpu.cr3, vmcs.get(Field::kGuestCr3))) {
    const bool tagged = (cpu.cr4 & softcpu::kCr4Pcide) != 0;
    const std::uint64_t pcid = tagged ? cpu.cr3 & 0xfff : 0;
    cpu.tlb.switch_context(static_cast<std::uint16_t>(pcid), true);
    cpu.flush_jump_cache();
  }
  if (pae_paging(cpu))
    for (unsigned n = 0; n < 4; ++n) cpu.pdpte[n] = vmcs.get(nth(Field::kGuestPdpte, n));
  return changed;
}

void VirtualCpu::load_segments() {
  bool changed = false;
  for (unsigned n = 0; n < kSegCount; ++n) changed |= take(cpu.segments[n], segment(vmcs, n));
  cpu.ldtr = segment(vmcs, kLdtrNumber);
  cpu.tr = segment(vmcs, kTrNumber);
  cpu.gdtr = {vmcs.get(Field::kGuestGdtrBase),
              static_cast<std::uint16_t>(vmcs.get(Field::kGuestGdtrLimit))};
  cpu.idtr = {vmcs.get(Field::kGuestIdtrBase),
              static_cast<std::uint16_t>(vmcs.get(Field::kGuestIdtrLimit))};
  if (changed) cpu.mode_changed();
}

// A debug exception that nothing holds back comes before the first instruction; the software CPU
// knows only those that MOV SS holds.
void VirtualCpu::load_events() {
  const std::uint32_t blocked = vmcs.get32(Field::kGuestInterruptibility);
  cpu.slow.interrupt_shadow = (blocked & (kBlockedBySti | kBlockedByMovSs)) != 0;
  cpu.slow.shadow_blocks_debug = (blocked & kBlockedByMovSs) != 0;
  cpu.slow.nmi_blocked = (blocked & kBlockedByNmi) != 0;
  const std::uint32_t activity = vmcs.get32(Field::kGuestActivity);
  cpu.slow.activity = activity == 1 ? Activity::kHalted : Activity::kRunning;
  const std::uint64_t pending = vmcs.get(Field::kGuestPendingDebug);
  cpu.slow.pending_debug = 0;
  if ((pending & (kPendingEnabled | kPendingStep)) == 0) return;
  const std::uint64_t hits = pending & (kPendingBreakpoints | kPendingStep);
  if (cpu.slow.interrupt_shadow) {
    cpu.slow.pending_debug = hits & kPendingBreakpoints;
    return;
  }
  if ((vmcs.get32(Field::kEntryEvent) & kEventValid) != 0) return;
  cpu.dr6 = (cpu.dr6 & ~kDr6Fixed) | hits;
  cpu.inject({1, softcpu::Cpu::Source::kException, false, 0});
}

void VirtualCpu::save_guest() {
  save_segments();
  vmcs.put(Field::kGuestCr0, cpu.cr0);
  vmcs.put(Field::kGuestCr3, cpu.cr3);
  vmcs.put(Field::kGuestCr4, cpu.cr4 | kVmxe);
  vmcs.put(Field::kGuestRip, cpu.gpr[softcpu::kRip]);
  vmcs.put(Field::kGuestRsp, cpu.gpr[softcpu::kRsp]);
  vmcs.put(Field::kGuestRflags, cpu.rflags());
  for (const Plain& msr : kMsrs) vmcs.put(msr.field, cpu.slow.*msr.at);
  const std::uint32_t exits = vmcs.get32(Field::kExitControls);
  if ((exits & kSavePat) != 0) vmcs.put(Field::kGuestPat, cpu.slow.pat);
  if ((exits & kSaveEfer) != 0) vmcs.put(Field::kGuestEfer, cpu.efer);
  if ((exits & kSaveDebugControls) != 0) vmcs.put(Field::kGuestDr7, cpu.dr7);
  // With "unrestricted guest" the guest may have entered or left IA-32e mode.
  if (secondary(kUnrestrictedGuest)) {
    const std::uint32_t entry = vmcs.get32(Field::kEntryControls) & ~std::uint32_t{kIa32eGuest};
    vmcs.put(Field::kEntryControls, entry | (cpu.long_mode() ? kIa32eGuest : 0u));
  }
  if (pae_paging(cpu))
    for (unsigned n = 0; n < 4; ++n) vmcs.put(nth(Field::kGuestPdpte, n), cpu.pdpte[n]);
  std::uint32_t blocked = cpu.slow.nmi_blocked ? kBlockedByNmi : 0u;
  if (cpu.slow.interrupt_shadow)
    blocked |= cpu.slow.shadow_blocks_debug ? kBlockedByMovSs : kBlockedBySti;
  vmcs.put(Field::kGuestInterruptibility, blocked);
  vmcs.put(Field::kGuestActivity, cpu.slow.activity == Activity::kHalted ? 1 : 0);
  std::uint64_t pending = cpu.slow.pending_debug & kPendingBreakpoints;
  if (pending != 0) pending |= kPendingEnabled;
  if (cpu.slow.interrupt_shadow && (cpu.rflags() & softcpu::kTf) != 0) pending |= kPendingStep;
  vmcs.put(Field::kGuestPendingDebug, pending);
}

void VirtualCpu::save_segments() {
  for (unsigned n = 0; n < kSegCount; ++n) put_segment(vmcs, n, cpu.segments[n]);
  put_segment(vmcs, kLdtrNumber, cpu.ldtr);
  put_segment(vmcs, kTrNumber, cpu.tr);
  vmcs.put(Field::kGuestGdtrBase, cpu.gdtr.base);
  vmcs.put(Field::kGuestGdtrLimit, cpu.gdtr.limit);
  vmcs.put(Field::kGuestIdtrBase, cpu.idtr.base);
  vmcs.put(Field::kGuestIdtrLimit, cpu.idtr.limit);
}

}  // namespace hv::sim

// SDM Vol. 3, "IA-32 and Intel 64 Processor States Following Power-up, Reset, or INIT".
#include "accel/cpu_state.h"

namespace hv {

namespace {

// Access rights as Segment holds them: present, DPL 0, and the type.
constexpr std::uint32_t kCodeSegment = 0x9b;  // execute/read, accessed
constexpr std::uint32_t kDataSegment = 0x93;  // read/write, accessed
constexpr std::uint32_t kLdt = 0x82, kBusyTss = 0x8b;
constexpr std::uint64_t kCacheBits = 0x6000'0000;  // CR0.CD and CR0.NW
constexpr std::uint64_t kResetCr0 = 0x10;          // CR0.ET is hardwired
constexpr std::uint64_t kFamilyModelStepping = 0x000806f8;  // in EDX; CPUID leaf 1 says the same

Segment real_mode_segment(std::uint16_t selector, std::uint64_t base, std::uint32_t access) {
  return {.base = base, .limit = 0xffff, .access = access, .selector = selector};
}

// What power-up and INIT have in common.
void set_common(CpuState& s, bool bootstrap_processor) {
  s.gpr = {};
  s.gpr[2] = kFamilyModelStepping;
  s.rip = 0xfff0;
  s.rflags = 2;
  s.segments.fill(real_mode_segment(0, 0, kDataSegment));
  s.segments[kCs] = real_mode_segment(0xf000, 0xffff'0000, kCodeSegment);
  s.ldtr = real_mode_segment(0, 0, kLdt);
  s.tr = real_mode_segment(0, 0, kBusyTss);
  s.gdtr = s.idtr = {.base = 0, .limit = 0xffff};
  s.cr2 = s.cr3 = s.cr4 = 0;
  s.pdpte = {};
  s.dr = {};
  s.dr6 = 0xffff'0ff0;
  s.dr7 = 0x400;
  s.efer = 0;
  s.activity = bootstrap_processor ? Activity::kRunning : Activity::kWaitForSipi;
  s.interrupt_shadow = s.shadow_blocks_debug = s.nmi_blocked = false;
  s.accepted_interrupt = 0;
  s.pending_debug = 0;
}

}  // namespace

CpuState reset_state(bool bootstrap_processor) {
  CpuState s;
  set_common(s, bootstrap_processor);
  s.cr0 = kCacheBits | kResetCr0;
  // After power-up, before any FNINIT.
  s.fpu.control = 0x40;
  s.fpu.tags = 0x5555;
  s.misc_enable = 1;  // fast string operations
  return s;
}

void apply_init(CpuState& s, bool bootstrap_processor) {
  const std::uint64_t cache = s.cr0 & kCacheBits;
  set_common(s, bootstrap_processor);
  s.cr0 = cache | kResetCr0;
}

void apply_sipi(CpuState& s, std::uint8_t vector) {
  s.segments[kCs] = real_mode_segment(static_cast<std::uint16_t>(vector << 8),
                                      std::uint64_t{vector} << 12, kCodeSegment);
  s.rip = 0;
  s.activity = Activity::kRunning;
}

}  // namespace hv

#include "accel/kvm/state.h"

#include <cstring>

namespace hv::kvm {
namespace {

// kvm_regs lists the registers in the alphabet's order, CpuState in that of their encoding.
struct Named {
  unsigned number;
  __u64 kvm_regs::*at;
};
constexpr Named kGeneral[] = {
    {0, &kvm_regs::rax},  {1, &kvm_regs::rcx},  {2, &kvm_regs::rdx},  {3, &kvm_regs::rbx},
    {4, &kvm_regs::rsp},  {5, &kvm_regs::rbp},  {6, &kvm_regs::rsi},  {7, &kvm_regs::rdi},
    {8, &kvm_regs::r8},   {9, &kvm_regs::r9},   {10, &kvm_regs::r10}, {11, &kvm_regs::r11},
    {12, &kvm_regs::r12}, {13, &kvm_regs::r13}, {14, &kvm_regs::r14}, {15, &kvm_regs::r15},
};

constexpr std::uint32_t kUnusable = 1u << 16;

std::uint8_t bits(std::uint32_t access, unsigned low, unsigned count) {
  return static_cast<std::uint8_t>(access >> low & ((1u << count) - 1));
}

kvm_segment to_kvm(const Segment& s) {
  kvm_segment out{};
  out.base = s.base;
  out.limit = s.limit;
  out.selector = s.selector;
  out.unusable = (s.access & kUnusable) != 0;
  out.type = bits(s.access, 0, 4);
  out.s = bits(s.access, 4, 1);
  out.dpl = bits(s.access, 5, 2);
  out.present = bits(s.access, 7, 1);
  out.avl = bits(s.access, 12, 1);
  out.l = bits(s.access, 13, 1);
  out.db = bits(s.access, 14, 1);
  out.g = bits(s.access, 15, 1);
  return out;
}

Segment from_kvm(const kvm_segment& s) {
  Segment out;
  out.base = s.base;
  out.limit = s.limit;
  out.selector = s.selector;
  out.access = s.type | s.s * (1u << 4) | s.dpl * (1u << 5) | s.present * (1u << 7) |
               s.avl * (1u << 12) | s.l * (1u << 13) | s.db * (1u << 14) | s.g * (1u << 15);
  if (s.unusable != 0 || s.present == 0) out.access |= kUnusable;
  return out;
}

struct NamedSegment {
  SegIndex number;
  kvm_segment kvm_sregs::*at;
};
constexpr NamedSegment kSegments[] = {{kEs, &kvm_sregs::es}, {kCs, &kvm_sregs::cs},
                                      {kSs, &kvm_sregs::ss}, {kDs, &kvm_sregs::ds},
                                      {kFs, &kvm_sregs::fs}, {kGs, &kvm_sregs::gs}};

struct NamedControl {
  std::uint64_t CpuState::*ours;
  __u64 kvm_sregs::*kernels;
};
constexpr NamedControl kControl[] = {{&CpuState::cr0, &kvm_sregs::cr0},
                                     {&CpuState::cr2, &kvm_sregs::cr2},
                                     {&CpuState::cr3, &kvm_sregs::cr3},
                                     {&CpuState::cr4, &kvm_sregs::cr4},
                                     {&CpuState::efer, &kvm_sregs::efer}};

}  // namespace

void put_registers(const CpuState& s, kvm_regs& out) {
  for (const Named& r : kGeneral) out.*r.at = s.gpr[r.number];
  out.rip = s.rip;
  out.rflags = s.rflags;
}

void get_registers(const kvm_regs& in, CpuState& s) {
  for (const Named& r : kGeneral) s.gpr[r.number] = in.*r.at;
  s.rip = in.rip;
  s.rflags = in.rflags;
}

void put_system(const CpuState& s, kvm_sregs& out) {
  for (const NamedSegment& r : kSegments) out.*r.at = to_kvm(s.segments[r.number]);
  out.ldt = to_kvm(s.ldtr);
  out.tr = to_kvm(s.tr);
  out.gdt.base = s.gdtr.base;
  out.gdt.limit = s.gdtr.limit;
  out.idt.base = s.idtr.base;
  out.idt.limit = s.idtr.limit;
  for (const NamedControl& r : kControl) out.*r.kernels = s.*r.ours;
  std::memset(out.interrupt_bitmap, 0, sizeof out.interrupt_bitmap);
}

void get_system(const kvm_sregs& in, CpuState& s) {
  for (const NamedSegment& r : kSegments) s.segments[r.number] = from_kvm(in.*r.at);
  s.ldtr = from_kvm(in.ldt);
  s.tr = from_kvm(in.tr);
  s.gdtr = {in.gdt.base, in.gdt.limit};
  s.idtr = {in.idt.base, in.idt.limit};
  for (const NamedControl& r : kControl) s.*r.ours = in.*r.kernels;
}

void put_debug(const CpuState& s, kvm_debugregs& out) {
  out = {};
  for (unsigned i = 0; i < 4; ++i) out.db[i] = s.dr[i];
  out.dr6 = s.dr6 | s.pending_debug;
  out.dr7 = s.dr7;
}

void get_debug(const kvm_debugregs& in, CpuState& s) {
  for (unsigned i = 0; i < 4; ++i) s.dr[i] = in.db[i];
  s.dr6 = in.dr6;
  s.dr7 = in.dr7;
}

void put_events(const CpuState& s, kvm_vcpu_events& out) {
  out = {};
  out.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
  if (s.accepted_interrupt != 0) {
    out.interrupt.injected = 1;
    out.interrupt.nr = static_cast<std::uint8_t>(s.accepted_interrupt);
  }
  if (s.interrupt_shadow)
    out.interrupt.shadow =
        s.shadow_blocks_debug ? KVM_X86_SHADOW_INT_MOV_SS : KVM_X86_SHADOW_INT_STI;
  out.nmi.masked = s.nmi_blocked;
  if (s.pending_debug != 0) {  // DR6 has its bits once it is delivered
    out.exception.injected = 1;
    out.exception.nr = 1;
  }
}

void get_events(const kvm_vcpu_events& in, CpuState& s) {
  // A software interrupt's RIP is still at its INT, which runs again.
  const bool hardware = in.interrupt.injected != 0 && in.interrupt.soft == 0;
  s.accepted_interrupt =
      hardware ? static_cast<std::uint16_t>(0x100u | in.interrupt.nr) : std::uint16_t{0};
  s.interrupt_shadow = in.interrupt.shadow != 0;
  s.shadow_blocks_debug = (in.interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS) != 0;
  s.nmi_blocked = in.nmi.masked != 0 && in.nmi.injected == 0;
  s.pending_debug = 0;
  if (in.exception.injected != 0 && in.exception.nr == 1) s.pending_debug = s.dr6 & 0xe00f;
}

}  // namespace hv::kvm

#include "softcpu/cpu.h"

#include <algorithm>

#include "softcpu/block_cache.h"

namespace hv::softcpu {

Cpu::Cpu(const VcpuWiring& wiring, GuestMemory& ram, const TranslatorOptions& options)
    : index(wiring.index),
      vcpu_count(wiring.count),
      platform(wiring.platform),
      signals(wiring.signals),
      all_signals(wiring.all_signals),
      memory(ram),
      blocks(std::make_unique<BlockCache>()) {
  insn = &kBetween;
  choose_translator(options);
  set_state(reset_state(wiring.index == 0));
}

Cpu::~Cpu() = default;

void Cpu::choose_translator(const TranslatorOptions& options) {
  blocks->drop_all();
  translator_.reset();
  blocks->set_code_of_others(nullptr);
  translator_ = Translator::create(*this, options);
  translated.pending = signals.word();
}

CpuState Cpu::state() const {
  CpuState s = slow;
  std::copy_n(gpr, s.gpr.size(), s.gpr.begin());
  s.rip = gpr[kRip];
  s.rflags = rflags();
  std::copy_n(segments, s.segments.size(), s.segments.begin());
  s.ldtr = ldtr;
  s.tr = tr;
  s.gdtr = gdtr;
  s.idtr = idtr;
  s.cr0 = cr0;
  s.cr2 = cr2;
  s.cr3 = cr3;
  s.cr4 = cr4;
  std::copy_n(pdpte, s.pdpte.size(), s.pdpte.begin());
  s.xcr0 = xcr0;
  std::copy_n(dr, s.dr.size(), s.dr.begin());
  s.dr6 = dr6;
  s.dr7 = dr7;
  s.efer = efer;
  s.fpu = fpu;
  std::copy_n(sse.xmm, s.fpu.xmm.size(), s.fpu.xmm.begin());
  s.fpu.mxcsr = mxcsr;
  s.instructions = slow.instructions + count.instructions;
  return s;
}

void Cpu::set_state(const CpuState& s) {
  slow = s;
  slow.instructions = s.instructions - count.instructions;
  std::copy_n(s.gpr.begin(), s.gpr.size(), gpr);
  gpr[kNoRegister] = 0;
  gpr[kRip] = s.rip;
  std::copy_n(s.segments.begin(), s.segments.size(), segments);
  ldtr = s.ldtr;
  tr = s.tr;
  gdtr = s.gdtr;
  idtr = s.idtr;
  cr0 = s.cr0;
  cr2 = s.cr2;
  cr3 = s.cr3;
  cr4 = s.cr4;
  std::copy_n(s.pdpte.begin(), s.pdpte.size(), pdpte);
  xcr0 = s.xcr0;
  std::copy_n(s.dr.begin(), s.dr.size(), dr);
  dr6 = s.dr6;
  dr7 = s.dr7;
  efer = s.efer;
  fpu = s.fpu;
  std::copy_n(s.fpu.xmm.begin(), s.fpu.xmm.size(), sse.xmm);
  mxcsr = s.fpu.mxcsr;
  set_rflags(s.rflags);
  mode_changed();
  for (unsigned segment = 0; segment < kSegCount; ++segment) update_window(segment);
  flush_tlb(false);
  flush_jump_cache();
}

VcpuCounters Cpu::counters() const { return count.snapshot(); }

}  // namespace hv::softcpu

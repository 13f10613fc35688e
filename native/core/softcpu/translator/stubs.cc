#include "softcpu/translator/stubs.h"

#include "softcpu/cpu.h"
#include "softcpu/opcodes.h"
#include "softcpu/translator/block_translator.h"
#include "softcpu/translator/host.h"

#if HV_TRANSLATOR
namespace hv::softcpu::translator {

namespace {

std::int32_t offset_in(const Cpu& cpu, const void* member) {
  const auto* const base = reinterpret_cast<const std::uint8_t*>(&cpu.gpr[0]) + kBaseBias;
  return static_cast<std::int32_t>(static_cast<const std::uint8_t*>(member) - base);
}

void run_site(Cpu& cpu) {
  const Site& site = *cpu.translated.site;
  cpu.insn = site.insn;
  cpu.gpr[kRip] = site.next_rip;
  site.insn->run(cpu, *site.insn);
}
void run_site_with_flags(Cpu& cpu) {
  const Insn& insn = *cpu.translated.site->insn;
  cpu.settle_flags();
  run_site(cpu);
  if (family(insn.op) == Family::kX87 && wants_fpu(insn)) load_fpu(cpu);
  cpu.take_flags_along();
}
void run_site_for_mode(Cpu& cpu) {
  cpu.settle_flags();
  run_site(cpu);
  cpu.follow_mode();
  cpu.take_flags_along();
}

class Builder {
 public:
  Builder(Assembler& out, Cpu& cpu) : out_(out), cpu_(cpu) {}

  void spill() {
    for (unsigned n = 0; n < 16; ++n)
      if (pinned(n)) out_.mov(k64, home(n), kHome[n]);
  }
  void load() {
    for (unsigned n = 0; n < 16; ++n)
      if (pinned(n)) out_.mov(k64, kHome[n], home(n));
  }
  void enter() {
    for (const Host reg : kSaved) out_.push(reg);
    adjust_stack(Alu::kSub);
    out_.mov(kCpuBase, Host::kRdi);
    out_.mov(kScratch, Host::kRsi);
    load();
    out_.jmp(Rm::reg(kScratch));
  }
  // CR0.EM and CR0.TS clear, CR4.OSFXSR set: else the handlers raise what is due.
  void load_xmm() {
    const Rm here = member(&cpu_.translated.xmm_here);
    out_.test_imm(k8, here, kXmmHere);
    const Fixup already = out_.jcc(kNz);
    out_.test_imm(k8, member(&cpu_.cr0), 0xc);
    const Fixup trapped = out_.jcc(kNz);
    out_.test_imm(k32, member(&cpu_.cr4), 1u << 9);
    const Fixup unknown = out_.jcc(kZ);
    for (unsigned n = 0; n < 16; ++n)
      out_.sse(0, Map::k0F, 0x28, n, member(&cpu_.sse.xmm[n]));  // MOVAPS
    out_.sse(0, Map::k0F, 0xae, 2, member(&cpu_.mxcsr));         // LDMXCSR
    constexpr std::uint32_t kAllMasked = 0x1f80;
    out_.mov(k32, kScratch, member(&cpu_.mxcsr));
    out_.alu_imm(Alu::kAnd, k32, Rm::reg(kScratch), kAllMasked);
    out_.alu_imm(Alu::kCmp, k32, Rm::reg(kScratch), kAllMasked);
    out_.setcc(kZ, Rm::reg(kScratch));
    out_.movzx(k32, kScratch, Rm::reg(kScratch), k8);
    out_.lea(k32, kScratch, Rm::scaled(kScratch, 1, kXmmHere));
    static_assert(kFloatHere == 2 * kXmmHere);
    out_.mov(k8, here, kScratch);
    for (const Fixup skip : {already, trapped, unknown}) out_.bind(skip);
    out_.ret();
  }
  void save_xmm() {
    for (unsigned n = 0; n < 16; ++n)
      out_.sse(0, Map::k0F, 0x29, n, member(&cpu_.sse.xmm[n]));
    out_.sse(0, Map::k0F, 0xae, 3, member(&cpu_.mxcsr));  // STMXCSR
    out_.sse(0, Map::k0F, 0xae, 2, member(&cpu_.translated.host_mxcsr));
    out_.mov_imm(k8, member(&cpu_.translated.xmm_here), 0);
  }
  Fixup jump_unless_xmm_here() {
    out_.test_imm(k8, member(&cpu_.translated.xmm_here), kXmmHere);
    return out_.jcc(kZ);
  }
  void leave() {
    const Fixup none = jump_unless_xmm_here();
    save_xmm();
    out_.bind(none);
    spill();
    adjust_stack(Alu::kAdd);
    for (unsigned i = 6; i-- > 0;) out_.pop(kSaved[i]);
    out_.ret();
  }
  void handler(void (*function)(Cpu&), const std::uint8_t* load_xmm) {
    out_.mov(k64, member(&cpu_.translated.site), kScratch2);
    spill();
    const Fixup none = jump_unless_xmm_here();
    save_xmm();
    call(function);
    load();
    Assembler::bind(out_.jmp(), load_xmm);
    out_.bind(none);
    call(function);
    load();
    out_.ret();
  }

 private:
  static constexpr Host kSaved[6] = {Host::kRbx, Host::kRbp, Host::kR12,
                                     Host::kR13, Host::kR14, Host::kR15};
  Rm member(const void* at) const { return Rm::at(kCpuBase, offset_in(cpu_, at)); }
  Rm home(unsigned guest) const { return member(&cpu_.gpr[guest]); }
  void call(void (*function)(Cpu&)) {
    adjust_stack(Alu::kSub);
    out_.load_imm(Host::kRdi, reinterpret_cast<std::uintptr_t>(&cpu_));
    out_.load_imm(kScratch, reinterpret_cast<std::uintptr_t>(function));
    out_.call(Rm::reg(kScratch));
    adjust_stack(Alu::kAdd);
  }
  // The stack is aligned to 16 bytes where blocks run and where functions are called.
  void adjust_stack(Alu how) { out_.alu_imm(how, k64, Rm::reg(Host::kRsp), 8); }

  Assembler& out_;
  Cpu& cpu_;
};

}  // namespace

void Stubs::build(CodeCache& cache, Cpu& cpu) {
  Assembler out{cache.begin(), cache.end()};
  Builder builder{out, cpu};
  enter = reinterpret_cast<void* (*)(void*, const std::uint8_t*)>(
      reinterpret_cast<std::uintptr_t>(cache.executable(out.here())));
  builder.enter();
  out.align(16);
  leave_at_rip = out.here();
  out.load_imm(kScratch, 0);
  leave = out.here();
  builder.leave();
  out.align(16);
  load_xmm = out.here();
  builder.load_xmm();
  out.align(16);
  handler = out.here();
  builder.handler(run_site, load_xmm);
  out.align(16);
  handler_with_flags = out.here();
  builder.handler(run_site_with_flags, load_xmm);
  out.align(16);
  handler_for_mode = out.here();
  builder.handler(run_site_for_mode, load_xmm);
  out.align(64);
  cache.take(out.here());
}

}  // namespace hv::softcpu::translator
#endif

#include "softcpu/translator/stubs.h"

#include "softcpu/cpu.h"
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
  cpu.settle_flags();
  run_site(cpu);
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
  void leave() {
    spill();
    adjust_stack(Alu::kAdd);
    for (unsigned i = 6; i-- > 0;) out_.pop(kSaved[i]);
    out_.ret();
  }
  void handler(void (*function)(Cpu&)) {
    out_.mov(k64, Rm::at(kCpuBase, offset_in(cpu_, &cpu_.translated.site)), kScratch2);
    spill();
    adjust_stack(Alu::kSub);
    out_.load_imm(Host::kRdi, reinterpret_cast<std::uintptr_t>(&cpu_));
    out_.load_imm(kScratch, reinterpret_cast<std::uintptr_t>(function));
    out_.call(Rm::reg(kScratch));
    adjust_stack(Alu::kAdd);
    load();
    out_.ret();
  }

 private:
  static constexpr Host kSaved[6] = {Host::kRbx, Host::kRbp, Host::kR12,
                                     Host::kR13, Host::kR14, Host::kR15};
  Rm home(unsigned guest) const { return Rm::at(kCpuBase, offset_in(cpu_, &cpu_.gpr[guest])); }
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
  handler = out.here();
  builder.handler(run_site);
  out.align(16);
  handler_with_flags = out.here();
  builder.handler(run_site_with_flags);
  out.align(64);
  cache.take(out.here());
}

}  // namespace hv::softcpu::translator
#endif

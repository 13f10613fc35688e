// MSRs, clocks, fast system calls and what else is left of the system family: SDM Vol. 2, the
// entries of the instructions.
#include <array>
#include <span>
#include <utility>

#include "base/entropy.h"
#include "softcpu/opcodes.h"
#include "softcpu/system_ops.h"

namespace hv::softcpu {

namespace {

void rdmsr(Cpu& cpu, const Insn&) {
  require_cpl0(cpu);
  std::uint64_t value = 0;
  if (!read_msr(cpu, cpu.reg<std::uint32_t>(kRcx), value)) cpu.protection_fault();
  cpu.gpr[kRax] = value & 0xffff'ffff;
  cpu.gpr[kRdx] = value >> 32;
}

void wrmsr(Cpu& cpu, const Insn&) {
  require_cpl0(cpu);
  const std::uint64_t value =
      cpu.reg<std::uint32_t>(kRax) | std::uint64_t{cpu.reg<std::uint32_t>(kRdx)} << 32;
  if (!write_msr(cpu, cpu.reg<std::uint32_t>(kRcx), value)) cpu.protection_fault();
}

void rdtsc(Cpu& cpu, const Insn& i) {
  if ((cpu.cr4 & kCr4Tsd) != 0 && cpu.cpl != 0) cpu.protection_fault();
  const std::uint64_t now = cpu.guest_tsc();
  cpu.gpr[kRax] = now & 0xffff'ffff;
  cpu.gpr[kRdx] = now >> 32;
  if (i.op == Op::kRdtscp) cpu.gpr[kRcx] = cpu.slow.tsc_aux & 0xffff'ffff;
}

// There are no counters to read.
void rdpmc(Cpu& cpu, const Insn&) { cpu.protection_fault(); }

void run_cpuid(Cpu& cpu, const Insn&) { cpuid(cpu); }

// ---- fast system calls ----------------------------------------------------------------------------

constexpr std::uint32_t kFlatLimit = 0xffff'ffff;
constexpr std::uint32_t kCode64 = 0xa09b, kCode32 = 0xc09b, kData = 0xc093;

void set_flat(Cpu& cpu, std::uint32_t cs, std::uint32_t ss, std::uint32_t code, unsigned cpl) {
  const std::uint32_t dpl = cpl << 5;
  cpu.segments[kCs] = {0, kFlatLimit, code | dpl, static_cast<std::uint16_t>(cs)};
  cpu.segments[kSs] = {0, kFlatLimit, kData | dpl, static_cast<std::uint16_t>(ss)};
}

void syscall(Cpu& cpu, const Insn&) {
  if (!cpu.long64 || (cpu.efer & kEferSce) == 0) cpu.raise(Vector::kUd);
  const auto selector = static_cast<std::uint32_t>(cpu.slow.star >> 32) & 0xfffc;
  const std::uint64_t image = cpu.rflags() & ~std::uint64_t{kRf};
  cpu.gpr[kRcx] = cpu.gpr[kRip];
  cpu.gpr[kR11] = image;
  cpu.gpr[kRip] = cpu.slow.lstar;
  set_flat(cpu, selector, selector + 8, kCode64, 0);
  cpu.set_rflags(image & ~cpu.slow.fmask);
  if ((cpu.system_flags & kTf) == 0) cpu.system.stepping = false;
  cpu.mode_changed();
}

void sysret(Cpu& cpu, const Insn& i) {
  if (!cpu.long64 || (cpu.efer & kEferSce) == 0) cpu.raise(Vector::kUd);
  require_cpl0(cpu);
  const bool to64 = i.size == k64;
  if (to64 && !canonical(cpu.gpr[kRcx])) cpu.protection_fault();
  const auto base = static_cast<std::uint32_t>(cpu.slow.star >> 48);
  const std::uint32_t cs = (base + (to64 ? 16 : 0)) | 3;
  cpu.gpr[kRip] = to64 ? cpu.gpr[kRcx] : cpu.gpr[kRcx] & 0xffff'ffff;
  set_flat(cpu, cs, (base + 8) | 3, to64 ? kCode64 : kCode32, 3);
  cpu.set_rflags(cpu.gpr[kR11] & 0x3c7fd7);
  cpu.mode_changed();
}

void sysenter(Cpu& cpu, const Insn&) {
  const auto selector = static_cast<std::uint32_t>(cpu.slow.sysenter_cs) & 0xfffc;
  if (!cpu.protected_mode() || selector == 0) cpu.protection_fault();
  const std::uint64_t mask = cpu.long_mode() ? ~0ull : 0xffff'ffff;
  cpu.gpr[kRsp] = cpu.slow.sysenter_esp & mask;
  cpu.gpr[kRip] = cpu.slow.sysenter_eip & mask;
  set_flat(cpu, selector, selector + 8, cpu.long_mode() ? kCode64 : kCode32, 0);
  cpu.set_rflags(cpu.rflags() & ~std::uint64_t{kVm | kIf | kRf});
  cpu.mode_changed();
}

void sysexit(Cpu& cpu, const Insn& i) {
  const auto base = static_cast<std::uint32_t>(cpu.slow.sysenter_cs) & 0xfffc;
  if (!cpu.protected_mode() || base == 0) cpu.protection_fault();
  require_cpl0(cpu);
  const bool to64 = i.size == k64;
  const std::uint64_t mask = to64 ? ~0ull : 0xffff'ffff;
  const std::uint64_t rip = cpu.gpr[kRdx] & mask, rsp = cpu.gpr[kRcx] & mask;
  if (to64 && !(canonical(rip) && canonical(rsp))) cpu.protection_fault();
  const std::uint32_t cs = (base + (to64 ? 32 : 16)) | 3;
  cpu.gpr[kRsp] = rsp;
  cpu.gpr[kRip] = rip;
  set_flat(cpu, cs, cs + 8, to64 ? kCode64 : kCode32, 3);
  cpu.mode_changed();
}

void swapgs(Cpu& cpu, const Insn&) {
  require_cpl0(cpu);
  std::swap(cpu.segments[kGs].base, cpu.slow.kernel_gs_base);
  cpu.update_window(kGs);
}

void move_base(Cpu& cpu, const Insn& i) {
  if ((cpu.cr4 & kCr4Fsgsbase) == 0) cpu.raise(Vector::kUd);
  const bool fs = i.op == Op::kRdfsbase || i.op == Op::kWrfsbase;
  const bool reads = i.op == Op::kRdfsbase || i.op == Op::kRdgsbase;
  Segment& s = cpu.segments[fs ? kFs : kGs];
  const std::uint64_t mask = i.size == k64 ? ~0ull : 0xffff'ffff;
  if (reads) {
    cpu.gpr[i.rm] = s.base & mask;
    return;
  }
  const std::uint64_t base = cpu.gpr[i.rm] & mask;
  if (!canonical(base)) cpu.protection_fault();
  s.base = base;
  cpu.update_window(fs ? kFs : kGs);
}

// ---- the rest -------------------------------------------------------------------------------------

void hlt(Cpu& cpu, const Insn&) {
  require_cpl0(cpu);
  add_count(cpu.count.halts);
  cpu.halt();
}

// INVD, WBINVD, WBNOINVD: memory is always coherent here.
void flush_caches(Cpu& cpu, const Insn&) { require_cpl0(cpu); }

std::uint64_t random_word() {
  static thread_local std::array<std::uint64_t, 32> pool;
  static thread_local std::size_t left = 0;
  if (left == 0) {
    if (!hv::host::entropy(std::as_writable_bytes(std::span{pool}))) return 0;
    left = pool.size();
  }
  return std::exchange(pool[--left], 0);
}

void rdrand(Cpu& cpu, const Insn& i) {
  const std::uint64_t value = random_word();
  if (i.size == k16)
    cpu.set_reg<std::uint16_t>(i.rm, static_cast<std::uint16_t>(value));
  else if (i.size == k32)
    cpu.set_reg<std::uint32_t>(i.rm, static_cast<std::uint32_t>(value));
  else
    cpu.set_reg<std::uint64_t>(i.rm, value);
  cpu.flags.set(kCf);
}

}  // namespace

Handler bind_privileged_ops(const Insn& insn) {
  switch (insn.op) {
    case Op::kRdmsr: return rdmsr;
    case Op::kWrmsr: return wrmsr;
    case Op::kRdtsc: case Op::kRdtscp: return rdtsc;
    case Op::kRdpmc: return rdpmc;
    case Op::kCpuid: return run_cpuid;
    case Op::kSyscall: return syscall;
    case Op::kSysret: return sysret;
    case Op::kSysenter: return sysenter;
    case Op::kSysexit: return sysexit;
    case Op::kSwapgs: return swapgs;
    case Op::kRdfsbase: case Op::kRdgsbase: case Op::kWrfsbase: case Op::kWrgsbase:
      return move_base;
    case Op::kHlt: return hlt;
    case Op::kInvd: case Op::kWbinvd: return flush_caches;
    case Op::kRdrand: case Op::kRdseed: return rdrand;
    default: return nullptr;
  }
}

Handler bind_system(const Insn& insn) {
  for (const auto binder : {bind_control_ops, bind_segment_ops, bind_far_ops, bind_privileged_ops,
                            bind_io_ops})
    if (const Handler handler = binder(insn)) return handler;
  return nullptr;
}

}  // namespace hv::softcpu

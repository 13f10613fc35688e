// Control and debug registers, RFLAGS, and the instructions that flush translations: SDM Vol. 3,
// "Control Registers"; Vol. 2 for the instructions.
#include "softcpu/block_cache.h"
#include "softcpu/system_ops.h"

namespace hv::softcpu {

namespace {

constexpr std::uint64_t kCr0Known = kCr0Pe | kCr0Mp | kCr0Em | kCr0Ts | kCr0Et | kCr0Ne | kCr0Wp |
                                    kCr0Am | kCr0Nw | kCr0Cd | kCr0Pg;
// What CPUID offers; the rest is reserved.
constexpr std::uint64_t kCr4Known =
    kCr4Tsd | kCr4De | kCr4Pse | kCr4Pae | kCr4Mce | kCr4Pge | kCr4Pce | kCr4Osfxsr |
    kCr4Osxmmexcpt | kCr4Umip | kCr4Fsgsbase | kCr4Pcide | kCr4Smep | kCr4Smap;
constexpr std::uint64_t kNoFlush = 1ull << 63;  // in a value for CR3

bool pae_paging(std::uint64_t cr0, std::uint64_t cr4, std::uint64_t efer) {
  return (cr0 & kCr0Pg) != 0 && (cr4 & kCr4Pae) != 0 && (efer & kEferLma) == 0;
}

// SDM Vol. 3, "PDPTE Registers": loaded with CR3, and #GP(0) where a present one has reserved bits.
bool load_pdptes(Cpu& cpu, std::uint64_t cr3) {
  constexpr std::uint64_t kReserved = bits(63, kPhysicalBits) | bits(8, 5) | bits(2, 1);
  std::uint64_t fresh[4];
  for (unsigned i = 0; i < 4; ++i) {
    const Gpa at{((cr3 & 0xffff'ffe0) + 8 * i) & cpu.platform.a20_mask()};
    const std::uint8_t* host = cpu.memory.host(at);
    fresh[i] = host != nullptr ? access::load<std::uint64_t>(host)
                               : cpu.platform.read(cpu.index, at, 8);
    if ((fresh[i] & kPtePresent) != 0 && (fresh[i] & kReserved) != 0) return false;
  }
  for (unsigned i = 0; i < 4; ++i) cpu.pdpte[i] = fresh[i];
  return true;
}

// Entering or leaving paging changes EFER.LMA where LME is set. False: #GP(0).
bool switch_paging(Cpu& cpu, bool on, std::uint64_t& efer) {
  if (!on) {
    if (cpu.long64 || (cpu.cr4 & kCr4Pcide) != 0) return false;
    efer &= ~std::uint64_t{kEferLma};
  } else if ((efer & kEferLme) != 0) {
    const bool long_code = (cpu.segments[kCs].access & kLong) != 0;
    if ((cpu.cr4 & kCr4Pae) == 0 || long_code) return false;
    efer |= kEferLma;
  }
  return true;
}

std::uint16_t pcid_of(const Cpu& cpu) {
  return (cpu.cr4 & kCr4Pcide) != 0 ? static_cast<std::uint16_t>(cpu.cr3 & 0xfff) : std::uint16_t{0};
}

}  // namespace

bool Cpu::set_cr0(std::uint64_t value) {
  if (value >> 32 != 0) return false;
  value = (value & kCr0Known) | kCr0Et;
  const std::uint64_t changed = value ^ cr0;
  if ((value & kCr0Pg) != 0 && (value & kCr0Pe) == 0) return false;
  if ((value & kCr0Nw) != 0 && (value & kCr0Cd) == 0) return false;
  std::uint64_t next_efer = efer;
  if ((changed & kCr0Pg) != 0 && !switch_paging(*this, (value & kCr0Pg) != 0, next_efer))
    return false;
  constexpr std::uint64_t kReloads = kCr0Pg | kCr0Cd | kCr0Nw;
  if ((changed & kReloads) != 0 && pae_paging(value, cr4, next_efer) && !load_pdptes(*this, cr3))
    return false;
  settle_fpu();  // it is never in the host while CR0 traps it
  cr0 = value;
  efer = next_efer;
  if ((changed & (kCr0Pg | kCr0Wp | kCr0Pe)) != 0) flush_tlb(false);
  mode_changed();
  return true;
}

bool Cpu::set_cr3(std::uint64_t value) {
  const bool keep = (cr4 & kCr4Pcide) != 0 && (value & kNoFlush) != 0;
  if ((cr4 & kCr4Pcide) != 0) value &= ~kNoFlush;
  if (long_mode() && value >> kPhysicalBits != 0) return false;
  if (pae_paging(cr0, cr4, efer) && !load_pdptes(*this, value)) return false;
  cr3 = value;
  const bool flushed = tlb.switch_context(pcid_of(*this), keep);
  blocks->switch_context(tlb.context_number(), flushed);
  translated.jump_tag = blocks->tag(fetch_mode_);
  translated.forget_returns();
  return true;
}

bool Cpu::set_cr4(std::uint64_t value) {
  if ((value & ~kCr4Known) != 0) return false;
  const std::uint64_t changed = value ^ cr4;
  if (long_mode() && (value & kCr4Pae) == 0) return false;
  if ((changed & value & kCr4Pcide) != 0 && (!long_mode() || (cr3 & 0xfff) != 0)) return false;
  constexpr std::uint64_t kTranslates = kCr4Pse | kCr4Pae | kCr4Pge | kCr4Smep | kCr4Smap | kCr4Pcide;
  if ((changed & (kCr4Pae | kCr4Pse | kCr4Pge | kCr4Smep)) != 0 && pae_paging(cr0, value, efer) &&
      !load_pdptes(*this, cr3))
    return false;
  cr4 = value;
  if ((changed & kTranslates) != 0) flush_tlb(false);
  mode_changed();
  return true;
}

// ---- RFLAGS ---------------------------------------------------------------------------------------

void Cpu::set_rflags(std::uint64_t value) {
  constexpr std::uint64_t kKept = kTf | kIf | kDf | kIopl | kNt | kRf | kVm | kAc | kVif | kVip | kId;
  const std::uint64_t changed = (system_flags ^ value) & kKept;
  flags.set(value);
  system_flags = (value & kKept) | 2;
  if ((changed & kVm) != 0)
    mode_changed();
  else if ((changed & kAc) != 0)
    select_bank(*this);
}

void change_flags(Cpu& cpu, std::uint64_t value, std::uint64_t mask) {
  cpu.set_rflags((cpu.rflags() & ~mask) | (value & mask));
}

std::uint64_t poppable_flags(const Cpu& cpu, unsigned size) {
  std::uint64_t mask = kArith | kTf | kDf | kNt;
  if (size > 2) mask |= kAc | kId;
  if (cpu.cpl <= cpu.iopl()) mask |= kIf;
  if (cpu.cpl == 0) mask |= kIopl;
  return mask;
}

namespace {

void require_iopl_in_v86(Cpu& cpu) {
  if (cpu.virtual_8086() && cpu.iopl() != 3) cpu.protection_fault();
}

void pushf(Cpu& cpu, const Insn& i) {
  require_iopl_in_v86(cpu);
  const std::uint64_t image = cpu.rflags() & ~std::uint64_t{kVm | kRf};
  if (i.size == k16)
    cpu.push<std::uint16_t>(static_cast<std::uint16_t>(image));
  else if (i.size == k32)
    cpu.push<std::uint32_t>(static_cast<std::uint32_t>(image));
  else
    cpu.push<std::uint64_t>(image);
}

void popf(Cpu& cpu, const Insn& i) {
  require_iopl_in_v86(cpu);
  const std::uint64_t mask = poppable_flags(cpu, 1u << i.size);
  std::uint64_t image;
  if (i.size == k16)
    image = cpu.pop<std::uint16_t>();
  else if (i.size == k32)
    image = cpu.pop<std::uint32_t>();
  else
    image = cpu.pop<std::uint64_t>();
  change_flags(cpu, image & ~std::uint64_t{kRf}, i.size == k16 ? mask : mask | kRf);
}

void require_interrupt_rights(Cpu& cpu) {
  if (cpu.cpl > cpu.iopl()) cpu.protection_fault();
}

void cli(Cpu& cpu, const Insn&) {
  require_interrupt_rights(cpu);
  cpu.system_flags &= ~std::uint64_t{kIf};
}

void sti(Cpu& cpu, const Insn&) {
  require_interrupt_rights(cpu);
  if ((cpu.system_flags & kIf) != 0) return;
  cpu.system_flags |= kIf;
  cpu.shadow_interrupts(false);
}

void change_ac(Cpu& cpu, bool ac) {
  if (cpu.cpl != 0 || cpu.virtual_8086()) cpu.raise(Vector::kUd);
  cpu.system_flags = ac ? cpu.system_flags | kAc : cpu.system_flags & ~std::uint64_t{kAc};
  select_bank(cpu);
}
void stac(Cpu& cpu, const Insn&) { change_ac(cpu, true); }
void clac(Cpu& cpu, const Insn&) { change_ac(cpu, false); }

// ---- MOV CR, MOV DR -------------------------------------------------------------------------------

void set_natural(Cpu& cpu, unsigned reg, std::uint64_t value) {
  cpu.gpr[reg] = cpu.long64 ? value : value & 0xffff'ffff;
}
std::uint64_t natural(const Cpu& cpu, unsigned reg) {
  return cpu.long64 ? cpu.gpr[reg] : cpu.gpr[reg] & 0xffff'ffff;
}

// A register that does not exist is #UD before the privilege is looked at.
void check_cr(Cpu& cpu, const Insn& i) {
  constexpr unsigned kExisting = 1u << 0 | 1u << 2 | 1u << 3 | 1u << 4 | 1u << 8;
  if ((kExisting >> i.reg & 1) == 0) cpu.raise(Vector::kUd);
  require_cpl0(cpu);
}

void mov_from_cr(Cpu& cpu, const Insn& i) {
  check_cr(cpu, i);
  switch (i.reg) {
    case 0: return set_natural(cpu, i.rm, cpu.cr0);
    case 2: return set_natural(cpu, i.rm, cpu.cr2);
    case 3: return set_natural(cpu, i.rm, cpu.cr3);
    case 4: return set_natural(cpu, i.rm, cpu.cr4);
    default: return set_natural(cpu, i.rm, cpu.platform.cr8(cpu.index));
  }
}

bool write_cr(Cpu& cpu, unsigned number, std::uint64_t value) {
  switch (number) {
    case 0: return cpu.set_cr0(value);
    case 2: cpu.cr2 = value; return true;
    case 3: return cpu.set_cr3(value);
    case 4: return cpu.set_cr4(value);
    default:
      if (value > 15) return false;
      cpu.platform.set_cr8(cpu.index, static_cast<std::uint8_t>(value));
      return true;
  }
}

void mov_to_cr(Cpu& cpu, const Insn& i) {
  check_cr(cpu, i);
  if (!write_cr(cpu, i.reg, natural(cpu, i.rm))) cpu.protection_fault();
}

void check_dr(Cpu& cpu, const Insn& i) {
  const bool alias = i.reg == 4 || i.reg == 5;
  if (i.reg > 7) cpu.raise(Vector::kUd);
  require_cpl0(cpu);
  if (alias && (cpu.cr4 & kCr4De) != 0) cpu.raise(Vector::kUd);
  if (general_detect(cpu)) cpu.raise(Vector::kDb);
}

void mov_from_dr(Cpu& cpu, const Insn& i) {
  check_dr(cpu, i);
  set_natural(cpu, i.rm, read_debug_register(cpu, i.reg));
}

void mov_to_dr(Cpu& cpu, const Insn& i) {
  check_dr(cpu, i);
  if (!write_debug_register(cpu, i.reg, natural(cpu, i.rm))) cpu.protection_fault();
}

void clts(Cpu& cpu, const Insn&) {
  require_cpl0(cpu);
  cpu.cr0 &= ~std::uint64_t{kCr0Ts};
}

// ---- INVLPG, INVPCID ------------------------------------------------------------------------------

void invlpg(Cpu& cpu, const Insn& i) {
  require_cpl0(cpu);
  cpu.flush_page((cpu.windows[i.segment].base + cpu.effective_address(i)) & cpu.linear_mask);
}

void invpcid(Cpu& cpu, const Insn& i) {
  if (cpu.real_or_v86() && cpu.virtual_8086()) cpu.protection_fault();
  require_cpl0(cpu);
  const std::uint64_t type = natural(cpu, i.reg);
  const Xmm d = cpu.read<Xmm>(i.segment, cpu.effective_address(i));
  const std::uint64_t pcid = d.qword[0], address = d.qword[1];
  const bool named = type < 2;
  if (type > 3 || pcid >> 12 != 0) cpu.protection_fault();
  if (named && (cpu.cr4 & kCr4Pcide) == 0 && pcid != 0) cpu.protection_fault();
  if (type == 0 && !canonical(address)) cpu.protection_fault();
  switch (type) {
    case 0: return cpu.flush_page(address);
    case 1: cpu.tlb.flush_pcid(static_cast<std::uint16_t>(pcid)); return cpu.flush_jump_cache();
    case 2: return cpu.flush_tlb(false);
    default: return cpu.flush_tlb(true);
  }
}

}  // namespace

Handler bind_control_ops(const Insn& insn) {
  switch (insn.op) {
    case Op::kPushf: return pushf;
    case Op::kPopf: return popf;
    case Op::kCli: return cli;
    case Op::kSti: return sti;
    case Op::kStac: return stac;
    case Op::kClac: return clac;
    case Op::kMovRCr: return mov_from_cr;
    case Op::kMovCrR: return mov_to_cr;
    case Op::kMovRDr: return mov_from_dr;
    case Op::kMovDrR: return mov_to_dr;
    case Op::kClts: return clts;
    case Op::kInvlpg: return invlpg;
    case Op::kInvpcid: return invpcid;
    default: return nullptr;
  }
}

}  // namespace hv::softcpu

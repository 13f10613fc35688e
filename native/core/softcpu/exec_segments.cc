// Instructions on segment registers and descriptor tables: SDM Vol. 2, their entries.
#include "softcpu/system_ops.h"

namespace hv::softcpu {

namespace {

unsigned ordinal(Op op, Op first) {
  return static_cast<unsigned>(op) - static_cast<unsigned>(first);
}
unsigned segment_field(const Insn& i) { return i.modrm >> 3 & 7; }

// Writes a register of the operand's size, or 16 bits of memory: what SLDT, STR, SMSW and MOV from
// a segment register have in common.
void store_word(Cpu& cpu, const Insn& i, std::uint64_t value) {
  if (i.memory != 0)
    cpu.write<std::uint16_t>(i.segment, cpu.effective_address(i), static_cast<std::uint16_t>(value));
  else if (i.size == k16)
    cpu.set_reg<std::uint16_t>(i.rm, static_cast<std::uint16_t>(value));
  else if (i.size == k32)
    cpu.set_reg<std::uint32_t>(i.rm, static_cast<std::uint32_t>(value));
  else
    cpu.set_reg<std::uint64_t>(i.rm, value);
}

std::uint16_t load_word(Cpu& cpu, const Insn& i) {
  if (i.memory != 0) return cpu.read<std::uint16_t>(i.segment, cpu.effective_address(i));
  return cpu.reg<std::uint16_t>(i.rm);
}

void require_umip(Cpu& cpu) {
  if ((cpu.cr4 & kCr4Umip) != 0 && cpu.cpl != 0) cpu.protection_fault();
}
void require_selectors(Cpu& cpu) {
  if (cpu.real_or_v86()) cpu.raise(Vector::kUd);
}

// ---- segment registers ----------------------------------------------------------------------------

void mov_from_segment(Cpu& cpu, const Insn& i) {
  const unsigned which = segment_field(i);
  if (which >= kSegCount) cpu.raise(Vector::kUd);
  store_word(cpu, i, cpu.segments[which].selector);
}

void mov_to_segment(Cpu& cpu, const Insn& i) {
  const unsigned which = segment_field(i);
  if (which >= kSegCount || which == kCs) cpu.raise(Vector::kUd);
  cpu.load_segment(which, load_word(cpu, i));
  if (which == kSs) cpu.shadow_interrupts(true);
}

void push_segment(Cpu& cpu, const Insn& i) {
  const std::uint16_t selector = cpu.segments[ordinal(i.op, Op::kPushEs)].selector;
  if (i.size == k16)
    cpu.push<std::uint16_t>(selector);
  else if (i.size == k32)
    cpu.push<std::uint32_t>(selector);
  else
    cpu.push<std::uint64_t>(selector);
}

void pop_segment(Cpu& cpu, const Insn& i) {
  const unsigned which = ordinal(i.op, Op::kPopEs);
  const std::uint64_t mask = cpu.stack_mask();
  const std::uint64_t sp = cpu.gpr[kRsp];
  const std::uint64_t next = (sp & ~mask) | ((sp + (1ull << i.size)) & mask);
  cpu.load_segment(which, cpu.read<std::uint16_t>(kSs, sp & mask));
  cpu.gpr[kRsp] = next;
  if (which == kSs) cpu.shadow_interrupts(true);
}

void load_far(Cpu& cpu, const Insn& i) {
  const std::uint64_t at = cpu.effective_address(i);
  const unsigned bytes = 1u << i.size;
  std::uint64_t offset;
  if (bytes == 2)
    offset = cpu.read<std::uint16_t>(i.segment, at);
  else if (bytes == 4)
    offset = cpu.read<std::uint32_t>(i.segment, at);
  else
    offset = cpu.read<std::uint64_t>(i.segment, at);
  const std::uint64_t behind = (at + bytes) & kAddressMask[i.address];
  cpu.load_segment(ordinal(i.op, Op::kLes), cpu.read<std::uint16_t>(i.segment, behind));
  if (bytes == 2)
    cpu.set_reg<std::uint16_t>(i.reg, static_cast<std::uint16_t>(offset));
  else
    cpu.gpr[i.reg] = offset;
}

// ---- descriptor tables ----------------------------------------------------------------------------

void store_table(Cpu& cpu, const Insn& i, const TableRegister& table) {
  require_umip(cpu);
  const std::uint64_t at = cpu.effective_address(i);
  const std::uint64_t behind = (at + 2) & kAddressMask[i.address];
  cpu.probe_write(i.segment, at, 2);
  cpu.probe_write(i.segment, behind, cpu.long64 ? 8 : 4);
  cpu.write<std::uint16_t>(i.segment, at, table.limit);
  if (cpu.long64)
    cpu.write<std::uint64_t>(i.segment, behind, table.base);
  else
    cpu.write<std::uint32_t>(i.segment, behind, static_cast<std::uint32_t>(table.base));
}
void sgdt(Cpu& cpu, const Insn& i) { store_table(cpu, i, cpu.gdtr); }
void sidt(Cpu& cpu, const Insn& i) { store_table(cpu, i, cpu.idtr); }

TableRegister load_table(Cpu& cpu, const Insn& i) {
  require_cpl0(cpu);
  const std::uint64_t at = cpu.effective_address(i);
  const std::uint64_t behind = (at + 2) & kAddressMask[i.address];
  TableRegister table;
  table.limit = cpu.read<std::uint16_t>(i.segment, at);
  if (cpu.long64) {
    table.base = cpu.read<std::uint64_t>(i.segment, behind);
    if (!canonical(table.base)) cpu.protection_fault();
  } else {
    table.base = cpu.read<std::uint32_t>(i.segment, behind);
    if (i.size == k16) table.base &= 0xff'ffff;
  }
  return table;
}
void lgdt(Cpu& cpu, const Insn& i) { cpu.gdtr = load_table(cpu, i); }
void lidt(Cpu& cpu, const Insn& i) { cpu.idtr = load_table(cpu, i); }

void sldt(Cpu& cpu, const Insn& i) {
  require_selectors(cpu);
  require_umip(cpu);
  store_word(cpu, i, cpu.ldtr.selector);
}
void str(Cpu& cpu, const Insn& i) {
  require_selectors(cpu);
  require_umip(cpu);
  store_word(cpu, i, cpu.tr.selector);
}

// The descriptor that LLDT and LTR load: in the GDT, 16 bytes in long mode.
Found system_segment(Cpu& cpu, std::uint16_t selector) {
  const std::uint32_t named = selector & 0xfffcu;
  require(cpu, (selector & 4) == 0, Vector::kGp, named);
  const Found f = need_descriptor(cpu, selector, Vector::kGp, cpu.long_mode());
  require(cpu, f.d.system(), Vector::kGp, named);
  const bool wide_ok = (f.d.high >> 40 & 0x1f) == 0 && canonical(f.d.base());
  require(cpu, !cpu.long_mode() || wide_ok, Vector::kGp, named);
  return f;
}

void lldt(Cpu& cpu, const Insn& i) {
  require_selectors(cpu);
  require_cpl0(cpu);
  const std::uint16_t selector = load_word(cpu, i);
  if (null_selector(selector)) {
    cpu.ldtr = null_segment(selector);
    return;
  }
  const Found f = system_segment(cpu, selector);
  const std::uint32_t named = selector & 0xfffcu;
  require(cpu, f.d.system_type() == SystemType::kLdt, Vector::kGp, named);
  require(cpu, f.d.present(), Vector::kNp, named);
  cpu.ldtr = f.d.segment(selector);
}

void ltr(Cpu& cpu, const Insn& i) {
  require_selectors(cpu);
  require_cpl0(cpu);
  const std::uint16_t selector = load_word(cpu, i);
  require(cpu, !null_selector(selector), Vector::kGp, 0);
  const Found f = system_segment(cpu, selector);
  const std::uint32_t named = selector & 0xfffcu;
  const bool narrow = f.d.system_type() == SystemType::kTss16 && !cpu.long_mode();
  require(cpu, narrow || f.d.system_type() == SystemType::kTss32, Vector::kGp, named);
  require(cpu, f.d.present(), Vector::kNp, named);
  change_type(cpu, f.linear, 2, 0);
  cpu.tr = f.d.segment(selector);
  cpu.tr.access |= 2;
}

// ---- questions about descriptors ------------------------------------------------------------------

// System types by number that LAR and LSL answer for (SDM Vol. 2, their tables).
constexpr std::uint32_t kLarLegacy = 1u << 1 | 1u << 2 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 9 |
                                     1u << 11 | 1u << 12;
constexpr std::uint32_t kLarLong = 1u << 2 | 1u << 9 | 1u << 11 | 1u << 12;
constexpr std::uint32_t kLslLegacy = 1u << 1 | 1u << 2 | 1u << 3 | 1u << 9 | 1u << 11;
constexpr std::uint32_t kLslLong = 1u << 2 | 1u << 9 | 1u << 11;

// A descriptor that CPL and RPL may see; nullopt-like false else.
bool visible(Cpu& cpu, std::uint16_t selector, std::uint32_t system_types, Descriptor& d) {
  Found f;
  if (null_selector(selector) || !find_descriptor(cpu, selector, f)) return false;
  d = f.d;
  if (d.system() && (system_types >> d.type() & 1) == 0) return false;
  return d.conforming() || (cpu.cpl <= d.dpl() && (selector & 3u) <= d.dpl());
}

void set_result(Cpu& cpu, const Insn& i, std::uint32_t value) {
  if (i.size == k16)
    cpu.set_reg<std::uint16_t>(i.reg, static_cast<std::uint16_t>(value));
  else
    cpu.gpr[i.reg] = value;
}

void lar(Cpu& cpu, const Insn& i) {
  require_selectors(cpu);
  Descriptor d;
  const bool ok = visible(cpu, load_word(cpu, i), cpu.long_mode() ? kLarLong : kLarLegacy, d);
  if (ok) set_result(cpu, i, static_cast<std::uint32_t>(d.low >> 32) & 0xf0ff00);
  cpu.flags.set_zf(ok);
}

void lsl(Cpu& cpu, const Insn& i) {
  require_selectors(cpu);
  Descriptor d;
  const bool ok = visible(cpu, load_word(cpu, i), cpu.long_mode() ? kLslLong : kLslLegacy, d);
  if (ok) set_result(cpu, i, d.limit());
  cpu.flags.set_zf(ok);
}

void verify(Cpu& cpu, const Insn& i) {
  require_selectors(cpu);
  Descriptor d;
  const bool seen = visible(cpu, load_word(cpu, i), 0, d);
  cpu.flags.set_zf(seen && (i.op == Op::kVerr ? d.readable() : d.writable()));
}

void arpl(Cpu& cpu, const Insn& i) {
  require_selectors(cpu);
  const auto rpl = static_cast<std::uint16_t>(cpu.reg<std::uint16_t>(i.reg) & 3);
  const auto raised = [rpl](std::uint16_t v) {
    return (v & 3) < rpl ? static_cast<std::uint16_t>((v & ~3) | rpl) : v;
  };
  const std::uint16_t old = load_word(cpu, i);
  // Written only where it changes: an operand that may not be written does not fault otherwise.
  if (i.memory == 0)
    cpu.set_reg<std::uint16_t>(i.rm, raised(old));
  else if (raised(old) != old)
    cpu.write<std::uint16_t>(i.segment, cpu.effective_address(i), raised(old));
  cpu.flags.set_zf((old & 3) < rpl);
}

void smsw(Cpu& cpu, const Insn& i) {
  require_umip(cpu);
  store_word(cpu, i, cpu.cr0);
}

// May set PE, MP, EM and TS; PE it cannot clear.
void lmsw(Cpu& cpu, const Insn& i) {
  require_cpl0(cpu);
  const std::uint64_t low = load_word(cpu, i) & 0xf;
  const std::uint64_t kept = cpu.cr0 & ~0xeull;
  if (!cpu.set_cr0(kept | low)) cpu.protection_fault();
}

}  // namespace

Handler bind_segment_ops(const Insn& insn) {
  if (insn.op >= Op::kPushEs && insn.op <= Op::kPushGs) return push_segment;
  if (insn.op >= Op::kPopEs && insn.op <= Op::kPopGs) return pop_segment;
  if (insn.op >= Op::kLes && insn.op <= Op::kLgs) return load_far;
  switch (insn.op) {
    case Op::kMovRSreg: return mov_from_segment;
    case Op::kMovSregR: return mov_to_segment;
    case Op::kSgdt: return sgdt;
    case Op::kSidt: return sidt;
    case Op::kLgdt: return lgdt;
    case Op::kLidt: return lidt;
    case Op::kSldt: return sldt;
    case Op::kStr: return str;
    case Op::kLldt: return lldt;
    case Op::kLtr: return ltr;
    case Op::kLar: return lar;
    case Op::kLsl: return lsl;
    case Op::kVerr: case Op::kVerw: return verify;
    case Op::kArpl: return arpl;
    case Op::kSmsw: return smsw;
    case Op::kLmsw: return lmsw;
    default: return nullptr;
  }
}

}  // namespace hv::softcpu

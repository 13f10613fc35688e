// Which instructions and events leave the guest: SDM Vol. 3, "Instructions That Cause VM Exits",
// "Changes to Instruction Behavior in VMX Non-Root Operation", "Other Causes of VM Exits", and the
// tables of exit qualifications.
//
// Faults that the instruction itself raises come first, then the exit, then the instruction: what
// the order is for each is in "Relative Priority of Faults and VM Exits".
#include <array>
#include <cstring>

#include "softcpu/opcodes.h"
#include "softcpu/system_ops.h"
#include "virtual_cpu.h"

namespace hv::sim {

using namespace hvf;
using softcpu::Cpu;
using softcpu::Insn;
using softcpu::Op;
using softcpu::Vector;

namespace {

VirtualCpu& player(Cpu& cpu) { return static_cast<VirtualCpu&>(*cpu.overseer); }

std::uint64_t natural(const Cpu& cpu, unsigned reg) {
  return cpu.long64 ? cpu.gpr[reg] : cpu.gpr[reg] & 0xffff'ffff;
}
void set_natural(Cpu& cpu, unsigned reg, std::uint64_t value) {
  cpu.gpr[reg] = cpu.long64 ? value : value & 0xffff'ffff;
}
void original(Cpu& cpu, const Insn& i) { softcpu::bind(i)(cpu, i); }

// ---- instructions that leave for one control, if their privilege allows them at all -------------

struct Simple {
  Op op;
  Reason reason;
  std::uint32_t primary, secondary;  // either makes it exit; both 0: always
  bool privileged;
};
constexpr Simple kSimple[] = {
    {Op::kCpuid, Reason::kCpuid, 0, 0, false},
    {Op::kInvd, Reason::kInvd, 0, 0, true},
    {Op::kHlt, Reason::kHlt, kHltExiting, 0, true},
    {Op::kWbinvd, Reason::kWbinvd, 0, kWbinvdExiting, true},
    {Op::kRdrand, Reason::kRdrand, 0, kRdrandExiting, false},
    {Op::kRdseed, Reason::kRdseed, 0, kRdseedExiting, false},
    {Op::kSgdt, Reason::kGdtrIdtr, 0, kDescriptorTableExiting, false},
    {Op::kSidt, Reason::kGdtrIdtr, 0, kDescriptorTableExiting, false},
    {Op::kLgdt, Reason::kGdtrIdtr, 0, kDescriptorTableExiting, true},
    {Op::kLidt, Reason::kGdtrIdtr, 0, kDescriptorTableExiting, true},
    {Op::kSldt, Reason::kLdtrTr, 0, kDescriptorTableExiting, false},
    {Op::kStr, Reason::kLdtrTr, 0, kDescriptorTableExiting, false},
    {Op::kLldt, Reason::kLdtrTr, 0, kDescriptorTableExiting, true},
    {Op::kLtr, Reason::kLdtrTr, 0, kDescriptorTableExiting, true},
    {Op::kPause, Reason::kPause, kPauseExiting, 0, false},
};

void simple(Cpu& cpu, const Insn& i) {
  VirtualCpu& v = player(cpu);
  for (const Simple& row : kSimple) {
    if (row.op != i.op) continue;
    const bool always = (row.primary | row.secondary) == 0;
    const bool wanted = always || v.primary(row.primary) || v.secondary(row.secondary);
    if (wanted && !(row.privileged && cpu.cpl != 0)) v.exit(row.reason, 0, i.length);
  }
  original(cpu, i);
}

void invlpg(Cpu& cpu, const Insn& i) {
  VirtualCpu& v = player(cpu);
  if (cpu.cpl == 0 && v.primary(kInvlpgExiting))
    v.exit(Reason::kInvlpg,
           (cpu.windows[i.segment].base + cpu.effective_address(i)) & cpu.linear_mask, i.length);
  original(cpu, i);
}

void invpcid(Cpu& cpu, const Insn& i) {
  VirtualCpu& v = player(cpu);
  if (!v.secondary(kInvpcidEnabled)) cpu.raise(Vector::kUd);
  if (cpu.cpl == 0 && v.primary(kInvlpgExiting)) v.exit(Reason::kInvpcid, 0, i.length);
  original(cpu, i);
}

void rdtsc(Cpu& cpu, const Insn& i) {
  VirtualCpu& v = player(cpu);
  const bool with_aux = i.op == Op::kRdtscp;
  if (with_aux && !v.secondary(kRdtscpEnabled)) cpu.raise(Vector::kUd);
  const bool forbidden = (cpu.cr4 & softcpu::kCr4Tsd) != 0 && cpu.cpl != 0;
  if (!forbidden && v.primary(kRdtscExiting))
    v.exit(with_aux ? Reason::kRdtscp : Reason::kRdtsc, 0, i.length);
  original(cpu, i);
}

void rdpmc(Cpu& cpu, const Insn& i) {
  VirtualCpu& v = player(cpu);
  const bool allowed = cpu.cpl == 0 || (cpu.cr4 & softcpu::kCr4Pce) != 0;
  if (allowed && v.primary(kRdpmcExiting)) v.exit(Reason::kRdpmc, 0, i.length);
  original(cpu, i);
}

void access_msr(Cpu& cpu, const Insn& i) {
  VirtualCpu& v = player(cpu);
  const auto index = cpu.reg<std::uint32_t>(softcpu::kRcx);
  if (cpu.cpl == 0 && !v.gives(index))
    v.exit(i.op == Op::kRdmsr ? Reason::kRdmsr : Reason::kWrmsr, 0, i.length);
  original(cpu, i);
}

// ---- ports --------------------------------------------------------------------------------------

constexpr std::uint64_t kAddressMasks[] = {0xff, 0xffff, 0xffff'ffff, ~0ull};

// "Exit Qualification for I/O Instructions".
void access_port(Cpu& cpu, const Insn& i) {
  VirtualCpu& v = player(cpu);
  if (!v.primary(kUnconditionalIoExiting)) return original(cpu, i);
  const bool string = i.op == Op::kIns || i.op == Op::kOuts;
  const bool immediate = i.op == Op::kInI || i.op == Op::kOutI;
  const bool in = i.op == Op::kInI || i.op == Op::kInDx || i.op == Op::kIns;
  if (string && i.repeat != 0 && (cpu.gpr[softcpu::kRcx] & kAddressMasks[i.address]) == 0)
    return original(cpu, i);
  const unsigned bytes = i.size == softcpu::k8 ? 1 : i.size == softcpu::k16 ? 2 : 4;
  const auto port = immediate ? static_cast<std::uint16_t>(i.imm & 0xff)
                              : cpu.reg<std::uint16_t>(softcpu::kRdx);
  softcpu::require_port(cpu, port, bytes);
  std::uint64_t qualification = (bytes - 1) | std::uint64_t{port} << 16;
  if (in) qualification |= 1u << 3;
  if (string) qualification |= 1u << 4;
  if (string && i.repeat != 0) qualification |= 1u << 5;
  if (immediate) qualification |= 1u << 6;
  v.exit(Reason::kIo, qualification, i.length);
}

// ---- control and debug registers ----------------------------------------------------------------

constexpr std::uint64_t kVmxe = 1u << 13;

struct Masked {
  Field mask, shadow;
};
constexpr Masked kCr0Fields{Field::kCr0Mask, Field::kCr0Shadow};
constexpr Masked kCr4Fields{Field::kCr4Mask, Field::kCr4Shadow};

std::uint64_t shown(const VirtualCpu& v, const Masked& fields, std::uint64_t held) {
  const std::uint64_t mask = v.vmcs.get(fields.mask);
  return (held & ~mask) | (v.vmcs.get(fields.shadow) & mask);
}

// "Exit Qualification for Control-Register Accesses".
enum CrAccess : unsigned { kMovTo = 0, kMovFrom = 1, kClts = 2, kLmsw = 3 };
constexpr std::uint64_t cr_qualification(unsigned number, CrAccess access, unsigned reg) {
  return number | std::uint64_t{access} << 4 | std::uint64_t{reg} << 8;
}

// CR0 or CR4 by MOV: an exit where a bit of the host's would change, else the guest's bits.
bool set_masked(Cpu& cpu, const Insn& i, const Masked& fields, std::uint64_t held,
                std::uint64_t& value) {
  VirtualCpu& v = player(cpu);
  const std::uint64_t mask = v.vmcs.get(fields.mask), wanted = natural(cpu, i.rm);
  if (((wanted ^ v.vmcs.get(fields.shadow)) & mask) != 0)
    v.exit(Reason::kControlRegister, cr_qualification(i.reg, kMovTo, i.rm), i.length);
  value = (held & mask) | (wanted & ~mask);
  return true;
}

void mov_to_cr0(Cpu& cpu, const Insn& i) {
  std::uint64_t value = 0;
  set_masked(cpu, i, kCr0Fields, cpu.cr0, value);
  const bool fixed = (value & softcpu::kCr0Ne) != 0;
  if (!fixed || !cpu.set_cr0(value)) cpu.protection_fault();
}

void mov_to_cr4(Cpu& cpu, const Insn& i) {
  std::uint64_t value = 0;
  set_masked(cpu, i, kCr4Fields, cpu.cr4 | kVmxe, value);
  if ((value & kVmxe) == 0 || !cpu.set_cr4(value & ~kVmxe)) cpu.protection_fault();
}

void mov_to_cr(Cpu& cpu, const Insn& i) {
  VirtualCpu& v = player(cpu);
  if (cpu.cpl != 0) return original(cpu, i);
  if (i.reg == 0) return mov_to_cr0(cpu, i);
  if (i.reg == 4) return mov_to_cr4(cpu, i);
  if ((i.reg == 3 && v.primary(kCr3LoadExiting)) || (i.reg == 8 && v.primary(kCr8LoadExiting)))
    v.exit(Reason::kControlRegister, cr_qualification(i.reg, kMovTo, i.rm), i.length);
  original(cpu, i);
}

void mov_from_cr(Cpu& cpu, const Insn& i) {
  VirtualCpu& v = player(cpu);
  if (cpu.cpl != 0) return original(cpu, i);
  if (i.reg == 0) return set_natural(cpu, i.rm, shown(v, kCr0Fields, cpu.cr0));
  if (i.reg == 4) return set_natural(cpu, i.rm, shown(v, kCr4Fields, cpu.cr4 | kVmxe));
  if ((i.reg == 3 && v.primary(kCr3StoreExiting)) || (i.reg == 8 && v.primary(kCr8StoreExiting)))
    v.exit(Reason::kControlRegister, cr_qualification(i.reg, kMovFrom, i.rm), i.length);
  original(cpu, i);
}

void clts(Cpu& cpu, const Insn& i) {
  VirtualCpu& v = player(cpu);
  const bool owned = (v.vmcs.get(Field::kCr0Mask) & softcpu::kCr0Ts) != 0;
  if (cpu.cpl != 0 || !owned) return original(cpu, i);
  if ((v.vmcs.get(Field::kCr0Shadow) & softcpu::kCr0Ts) != 0)
    v.exit(Reason::kControlRegister, cr_qualification(0, kClts, 0), i.length);
}

// PE, MP, EM, TS; PE it can only set.
void lmsw(Cpu& cpu, const Insn& i) {
  if (cpu.cpl != 0) return original(cpu, i);
  VirtualCpu& v = player(cpu);
  const std::uint64_t address = i.memory != 0 ? cpu.effective_address(i) : 0;
  const auto wanted = i.memory != 0 ? cpu.read<std::uint16_t>(i.segment, address)
                                    : cpu.reg<std::uint16_t>(i.rm);
  const std::uint64_t mask = v.vmcs.get(Field::kCr0Mask), shadow = v.vmcs.get(Field::kCr0Shadow);
  const std::uint64_t differs = (wanted ^ shadow) & mask;
  const bool sets_pe = (differs & 1) != 0 && (wanted & 1) != 0;
  if (sets_pe || (differs & 0xe) != 0) {
    v.note_linear(i.memory != 0 ? cpu.windows[i.segment].base + address : 0);
    v.exit(Reason::kControlRegister,
           cr_qualification(0, kLmsw, 0) | (i.memory != 0 ? 1u << 6 : 0u) |
               std::uint64_t{wanted} << 16,
           i.length);
  }
  const std::uint64_t changeable = 0xf & ~mask;
  const std::uint64_t kept = cpu.cr0 & ~(changeable & 0xe);
  if (!cpu.set_cr0(kept | (wanted & changeable))) cpu.protection_fault();
}

void smsw(Cpu& cpu, const Insn& i) {
  if ((cpu.cr4 & softcpu::kCr4Umip) != 0 && cpu.cpl != 0) return original(cpu, i);
  const std::uint64_t value = shown(player(cpu), kCr0Fields, cpu.cr0);
  if (i.memory != 0)
    return cpu.write<std::uint16_t>(i.segment, cpu.effective_address(i),
                                    static_cast<std::uint16_t>(value));
  if (i.size == softcpu::k16) return cpu.set_reg(i.rm, static_cast<std::uint16_t>(value));
  cpu.gpr[i.rm] = i.size == softcpu::k64 ? value : value & 0xffff'ffff;
}

// "Exit Qualification for MOV DR". The faults of an alias under CR4.DE come first, that of DR7.GD
// after.
void mov_dr(Cpu& cpu, const Insn& i) {
  VirtualCpu& v = player(cpu);
  const bool alias = i.reg == 4 || i.reg == 5;
  const bool faults = cpu.cpl != 0 || i.reg > 7 || (alias && (cpu.cr4 & softcpu::kCr4De) != 0);
  const bool from = i.op == Op::kMovRDr;
  if (!faults && v.primary(kMovDrExiting))
    v.exit(Reason::kDebugRegister,
           i.reg | (from ? 1u << 4 : 0u) | std::uint64_t{i.rm} << 8, i.length);
  original(cpu, i);
}

// ---- exceptions by instruction, and what the decoder does not know ------------------------------

void software_exception(Cpu& cpu, const Insn& i) {
  VirtualCpu& v = player(cpu);
  struct Known {
    Op op;
    std::uint32_t vector;
    EventType type;
  };
  static constexpr Known kKnown[] = {{Op::kInt3, 3, EventType::kSoftwareException},
                                     {Op::kInto, 4, EventType::kSoftwareException},
                                     {Op::kInt1, 1, EventType::kPrivilegedException}};
  for (const Known& known : kKnown) {
    if (known.op != i.op || (known.op == Op::kInto && !cpu.flags.of())) continue;
    if ((v.vmcs.get(Field::kExceptionBitmap) >> known.vector & 1) == 0) continue;
    v.note_event(kEventValid | static_cast<std::uint32_t>(known.type) << kEventTypeShift |
                     known.vector,
                 0);
    v.exit(Reason::kException, 0, i.length);
  }
  original(cpu, i);
}

// 0F 01 /r of VMX, MONITOR and MWAIT, by their ModRM.
struct Unknown {
  std::uint8_t modrm;
  Reason reason;
  std::uint32_t control;  // 0: always
};
constexpr Unknown kUnknown[] = {
    {0xc1, Reason::kVmcall, 0},   {0xc2, Reason::kVmlaunch, 0}, {0xc3, Reason::kVmresume, 0},
    {0xc4, Reason::kVmxoff, 0},   {0xc8, Reason::kMonitor, kMonitorExiting},
    {0xc9, Reason::kMwait, kMwaitExiting},
};

std::uint8_t code_byte(Cpu& cpu, unsigned n) {
  const std::uint64_t base = cpu.long64 ? 0 : cpu.segments[kCs].base;
  const Gpa at = cpu.translate_fetch((base + cpu.instruction_start() + n) & cpu.linear_mask);
  const std::uint8_t* const host = cpu.memory.host(at);
  return host == nullptr ? 0xff : *host;
}

void unknown(Cpu& cpu, const Insn& i) {
  VirtualCpu& v = player(cpu);
  if (i.length >= 2 && code_byte(cpu, 0) == 0x0f && code_byte(cpu, 1) == 0x01) {
    const std::uint8_t modrm = code_byte(cpu, 2);
    for (const Unknown& row : kUnknown)
      if (row.modrm == modrm && cpu.cpl == 0 && (row.control == 0 || v.primary(row.control)))
        v.exit(row.reason, 0, 3);
  }
  original(cpu, i);
}

struct Binding {
  Op op;
  softcpu::Handler handler;
};
constexpr Binding kBindings[] = {
    {Op::kInvlpg, invlpg},        {Op::kInvpcid, invpcid},      {Op::kRdtsc, rdtsc},
    {Op::kRdtscp, rdtsc},         {Op::kRdpmc, rdpmc},          {Op::kRdmsr, access_msr},
    {Op::kWrmsr, access_msr},     {Op::kInI, access_port},      {Op::kInDx, access_port},
    {Op::kOutI, access_port},     {Op::kOutDx, access_port},    {Op::kIns, access_port},
    {Op::kOuts, access_port},     {Op::kMovCrR, mov_to_cr},     {Op::kMovRCr, mov_from_cr},
    {Op::kClts, clts},            {Op::kLmsw, lmsw},            {Op::kSmsw, smsw},
    {Op::kMovDrR, mov_dr},        {Op::kMovRDr, mov_dr},        {Op::kInt3, software_exception},
    {Op::kInto, software_exception}, {Op::kInt1, software_exception}, {Op::kInvalid, unknown},
};

using Table = std::array<softcpu::Handler, static_cast<std::size_t>(Op::kCount)>;

Table build_table() {
  Table table{};
  for (const Simple& row : kSimple) table[static_cast<std::size_t>(row.op)] = simple;
  for (const Binding& row : kBindings) table[static_cast<std::size_t>(row.op)] = row.handler;
  return table;
}

}  // namespace

softcpu::Handler VirtualCpu::bind(const Insn& insn, softcpu::Handler handler) {
  static const Table table = build_table();
  const softcpu::Handler intercepting = table[static_cast<std::size_t>(insn.op)];
  return intercepting != nullptr ? intercepting : handler;
}

// "Exit Qualification for EPT Violations".
void VirtualCpu::refuse(Cpu& on, Gpa at, std::uint64_t linear, softcpu::AccessKind kind,
                        bool walk) {
  constexpr std::uint64_t kLinearValid = 1u << 7, kTranslated = 1u << 8;
  left_.physical = raw(at);
  left_.linear = linear;
  std::uint64_t qualification = 1ull << static_cast<unsigned>(kind) | kLinearValid;
  qualification |= std::uint64_t{rights(at)} << 3;
  if (!walk) qualification |= kTranslated;
  // "Saving RIP, RSP, RFLAGS, and SSP": as a fault saves it.
  if (!on.system.in_delivery) on.system_flags |= softcpu::kRf;
  exit(Reason::kEptViolation, qualification);
}

// "Exceptions": the bitmap, and for page faults the error code's mask and match.
void VirtualCpu::before_exception(Cpu& on, const Cpu::Pending& pending) {
  bool wanted = (vmcs.get(Field::kExceptionBitmap) >> (pending.vector & 31) & 1) != 0;
  if (pending.vector == static_cast<std::uint8_t>(Vector::kPf)) {
    const bool equal = (pending.error & vmcs.get32(Field::kPageFaultMask)) ==
                       vmcs.get32(Field::kPageFaultMatch);
    wanted = wanted == equal;
  }
  if (!wanted) return;
  constexpr auto kException = static_cast<std::uint32_t>(EventType::kException);
  note_event(kEventValid | (pending.has_error ? kEventHasError : 0u) |
                 kException << kEventTypeShift | pending.vector,
             pending.error);
  std::uint64_t qualification = 0;
  if (pending.vector == static_cast<std::uint8_t>(Vector::kPf)) qualification = on.cr2;
  if (pending.vector == static_cast<std::uint8_t>(Vector::kDb)) qualification = on.dr6 & 0x600f;
  exit(Reason::kException, qualification);
}

void VirtualCpu::before_nmi(Cpu&) { exit(Reason::kNmiWindow); }

// "Exit Qualification for Task Switches".
void VirtualCpu::before_task_switch(Cpu& on, std::uint16_t selector, unsigned reason) {
  std::uint64_t source = 0;  // CALL
  switch (static_cast<softcpu::SwitchReason>(reason)) {
    case softcpu::SwitchReason::kCall: break;
    case softcpu::SwitchReason::kReturn: source = 1; break;
    case softcpu::SwitchReason::kJump: source = 2; break;
    case softcpu::SwitchReason::kGate: source = 3; break;
  }
  exit(Reason::kTaskSwitch, selector | source << 30, on.insn->length);
}

}  // namespace hv::sim

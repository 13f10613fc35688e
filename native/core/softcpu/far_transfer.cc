// JMP, CALL and RET between segments, and IRET: SDM Vol. 2, their entries; Vol. 3, "Privilege
// Levels". 8-, 16- and 32-bit names follow the operand size.
#include "softcpu/system_ops.h"

namespace hv::softcpu {

namespace {

constexpr unsigned bytes_of(std::uint8_t size) { return 1u << size; }
constexpr std::uint64_t cut(std::uint64_t value, unsigned bytes) {
  return bytes == 8 ? value : value & ((1ull << (8 * bytes)) - 1);
}

struct FarPointer {
  std::uint16_t selector = 0;
  std::uint64_t offset = 0;
};

FarPointer operand(Cpu& cpu, const Insn& i) {
  const unsigned bytes = bytes_of(i.size);
  if (i.memory == 0) return {static_cast<std::uint16_t>(i.disp), cut(i.imm, bytes)};
  const std::uint64_t at = cpu.effective_address(i);
  FarPointer p;
  const auto load = [&]<class T>(T) { return std::uint64_t{cpu.read<T>(i.segment, at)}; };
  p.offset = bytes == 2 ? load(std::uint16_t{}) : bytes == 4 ? load(std::uint32_t{})
                                                             : load(std::uint64_t{});
  p.selector = cpu.read<std::uint16_t>(i.segment, (at + bytes) & kAddressMask[i.address]);
  return p;
}

// The stack as RET and IRET read it: nothing moves before the last check.
class Popper {
 public:
  Popper(Cpu& cpu, unsigned bytes) : cpu_(cpu), bytes_(bytes), sp_(cpu.gpr[kRsp]) {}
  std::uint64_t pop() {
    const std::uint64_t at = sp_ & cpu_.stack_mask();
    sp_ += bytes_;
    if (bytes_ == 2) return cpu_.read<std::uint16_t>(kSs, at);
    if (bytes_ == 4) return cpu_.read<std::uint32_t>(kSs, at);
    return cpu_.read<std::uint64_t>(kSs, at);
  }
  void skip(std::uint64_t count) { sp_ += count; }
  void commit() {
    const std::uint64_t mask = cpu_.stack_mask();
    cpu_.gpr[kRsp] = (cpu_.gpr[kRsp] & ~mask) | (sp_ & mask);
  }

 private:
  Cpu& cpu_;
  const unsigned bytes_;
  std::uint64_t sp_;
};

// ---- to a code segment, by JMP and CALL -----------------------------------------------------------

void check_code(Cpu& cpu, const Descriptor& d, std::uint16_t selector, bool through_gate) {
  const std::uint32_t named = selector & 0xfffcu;
  const bool fits = d.conforming() ? d.dpl() <= cpu.cpl
                                   : d.dpl() == cpu.cpl && (through_gate || (selector & 3u) <= cpu.cpl);
  require(cpu, d.code() && fits, Vector::kGp, named);
  const bool ambiguous = cpu.long_mode() && d.long_code() && d.big();
  require(cpu, !ambiguous, Vector::kGp, named);
  require(cpu, d.present(), Vector::kNp, named);
}

void enter_code(Cpu& cpu, Found& code, std::uint16_t selector, std::uint64_t rip) {
  set_code(cpu, code, selector, cpu.cpl);
  cpu.gpr[kRip] = rip;
  cpu.mode_changed();
}

void push_return(Cpu& cpu, unsigned bytes) {
  NewStack stack{cpu, cpu.segments[kSs], cpu.gpr[kRsp], cpu.cpl, cpu.long64};
  stack.push(cpu.segments[kCs].selector, bytes);
  stack.push(cpu.gpr[kRip], bytes);
  cpu.gpr[kRsp] = stack.merged(cpu.gpr[kRsp]);
}

void direct(Cpu& cpu, Found code, const FarPointer& to, unsigned bytes, bool call) {
  check_code(cpu, code.d, to.selector, false);
  check_target(cpu, code.d, to.offset);
  touch_descriptor(cpu, code);
  if (call) push_return(cpu, bytes);
  enter_code(cpu, code, to.selector, to.offset);
}

void real_transfer(Cpu& cpu, const FarPointer& to, unsigned bytes, bool call) {
  require(cpu, to.offset <= cpu.segments[kCs].limit, Vector::kGp, 0);
  if (call) push_return(cpu, bytes);
  Segment& cs = cpu.segments[kCs];
  cs = cpu.virtual_8086() ? v86_segment(to.selector) : real_segment(cs, to.selector);
  cpu.gpr[kRip] = to.offset;
  cpu.mode_changed();
}

// ---- call gates -----------------------------------------------------------------------------------

// Reads the parameters of a call gate from the caller's stack, last one first as they are pushed.
std::uint32_t parameter(Cpu& cpu, unsigned index, unsigned bytes) {
  const std::uint64_t at = (cpu.gpr[kRsp] + index * bytes) & cpu.stack_mask();
  return bytes == 4 ? cpu.read<std::uint32_t>(kSs, at) : cpu.read<std::uint16_t>(kSs, at);
}

void inner_call(Cpu& cpu, const Descriptor& gate, Found& code, std::uint64_t rip, unsigned bytes) {
  const unsigned cpl = code.d.dpl();
  const bool wide = cpu.long_mode();
  StackPointer inner;
  Segment ss = null_stack_segment(cpl);
  if (wide) {
    inner.sp = tss64_stack(cpu, cpl);
  } else {
    inner = tss_stack(cpu, cpl);
    ss = stack_segment(cpu, inner.ss, cpl, Vector::kTs);
  }
  NewStack stack{cpu, ss, inner.sp, cpl, wide};
  stack.push(cpu.segments[kSs].selector, bytes);
  stack.push(cpu.gpr[kRsp], bytes);
  const unsigned parameters = wide ? 0 : static_cast<unsigned>(gate.low >> 32) & 31;
  for (unsigned n = parameters; n-- > 0;) stack.push(parameter(cpu, n, bytes), bytes);
  stack.push(cpu.segments[kCs].selector, bytes);
  stack.push(cpu.gpr[kRip], bytes);
  touch_descriptor(cpu, code);
  cpu.segments[kSs] = ss;
  cpu.gpr[kRsp] = stack.merged(inner.sp);
  set_code(cpu, code, gate.gate_selector(), cpl);
  cpu.gpr[kRip] = rip;
  cpu.mode_changed();
}

void through_gate(Cpu& cpu, const Found& found, std::uint16_t gate_name, bool call) {
  Found wide_gate = found;
  const bool is64 = cpu.long_mode();
  if (is64) {
    wide_gate = need_descriptor(cpu, gate_name, Vector::kGp, true);
    require(cpu, (wide_gate.d.high >> 40 & 0x1f) == 0, Vector::kGp, gate_name & 0xfffcu);
  }
  const Descriptor& gate = wide_gate.d;
  const unsigned bytes = is64 ? 8 : gate.system_type() == SystemType::kCallGate32 ? 4 : 2;
  const std::uint16_t selector = gate.gate_selector();
  const std::uint32_t named = selector & 0xfffcu;
  require(cpu, !null_selector(selector), Vector::kGp, 0);
  Found code = need_descriptor(cpu, selector, Vector::kGp);
  const bool long_code = code.d.long_code() && !code.d.big();
  require(cpu, code.d.code() && code.d.dpl() <= cpu.cpl && (!is64 || long_code), Vector::kGp, named);
  const std::uint64_t rip = bytes == 2 ? gate.gate_offset16() : gate.gate_offset();
  if (call && !code.d.conforming() && code.d.dpl() < cpu.cpl) {
    require(cpu, code.d.present(), Vector::kNp, named);
    check_target(cpu, code.d, rip);
    return inner_call(cpu, gate, code, rip, bytes);
  }
  check_code(cpu, code.d, selector, true);
  check_target(cpu, code.d, rip);
  touch_descriptor(cpu, code);
  if (call) push_return(cpu, bytes);
  enter_code(cpu, code, selector, rip);
}

void to_system_segment(Cpu& cpu, const Found& found, std::uint16_t selector, bool call) {
  const std::uint32_t named = selector & 0xfffcu;
  const unsigned rpl = selector & 3;
  const SystemType type = found.d.system_type();
  const bool gate32 = type == SystemType::kCallGate32;
  const bool legacy = type == SystemType::kCallGate16 || type == SystemType::kTaskGate ||
                      type == SystemType::kTss16 || type == SystemType::kTss32;
  require(cpu, gate32 || (legacy && !cpu.long_mode()), Vector::kGp, named);
  require(cpu, found.d.dpl() >= cpu.cpl && rpl <= found.d.dpl(), Vector::kGp, named);
  require(cpu, found.d.present(), Vector::kNp, named);
  const SwitchReason reason = call ? SwitchReason::kCall : SwitchReason::kJump;
  if (gate32 || type == SystemType::kCallGate16) return through_gate(cpu, found, selector, call);
  if (type == SystemType::kTaskGate)
    return task_switch_to(cpu, found.d.gate_selector(), reason, nullptr);
  require(cpu, (selector & 4) == 0, Vector::kGp, named);
  task_switch(cpu, found, selector, reason, nullptr);
}

void transfer(Cpu& cpu, const Insn& i, bool call) {
  const FarPointer to = operand(cpu, i);
  const unsigned bytes = bytes_of(i.size);
  if (cpu.real_or_v86()) return real_transfer(cpu, to, bytes, call);
  require(cpu, !null_selector(to.selector), Vector::kGp, 0);
  const Found found = need_descriptor(cpu, to.selector, Vector::kGp);
  if (found.d.system())
    to_system_segment(cpu, found, to.selector, call);
  else
    direct(cpu, found, to, bytes, call);
}

void jmp_far(Cpu& cpu, const Insn& i) { transfer(cpu, i, false); }
void call_far(Cpu& cpu, const Insn& i) { transfer(cpu, i, true); }

// ---- RET and IRET ---------------------------------------------------------------------------------

// CS as a return finds it on the stack.
Found return_code(Cpu& cpu, std::uint16_t selector) {
  const std::uint32_t named = selector & 0xfffcu;
  const unsigned rpl = selector & 3;
  require(cpu, !null_selector(selector), Vector::kGp, 0);
  Found code = need_descriptor(cpu, selector, Vector::kGp);
  require(cpu, code.d.code() && rpl >= cpu.cpl, Vector::kGp, named);
  const bool fits = code.d.conforming() ? code.d.dpl() <= rpl : code.d.dpl() == rpl;
  const bool ambiguous = cpu.long_mode() && code.d.long_code() && code.d.big();
  require(cpu, fits && !ambiguous, Vector::kGp, named);
  require(cpu, code.d.present(), Vector::kNp, named);
  return code;
}

// SS as a return finds it; null only for 64-bit code below privilege 3.
Segment return_stack(Cpu& cpu, const Descriptor& code, std::uint16_t selector, unsigned cpl) {
  if (!null_selector(selector)) return stack_segment(cpu, selector, cpl, Vector::kGp);
  const bool allowed = cpu.long_mode() && code.long_code() && cpl != 3 && (selector & 3u) == cpl;
  require(cpu, allowed, Vector::kGp, 0);
  return null_stack_segment(cpl);
}

// RSP of the outer stack, by its own width.
void set_outer_stack(Cpu& cpu, const Segment& ss, std::uint64_t sp, bool to64) {
  const bool narrow = !to64 && (ss.access & kBig) == 0;
  cpu.segments[kSs] = ss;
  cpu.gpr[kRsp] = to64 ? sp : narrow ? (cpu.gpr[kRsp] & ~0xffffull) | (sp & 0xffff) : sp & 0xffff'ffff;
}

void ret_real(Cpu& cpu, Popper& stack, std::uint64_t rip, std::uint16_t selector,
              std::uint64_t released) {
  require(cpu, rip <= cpu.segments[kCs].limit, Vector::kGp, 0);
  stack.skip(released);
  stack.commit();
  Segment& cs = cpu.segments[kCs];
  cs = cpu.virtual_8086() ? v86_segment(selector) : real_segment(cs, selector);
  cpu.gpr[kRip] = rip;
  cpu.mode_changed();
}

void ret_outer(Cpu& cpu, Popper& stack, Found& code, std::uint64_t rip, std::uint16_t selector,
               std::uint64_t released) {
  const unsigned cpl = selector & 3;
  stack.skip(released);
  const std::uint64_t sp = stack.pop();
  const auto ss_selector = static_cast<std::uint16_t>(stack.pop());
  const Segment ss = return_stack(cpu, code.d, ss_selector, cpl);
  check_target(cpu, code.d, rip);
  touch_descriptor(cpu, code);
  set_code(cpu, code, selector, cpl);
  set_outer_stack(cpu, ss, sp + released, cpu.long_mode() && code.d.long_code());
  cpu.gpr[kRip] = rip;
  cpu.mode_changed();
  drop_inaccessible_segments(cpu);
}

void ret_far(Cpu& cpu, const Insn& i) {
  const std::uint64_t released = i.op == Op::kRetFarI ? i.imm & 0xffff : 0;
  Popper stack{cpu, bytes_of(i.size)};
  const std::uint64_t rip = stack.pop();
  const auto selector = static_cast<std::uint16_t>(stack.pop());
  if (cpu.real_or_v86()) return ret_real(cpu, stack, rip, selector, released);
  Found code = return_code(cpu, selector);
  if ((selector & 3u) > cpu.cpl) return ret_outer(cpu, stack, code, rip, selector, released);
  check_target(cpu, code.d, rip);
  touch_descriptor(cpu, code);
  stack.skip(released);
  stack.commit();
  enter_code(cpu, code, selector, rip);
}

void iret_done(Cpu& cpu) {
  cpu.slow.nmi_blocked = false;
  cpu.system.keep_resume_flag = true;
}

void iret_real(Cpu& cpu, unsigned bytes) {
  const bool v86 = cpu.virtual_8086();
  if (v86 && cpu.iopl() != 3) cpu.protection_fault();
  Popper stack{cpu, bytes};
  const std::uint64_t rip = stack.pop();
  const auto selector = static_cast<std::uint16_t>(stack.pop());
  const std::uint64_t image = stack.pop();
  require(cpu, rip <= cpu.segments[kCs].limit, Vector::kGp, 0);
  stack.commit();
  std::uint64_t mask = poppable_flags(cpu, bytes) | (bytes == 2 ? 0 : std::uint64_t{kRf});
  if (v86) mask &= ~std::uint64_t{kIopl};
  change_flags(cpu, image, mask);
  Segment& cs = cpu.segments[kCs];
  cs = v86 ? v86_segment(selector) : real_segment(cs, selector);
  cpu.gpr[kRip] = rip;
  cpu.mode_changed();
  iret_done(cpu);
}

void iret_to_v86(Cpu& cpu, Popper& stack, std::uint64_t rip, std::uint16_t cs,
                 std::uint64_t image) {
  const std::uint64_t sp = stack.pop();
  std::uint16_t selector[kSegCount] = {0, cs};
  for (const unsigned which : {kSs, kEs, kDs, kFs, kGs})
    selector[which] = static_cast<std::uint16_t>(stack.pop());
  cpu.gpr[kRsp] = sp & 0xffff'ffff;
  for (unsigned which = 0; which < kSegCount; ++which)
    cpu.segments[which] = v86_segment(selector[which]);
  cpu.gpr[kRip] = rip & 0xffff;
  cpu.set_rflags(image & 0x3f7fd5);  // all that there are, VM and IOPL among them
  cpu.mode_changed();
  iret_done(cpu);
}

void iret_to(Cpu& cpu, Popper& stack, std::uint64_t rip, std::uint16_t selector,
             std::uint64_t image, unsigned bytes) {
  Found code = return_code(cpu, selector);
  const unsigned cpl = selector & 3;
  const bool outer = cpl > cpu.cpl;
  const bool pops_stack = outer || cpu.long64;
  std::uint64_t sp = 0;
  Segment ss;
  if (pops_stack) {
    sp = stack.pop();
    ss = return_stack(cpu, code.d, static_cast<std::uint16_t>(stack.pop()), cpl);
  }
  check_target(cpu, code.d, rip);
  touch_descriptor(cpu, code);
  if (pops_stack)
    set_outer_stack(cpu, ss, sp, cpu.long_mode() && code.d.long_code());
  else
    stack.commit();
  change_flags(cpu, image, poppable_flags(cpu, bytes) | (bytes == 2 ? 0 : std::uint64_t{kRf}));
  set_code(cpu, code, selector, cpl);
  cpu.gpr[kRip] = rip;
  cpu.mode_changed();
  if (outer) drop_inaccessible_segments(cpu);
  iret_done(cpu);
}

void iret(Cpu& cpu, const Insn& i) {
  const unsigned bytes = bytes_of(i.size);
  if (cpu.real_or_v86()) return iret_real(cpu, bytes);
  if ((cpu.system_flags & kNt) != 0) {
    if (cpu.long_mode()) cpu.protection_fault();
    const auto link = cpu.read_system<std::uint16_t>(cpu.tr.base & 0xffff'ffff);
    task_switch_to(cpu, link, SwitchReason::kReturn, nullptr);
    cpu.slow.nmi_blocked = false;
    return;
  }
  Popper stack{cpu, bytes};
  const std::uint64_t rip = stack.pop();
  const auto selector = static_cast<std::uint16_t>(stack.pop());
  const std::uint64_t image = stack.pop();
  if (bytes == 4 && (image & kVm) != 0 && cpu.cpl == 0 && !cpu.long_mode())
    return iret_to_v86(cpu, stack, rip, selector, image);
  iret_to(cpu, stack, rip, selector, image, bytes);
}

// ---- software interrupts --------------------------------------------------------------------------

void software(Cpu& cpu, std::uint8_t vector, Cpu::Source source) {
  cpu.deliver(vector, source, false, 0);
}

// Without VME, INT n in virtual-8086 mode asks for IOPL 3; INT3 and INTO do not.
void int_n(Cpu& cpu, const Insn& i) {
  if (cpu.virtual_8086() && cpu.iopl() != 3) cpu.protection_fault();
  software(cpu, static_cast<std::uint8_t>(i.imm), Cpu::Source::kSoftware);
}
void int3(Cpu& cpu, const Insn&) { software(cpu, 3, Cpu::Source::kSoftware); }
void int1(Cpu& cpu, const Insn&) { software(cpu, 1, Cpu::Source::kInt1); }
void into(Cpu& cpu, const Insn&) {
  if (cpu.flags.of()) software(cpu, 4, Cpu::Source::kSoftware);
}

}  // namespace

Handler bind_far_ops(const Insn& insn) {
  switch (insn.op) {
    case Op::kJmpFar: return jmp_far;
    case Op::kCallFar: return call_far;
    case Op::kRetFar: case Op::kRetFarI: return ret_far;
    case Op::kIret: return iret;
    case Op::kIntN: return int_n;
    case Op::kInt3: return int3;
    case Op::kInt1: return int1;
    case Op::kInto: return into;
    default: return nullptr;
  }
}

}  // namespace hv::softcpu

// Exceptions and interrupts: SDM Vol. 3, "Interrupt and Exception Handling", and the operation of
// INT n in Vol. 2.
#include "softcpu/overseer.h"
#include "softcpu/system_ops.h"

namespace hv::softcpu {

void Cpu::raise(Vector vector) {
  pending = {static_cast<std::uint8_t>(vector), false, 0};
  gpr[kRip] = instruction_start();
  system.external = 0;
  _longjmp(leave, kFault);
}

void Cpu::raise(Vector vector, std::uint32_t error) {
  pending = {static_cast<std::uint8_t>(vector), true, error};
  gpr[kRip] = instruction_start();
  system.external = 0;
  _longjmp(leave, kFault);
}

void Cpu::raise_page_fault(std::uint64_t linear_address, std::uint32_t error) {
  cr2 = linear_address;
  add_count(count.page_faults);
  raise(Vector::kPf, error);
}

namespace {

enum class Class : std::uint8_t { kBenign, kContributory, kPageFault, kDoubleFault };

// SDM Vol. 3, "Interrupt and Exception Classes".
Class classify(std::uint8_t vector) {
  constexpr std::uint32_t kContributory = 1u << 0 | 1u << 10 | 1u << 11 | 1u << 12 | 1u << 13;
  if (vector == static_cast<unsigned>(Vector::kPf)) return Class::kPageFault;
  if (vector == static_cast<unsigned>(Vector::kDf)) return Class::kDoubleFault;
  return vector < 32 && (kContributory >> vector & 1) != 0 ? Class::kContributory : Class::kBenign;
}

// SDM Vol. 3, "Conditions for Generating a Double Fault": does `second` join `first`?
bool doubles(Class first, Class second) {
  if (second == Class::kBenign || second == Class::kDoubleFault) return false;
  if (first == Class::kContributory) return second == Class::kContributory;
  return first == Class::kPageFault || first == Class::kDoubleFault;
}

// Faults push RF, so that an instruction breakpoint does not hit twice; traps, aborts and #DB do
// not (SDM Vol. 3, "Instruction-Breakpoint Exception Condition").
bool pushes_resume_flag(std::uint8_t vector) {
  constexpr std::uint32_t kFaults = 1u << 0 | 1u << 5 | 1u << 6 | 1u << 7 | 0xfu << 10 | 1u << 14 |
                                    1u << 16 | 1u << 17 | 1u << 19;
  return vector < 32 && (kFaults >> vector & 1) != 0;
}

class Delivery {
 public:
  Delivery(Cpu& cpu, std::uint8_t vector, Cpu::Source source, const std::uint32_t* error)
      : cpu_(cpu), vector_(vector), source_(source), error_(error), image_(cpu.rflags()) {
    if (source == Cpu::Source::kSoftware) image_ &= ~std::uint64_t{kRf};
    if (source == Cpu::Source::kException && pushes_resume_flag(vector)) image_ |= kRf;
  }
  void real();
  void protect();

 private:
  std::uint32_t gate_error() const { return vector_ * 8u + 2; }
  Descriptor read_gate();
  Found target(const Descriptor& gate);
  void same_privilege(const Descriptor& gate, const Found& code);
  void to_inner(const Descriptor& gate, const Found& code, unsigned cpl);
  void long_mode(const Descriptor& gate, const Found& code, unsigned cpl);
  void push_return(NewStack& stack, unsigned bytes) const;
  void leave_v86(NewStack& stack, unsigned bytes);
  void enter(const Descriptor& gate, const Found& code, unsigned cpl, std::uint64_t offset);

  Cpu& cpu_;
  const std::uint8_t vector_;
  const Cpu::Source source_;
  const std::uint32_t* const error_;
  std::uint64_t image_;
};

void Delivery::real() {
  const std::uint32_t at = vector_ * 4u;
  require(cpu_, at + 3 <= cpu_.idtr.limit, Vector::kGp, gate_error());
  const std::uint32_t entry = cpu_.read_system<std::uint32_t>(cpu_.idtr.base + at);
  NewStack stack{cpu_, cpu_.segments[kSs], cpu_.gpr[kRsp], 0, false};
  push_return(stack, 2);
  cpu_.gpr[kRsp] = stack.merged(cpu_.gpr[kRsp]);
  cpu_.segments[kCs] = real_segment(cpu_.segments[kCs], static_cast<std::uint16_t>(entry >> 16));
  cpu_.gpr[kRip] = entry & 0xffff;
  cpu_.set_rflags(cpu_.rflags() & ~std::uint64_t{kIf | kTf | kAc | kRf});
  cpu_.mode_changed();
}

void Delivery::push_return(NewStack& stack, unsigned bytes) const {
  stack.push(image_, bytes);
  stack.push(cpu_.segments[kCs].selector, bytes);
  stack.push(cpu_.gpr[kRip], bytes);
}

Descriptor Delivery::read_gate() {
  const bool wide = cpu_.long_mode();
  const std::uint32_t at = vector_ * (wide ? 16u : 8u);
  require(cpu_, at + (wide ? 15u : 7u) <= cpu_.idtr.limit, Vector::kGp, gate_error());
  Descriptor gate;
  gate.low = cpu_.read_system<std::uint64_t>(cpu_.idtr.base + at);
  if (wide) gate.high = cpu_.read_system<std::uint64_t>(cpu_.idtr.base + at + 8);
  const unsigned type = gate.type() & ~1u;  // interrupt and trap gates differ in bit 0
  const bool known = gate.system() && (type == 14 || (!wide && (type == 6 || gate.type() == 5)));
  require(cpu_, known, Vector::kGp, gate_error());
  const bool by_program = source_ == Cpu::Source::kSoftware;
  require(cpu_, !by_program || gate.dpl() >= cpu_.cpl, Vector::kGp, gate_error());
  require(cpu_, gate.present(), Vector::kNp, gate_error());
  return gate;
}

Found Delivery::target(const Descriptor& gate) {
  const std::uint16_t selector = gate.gate_selector();
  const std::uint32_t named = selector & 0xfffcu;
  require(cpu_, !null_selector(selector), Vector::kGp, 0);
  Found code = need_descriptor(cpu_, selector, Vector::kGp);
  require(cpu_, code.d.code() && code.d.dpl() <= cpu_.cpl, Vector::kGp, named);
  if (cpu_.long_mode())
    require(cpu_, code.d.long_code() && !code.d.big(), Vector::kGp, named);
  require(cpu_, code.d.present(), Vector::kNp, named);
  const bool inner = !code.d.conforming() && code.d.dpl() < cpu_.cpl;
  if (cpu_.virtual_8086())
    require(cpu_, inner && code.d.dpl() == 0, Vector::kGp, named);
  return code;
}

void Delivery::protect() {
  const Descriptor gate = read_gate();
  if (gate.system_type() == SystemType::kTaskGate)
    return task_switch_to(cpu_, gate.gate_selector(), SwitchReason::kGate, error_);
  Found code = target(gate);
  const unsigned cpl = code.d.conforming() ? cpu_.cpl : code.d.dpl();
  if (cpu_.long_mode())
    long_mode(gate, code, cpl);
  else if (cpl < cpu_.cpl)
    to_inner(gate, code, cpl);
  else
    same_privilege(gate, code);
}

// RIP, CS and RFLAGS once everything is on the stack.
void Delivery::enter(const Descriptor& gate, const Found& code, unsigned cpl,
                     std::uint64_t offset) {
  set_code(cpu_, code, gate.gate_selector(), cpl);
  cpu_.gpr[kRip] = offset;
  std::uint64_t cleared = kTf | kNt | kRf | kVm;
  if ((gate.type() & 1) == 0) cleared |= kIf;
  cpu_.set_rflags(cpu_.rflags() & ~cleared);
  cpu_.mode_changed();
}

void Delivery::same_privilege(const Descriptor& gate, const Found& found) {
  Found code = found;
  const unsigned bytes = (gate.type() & 8) != 0 ? 4 : 2;
  const std::uint64_t offset = bytes == 4 ? gate.gate_offset() : gate.gate_offset16();
  NewStack stack{cpu_, cpu_.segments[kSs], cpu_.gpr[kRsp], cpu_.cpl, false};
  push_return(stack, bytes);
  if (error_ != nullptr) stack.push(*error_, bytes);
  check_target(cpu_, code.d, offset);
  touch_descriptor(cpu_, code);
  cpu_.gpr[kRsp] = stack.merged(cpu_.gpr[kRsp]);
  enter(gate, code, cpu_.cpl, offset);
}

void Delivery::leave_v86(NewStack& stack, unsigned bytes) {
  for (const unsigned which : {kGs, kFs, kDs, kEs})
    stack.push(cpu_.segments[which].selector, bytes);
}

void Delivery::to_inner(const Descriptor& gate, const Found& found, unsigned cpl) {
  Found code = found;
  const unsigned bytes = (gate.type() & 8) != 0 ? 4 : 2;
  const std::uint64_t offset = bytes == 4 ? gate.gate_offset() : gate.gate_offset16();
  const StackPointer inner = tss_stack(cpu_, cpl);
  const Segment ss = stack_segment(cpu_, inner.ss, cpl, Vector::kTs);
  NewStack stack{cpu_, ss, inner.sp, cpl, false};
  const bool from_v86 = cpu_.virtual_8086();
  if (from_v86) leave_v86(stack, bytes);
  stack.push(cpu_.segments[kSs].selector, bytes);
  stack.push(cpu_.gpr[kRsp], bytes);
  push_return(stack, bytes);
  if (error_ != nullptr) stack.push(*error_, bytes);
  check_target(cpu_, code.d, offset);
  touch_descriptor(cpu_, code);
  if (from_v86)
    for (const unsigned which : {kGs, kFs, kDs, kEs}) cpu_.segments[which] = null_segment(0);
  cpu_.segments[kSs] = ss;
  cpu_.gpr[kRsp] = stack.merged(inner.sp);
  enter(gate, code, cpl, offset);
}

// SDM Vol. 3, "64-Bit Mode Stack Frame", "Interrupt Stack Table".
void Delivery::long_mode(const Descriptor& gate, const Found& found, unsigned cpl) {
  Found code = found;
  const unsigned ist = static_cast<unsigned>(gate.low >> 32) & 7;
  std::uint64_t top = cpu_.gpr[kRsp];
  if (ist != 0)
    top = tss64_stack(cpu_, ist + 3);
  else if (cpl != cpu_.cpl)
    top = tss64_stack(cpu_, cpl);
  const bool changes = cpl != cpu_.cpl;
  const Segment ss = changes ? null_stack_segment(cpl) : cpu_.segments[kSs];
  NewStack stack{cpu_, ss, top & ~15ull, cpl, true};
  stack.push(cpu_.segments[kSs].selector, 8);
  stack.push(cpu_.gpr[kRsp], 8);
  push_return(stack, 8);
  if (error_ != nullptr) stack.push(*error_, 8);
  check_target(cpu_, code.d, gate.gate_offset());
  touch_descriptor(cpu_, code);
  cpu_.segments[kSs] = ss;
  cpu_.gpr[kRsp] = stack.sp();
  enter(gate, code, cpl, gate.gate_offset());
}

}  // namespace

void Cpu::deliver(std::uint8_t vector, Source source, bool has_error, std::uint32_t error) {
  system.external = source == Source::kSoftware ? 0 : 1;
  delivering = {vector, source, has_error, error};
  system.in_delivery = true;
  Delivery delivery{*this, vector, source, has_error ? &error : nullptr};
  if (protected_mode())
    delivery.protect();
  else
    delivery.real();
  system.external = 0;
  system.delivering = system.in_delivery = false;
  system.stepping = false;
}

bool Cpu::take_exception() {
  const Class second = classify(pending.vector);
  if (system.delivering && system.delivering_exception) {
    const Class first = classify(system.delivering_vector);
    if (doubles(first, second)) {
      if (first == Class::kDoubleFault) {
        system.delivering = system.in_delivery = false;
        return false;
      }
      pending = {static_cast<std::uint8_t>(Vector::kDf), true, 0};
    }
  }
  const Pending now = pending;
  if (overseer != nullptr) [[unlikely]] overseer->before_exception(*this, now);
  system.delivering = system.delivering_exception = true;
  system.delivering_vector = now.vector;
  system.debug_hits = 0;
  system.keep_resume_flag = false;
  add_count(count.exceptions);
  deliver(now.vector, Source::kException, now.has_error, now.error);
  return true;
}

bool Cpu::take_interrupt() {
  const auto vector = platform.acknowledge_interrupt(index);
  if (!vector) return false;
  slow.accepted_interrupt = 0x100 | *vector;
  take_accepted();
  return true;
}

void Cpu::take_accepted() {
  const auto vector = static_cast<std::uint8_t>(slow.accepted_interrupt);
  slow.accepted_interrupt = 0;
  add_count(count.interrupts);
  system.delivering = true;
  system.delivering_exception = false;
  slow.activity = Activity::kRunning;  // also where the delivery faults
  deliver(vector, Source::kHardware, false, 0);
}

void Cpu::take_nmi() {
  if (overseer != nullptr) [[unlikely]] overseer->before_nmi(*this);
  signals.clear(Signal::kNmi);
  add_count(count.interrupts);
  slow.nmi_blocked = true;
  system.delivering = true;
  system.delivering_exception = false;
  deliver(static_cast<std::uint8_t>(Vector::kNmi), Source::kNmi, false, 0);
}

}  // namespace hv::softcpu

// PUSH POP PUSHA POPA ENTER LEAVE. Those with several accesses work on a copy of RSP, so that a
// fault in the middle leaves the registers as they were.
#include "softcpu/exec_integer.h"

namespace hv::softcpu {

namespace {

class Stack {
 public:
  explicit Stack(Cpu& cpu) : cpu_(cpu), mask_(cpu.stack_mask()), top_(cpu.gpr[kRsp]) {}
  template <class T>
  void push(T value) {
    top_ -= sizeof(T);
    cpu_.write<T>(kSs, top_ & mask_, value);
  }
  template <class T>
  T pop() {
    const T value = peek<T>(top_);
    top_ += sizeof(T);
    return value;
  }
  template <class T>
  T peek(std::uint64_t at) {
    return cpu_.read<T>(kSs, at & mask_);
  }
  std::uint64_t top() const { return merge(top_); }
  void move(std::uint64_t by) { top_ += by; }
  void set(std::uint64_t top) { top_ = top; }
  // `value` below the stack's width, RSP's own bits above it.
  std::uint64_t merge(std::uint64_t value) const {
    return (cpu_.gpr[kRsp] & ~mask_) | (value & mask_);
  }
  void commit() { cpu_.gpr[kRsp] = top(); }

 private:
  Cpu& cpu_;
  const std::uint64_t mask_;
  std::uint64_t top_;
};

template <class T>
struct PushR {
  static void reg(Cpu& cpu, const Insn& i) { cpu.push<T>(cpu.reg<T>(i.reg)); }
};
template <class T>
struct PopR {
  static void reg(Cpu& cpu, const Insn& i) { cpu.set_reg<T>(i.reg, cpu.pop<T>()); }
};
template <class T>
struct PushM {
  static void reg(Cpu& cpu, const Insn& i) { cpu.push<T>(cpu.reg<T>(i.rm)); }
  static void mem(Cpu& cpu, const Insn& i) { cpu.push<T>(load<T>(cpu, i)); }
};
template <class T>
struct PushI {
  static void reg(Cpu& cpu, const Insn& i) { cpu.push<T>(static_cast<T>(i.imm)); }
};
template <class T>
struct PopM {
  static void reg(Cpu& cpu, const Insn& i) { cpu.set_reg<T>(i.rm, cpu.pop<T>()); }
  // An address by RSP is computed with RSP already moved (SDM Vol. 2, "POP").
  static void mem(Cpu& cpu, const Insn& i) {
    const std::uint64_t before = cpu.gpr[kRsp];
    const T value = cpu.pop<T>();
    const std::uint64_t after = cpu.gpr[kRsp], at = cpu.effective_address(i);
    cpu.gpr[kRsp] = before;
    cpu.write<T>(i.segment, at, value);
    cpu.gpr[kRsp] = after;
  }
};

template <class T>
struct Pusha {
  static void reg(Cpu& cpu, const Insn&) {
    Stack stack{cpu};
    for (const unsigned number : {kRax, kRcx, kRdx, kRbx, kRsp, kRbp, kRsi, kRdi})
      stack.push<T>(cpu.reg<T>(number));
    stack.commit();
  }
};
template <class T>
struct Popa {
  static void reg(Cpu& cpu, const Insn&) {
    Stack stack{cpu};
    T values[8];
    for (unsigned n = 8; n-- > 0;) values[n] = stack.pop<T>();
    for (unsigned n = 0; n < 8; ++n)
      if (n != kRsp) cpu.set_reg<T>(n, values[n]);
    stack.commit();
  }
};

// SDM Vol. 2, "ENTER".
template <class T>
struct Enter {
  static void reg(Cpu& cpu, const Insn& i) {
    const unsigned level = i.imm2 & 31u;
    Stack stack{cpu};
    stack.push<T>(cpu.reg<T>(kRbp));
    const std::uint64_t frame = stack.top();
    std::uint64_t outer = cpu.gpr[kRbp];
    for (unsigned n = 1; n < level; ++n) {
      outer -= sizeof(T);
      stack.push<T>(stack.peek<T>(outer));
    }
    if (level > 0) stack.push<T>(static_cast<T>(frame));
    stack.move(0 - i.imm);
    cpu.probe_write(kSs, stack.top() & cpu.stack_mask(), sizeof(T));
    cpu.set_reg<T>(kRbp, static_cast<T>(frame));
    stack.commit();
  }
};
template <class T>
struct Leave {
  static void reg(Cpu& cpu, const Insn&) {
    Stack stack{cpu};
    stack.set(cpu.gpr[kRbp]);
    const T frame = stack.pop<T>();
    stack.commit();
    cpu.set_reg<T>(kRbp, frame);
  }
};

}  // namespace

std::span<const Binding> stack_bindings() {
  static constexpr Binding kAll[] = {
      sized<PushR>(Op::kPushR), sized<PopR>(Op::kPopR), sized<PushM>(Op::kPushM),
      sized<PopM>(Op::kPopM), sized<PushI>(Op::kPushI), sized<Pusha>(Op::kPusha),
      sized<Popa>(Op::kPopa), sized<Enter>(Op::kEnter), sized<Leave>(Op::kLeave),
  };
  return kAll;
}

}  // namespace hv::softcpu

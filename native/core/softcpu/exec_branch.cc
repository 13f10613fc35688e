// Jcc JMP CALL RET LOOPcc JCXZ, all near. A target outside the segment faults at the branch.
#include <utility>

#include "softcpu/exec_integer.h"

namespace hv::softcpu {

namespace {

// The target as the operand size cuts it; #GP(0) where it is not canonical or past CS's limit.
template <class T>
std::uint64_t checked(Cpu& cpu, std::uint64_t target) {
  if constexpr (sizeof(T) == 8) {
    const auto extended = static_cast<std::int64_t>(target << 16) >> 16;
    if (static_cast<std::uint64_t>(extended) != target) [[unlikely]] cpu.protection_fault();
    return target;
  } else {
    const std::uint64_t cut_off = static_cast<T>(target);
    if (cut_off > cpu.segments[kCs].limit) [[unlikely]] cpu.protection_fault();
    return cut_off;
  }
}

template <class T>
void branch(Cpu& cpu, const Insn& i) {
  cpu.gpr[kRip] = checked<T>(cpu, cpu.gpr[kRip] + i.imm);
}

template <unsigned kCode>
struct Jcc {
  template <class T>
  struct Near {
    static void reg(Cpu& cpu, const Insn& i) {
      if (cpu.flags.template condition<kCode>()) branch<T>(cpu, i);
    }
  };
};

template <class T>
struct Jmp {
  static void reg(Cpu& cpu, const Insn& i) { branch<T>(cpu, i); }
};
template <class T>
struct JmpM {
  static void reg(Cpu& cpu, const Insn& i) { cpu.gpr[kRip] = checked<T>(cpu, cpu.reg<T>(i.rm)); }
  static void mem(Cpu& cpu, const Insn& i) { cpu.gpr[kRip] = checked<T>(cpu, load<T>(cpu, i)); }
};

template <class T>
void call(Cpu& cpu, std::uint64_t target) {
  const std::uint64_t to = checked<T>(cpu, target);
  cpu.push<T>(static_cast<T>(cpu.gpr[kRip]));
  cpu.gpr[kRip] = to;
}
template <class T>
struct Call {
  static void reg(Cpu& cpu, const Insn& i) { call<T>(cpu, cpu.gpr[kRip] + i.imm); }
};
template <class T>
struct CallM {
  static void reg(Cpu& cpu, const Insn& i) { call<T>(cpu, cpu.reg<T>(i.rm)); }
  static void mem(Cpu& cpu, const Insn& i) { call<T>(cpu, load<T>(cpu, i)); }
};

template <class T>
void ret(Cpu& cpu, std::uint64_t release) {
  const std::uint64_t mask = cpu.stack_mask(), old = cpu.gpr[kRsp];
  const std::uint64_t to = checked<T>(cpu, cpu.read<T>(kSs, old & mask));
  cpu.gpr[kRsp] = (old & ~mask) | ((old + sizeof(T) + release) & mask);
  cpu.gpr[kRip] = to;
}
template <class T>
struct Ret {
  static void reg(Cpu& cpu, const Insn&) { ret<T>(cpu, 0); }
};
template <class T>
struct RetI {
  static void reg(Cpu& cpu, const Insn& i) { ret<T>(cpu, i.imm); }
};

// LOOPNE, LOOPE, LOOP count down rCX of the address size; JCXZ only looks at it.
enum class While : std::uint8_t { kNotZero, kZero, kAlways };

template <While kWhile>
struct LoopOn {
  template <class T>
  struct Near {
    static void reg(Cpu& cpu, const Insn& i) {
      const std::uint64_t left = cut(cpu.gpr[kRcx] - 1, i.address);
      const bool holds = kWhile == While::kAlways || cpu.flags.zf() == (kWhile == While::kZero);
      const bool taken = left != 0 && holds;
      const std::uint64_t to = taken ? checked<T>(cpu, cpu.gpr[kRip] + i.imm) : cpu.gpr[kRip];
      set_by_address(cpu, kRcx, left, i.address);
      cpu.gpr[kRip] = to;
    }
  };
};
template <class T>
struct Jcxz {
  static void reg(Cpu& cpu, const Insn& i) {
    if (cut(cpu.gpr[kRcx], i.address) == 0) branch<T>(cpu, i);
  }
};

template <std::size_t... kCode>
constexpr std::array<Binding, 16> jumps(std::index_sequence<kCode...>) {
  return {sized<Jcc<kCode>::template Near>(
      static_cast<Op>(static_cast<std::size_t>(Op::kJo) + kCode))...};
}

}  // namespace

std::span<const Binding> branch_bindings() {
  static constexpr Binding kAll[] = {
      sized<Jmp>(Op::kJmp), sized<JmpM>(Op::kJmpM), sized<Call>(Op::kCall),
      sized<CallM>(Op::kCallM), sized<Ret>(Op::kRet), sized<RetI>(Op::kRetI),
      sized<LoopOn<While::kNotZero>::Near>(Op::kLoopne),
      sized<LoopOn<While::kZero>::Near>(Op::kLoope),
      sized<LoopOn<While::kAlways>::Near>(Op::kLoop), sized<Jcxz>(Op::kJcxz),
  };
  return kAll;
}

std::span<const Binding> jump_bindings() {
  static constexpr auto kAll = jumps(std::make_index_sequence<16>{});
  return kAll;
}

}  // namespace hv::softcpu

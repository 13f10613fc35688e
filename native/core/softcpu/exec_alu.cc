// ADD OR ADC SBB AND SUB XOR CMP TEST NOT NEG INC DEC.
#include "softcpu/exec_integer.h"

namespace hv::softcpu {

namespace {

struct Add {
  static constexpr bool kWrites = true;
  template <class T>
  static T apply(LazyFlags& flags, T a, T b) { return flags.add(a, b); }
};
struct Or {
  static constexpr bool kWrites = true;
  template <class T>
  static T apply(LazyFlags& flags, T a, T b) { return flags.logic(static_cast<T>(a | b)); }
};
struct Adc {
  static constexpr bool kWrites = true;
  template <class T>
  static T apply(LazyFlags& flags, T a, T b) { return flags.add(a, b, flags.cf()); }
};
struct Sbb {
  static constexpr bool kWrites = true;
  template <class T>
  static T apply(LazyFlags& flags, T a, T b) { return flags.sub(a, b, flags.cf()); }
};
struct And {
  static constexpr bool kWrites = true;
  template <class T>
  static T apply(LazyFlags& flags, T a, T b) { return flags.logic(static_cast<T>(a & b)); }
};
struct Sub {
  static constexpr bool kWrites = true;
  template <class T>
  static T apply(LazyFlags& flags, T a, T b) { return flags.sub(a, b); }
};
struct Xor {
  static constexpr bool kWrites = true;
  template <class T>
  static T apply(LazyFlags& flags, T a, T b) { return flags.logic(static_cast<T>(a ^ b)); }
};
struct Cmp : Sub {
  static constexpr bool kWrites = false;
};
struct Test : And {
  static constexpr bool kWrites = false;
};

template <class Operation, class T>
void to_register(Cpu& cpu, unsigned number, T value) {
  const T result = Operation::template apply<T>(cpu.flags, cpu.reg<T>(number), value);
  if constexpr (Operation::kWrites) cpu.set_reg<T>(number, result);
}

template <class Operation, class T>
void to_memory(Cpu& cpu, const Insn& i, T value) {
  if constexpr (Operation::kWrites)
    cpu.modify<T>(i.segment, cpu.effective_address(i), false,
                  [&](T old) { return Operation::template apply<T>(cpu.flags, old, value); });
  else
    Operation::template apply<T>(cpu.flags, load<T>(cpu, i), value);
}

// The exchange may be tried again, each time from the flags before.
template <class Operation, class T>
void to_memory_locked(Cpu& cpu, const Insn& i, T value) {
  const LazyFlags before = cpu.flags;
  cpu.modify<T>(i.segment, cpu.effective_address(i), true, [&](T old) {
    cpu.flags = before;
    return Operation::template apply<T>(cpu.flags, old, value);
  });
}

template <class Operation>
struct Binary {
  template <class T>
  struct Mr {
    static void reg(Cpu& cpu, const Insn& i) {
      to_register<Operation, T>(cpu, i.rm, cpu.reg<T>(i.reg));
    }
    static void mem(Cpu& cpu, const Insn& i) {
      to_memory<Operation, T>(cpu, i, cpu.reg<T>(i.reg));
    }
    static void locked(Cpu& cpu, const Insn& i) {
      to_memory_locked<Operation, T>(cpu, i, cpu.reg<T>(i.reg));
    }
  };
  template <class T>
  struct Rm {
    static void reg(Cpu& cpu, const Insn& i) {
      to_register<Operation, T>(cpu, i.reg, cpu.reg<T>(i.rm));
    }
    static void mem(Cpu& cpu, const Insn& i) {
      to_register<Operation, T>(cpu, i.reg, load<T>(cpu, i));
    }
  };
  template <class T>
  struct Mi {
    static void reg(Cpu& cpu, const Insn& i) {
      to_register<Operation, T>(cpu, i.rm, static_cast<T>(i.imm));
    }
    static void mem(Cpu& cpu, const Insn& i) {
      to_memory<Operation, T>(cpu, i, static_cast<T>(i.imm));
    }
    static void locked(Cpu& cpu, const Insn& i) {
      to_memory_locked<Operation, T>(cpu, i, static_cast<T>(i.imm));
    }
  };
};

// XOR and SUB of a register with itself: the commonest way to 0.
template <class T>
struct XorSelf {
  static void reg(Cpu& cpu, const Insn& i) { cpu.set_reg<T>(i.rm, cpu.flags.logic(T{0})); }
};
// TEST of a register with itself.
template <class T>
struct TestSelf {
  static void reg(Cpu& cpu, const Insn& i) { cpu.flags.logic(cpu.reg<T>(i.rm)); }
};

struct NotOf {
  template <class T>
  static T apply(LazyFlags&, T a) { return static_cast<T>(~a); }
};
struct NegOf {
  template <class T>
  static T apply(LazyFlags& flags, T a) { return flags.sub(T{0}, a); }
};
struct IncOf {
  template <class T>
  static T apply(LazyFlags& flags, T a) { return flags.inc(a); }
};
struct DecOf {
  template <class T>
  static T apply(LazyFlags& flags, T a) { return flags.dec(a); }
};

template <class Operation>
struct Unary {
  template <class T>
  struct M {
    static void reg(Cpu& cpu, const Insn& i) {
      cpu.set_reg<T>(i.rm, Operation::template apply<T>(cpu.flags, cpu.reg<T>(i.rm)));
    }
    static void mem(Cpu& cpu, const Insn& i) {
      cpu.modify<T>(i.segment, cpu.effective_address(i), false,
                    [&](T old) { return Operation::template apply<T>(cpu.flags, old); });
    }
    static void locked(Cpu& cpu, const Insn& i) {
      const LazyFlags before = cpu.flags;
      cpu.modify<T>(i.segment, cpu.effective_address(i), true, [&](T old) {
        cpu.flags = before;
        return Operation::template apply<T>(cpu.flags, old);
      });
    }
  };
  template <class T>
  struct R {
    static void reg(Cpu& cpu, const Insn& i) {
      cpu.set_reg<T>(i.reg, Operation::template apply<T>(cpu.flags, cpu.reg<T>(i.reg)));
    }
  };
};

}  // namespace

std::span<const Binding> alu_bindings() {
#define HV_BINARY(Name)                                                                   \
  sized<Binary<Name>::Mr>(Op::k##Name##Mr), sized<Binary<Name>::Rm>(Op::k##Name##Rm), \
      sized<Binary<Name>::Mi>(Op::k##Name##Mi)
  static constexpr Binding kAll[] = {
      HV_BINARY(Add), HV_BINARY(Or), HV_BINARY(Adc), HV_BINARY(Sbb),
      HV_BINARY(And), HV_BINARY(Sub), HV_BINARY(Xor), HV_BINARY(Cmp),
      sized<Binary<Test>::Mr>(Op::kTestMr), sized<Binary<Test>::Mi>(Op::kTestMi),
      sized<Unary<NotOf>::M>(Op::kNot), sized<Unary<NegOf>::M>(Op::kNeg),
      sized<Unary<IncOf>::M>(Op::kInc), sized<Unary<DecOf>::M>(Op::kDec),
      sized<Unary<IncOf>::R>(Op::kIncR), sized<Unary<DecOf>::R>(Op::kDecR),
  };
#undef HV_BINARY
  return kAll;
}

Handler bind_same_register(const Insn& i) {
  static constexpr Binding kXor = sized<XorSelf>(Op::kXorMr), kTest = sized<TestSelf>(Op::kTestMr);
  if (i.memory != 0 || i.reg != i.rm) return nullptr;
  if (i.op == Op::kXorMr || i.op == Op::kXorRm) return kXor.reg[i.size];
  return i.op == Op::kTestMr ? kTest.reg[i.size] : nullptr;
}

}  // namespace hv::softcpu

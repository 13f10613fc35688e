// ROL ROR RCL RCR SHL SHR SAR SHLD SHRD. Where SDM leaves OF undefined (counts other than 1) the
// formula for 1 is used, and AF is 0; unless the host can say what its own CPU does.
#include <limits>

#include "softcpu/exec_integer.h"
#include "softcpu/host/undefined_flags.h"

namespace hv::softcpu {

namespace {

template <class T>
constexpr unsigned kBits = std::numeric_limits<T>::digits;

template <class T>
unsigned masked(std::uint64_t count) {
  return static_cast<unsigned>(count) & (sizeof(T) == 8 ? 63u : 31u);
}
template <class T>
bool top(T value) {
  return (value >> (kBits<T> - 1) & 1) != 0;
}
template <class T>
bool top_two_differ(T value) {
  return top(static_cast<T>(value ^ static_cast<T>(value << 1)));
}

#define HV_HOST_FLAGS(name)                                                            \
  template <class T>                                                                   \
  static constexpr auto kFlags = host::flags_of_##name<T>;

// Each is called with a count that is not 0.
struct Shl {
  HV_HOST_FLAGS(shl)
  template <class T>
  static T apply(LazyFlags& flags, T a, unsigned count) {
    const T r = count < kBits<T> ? static_cast<T>(a << count) : T{0};
    const bool cf = count <= kBits<T> && (a >> (kBits<T> - count) & 1) != 0;
    flags.result(r, cf, top(r) != cf);
    return r;
  }
};
struct Shr {
  HV_HOST_FLAGS(shr)
  template <class T>
  static T apply(LazyFlags& flags, T a, unsigned count) {
    const T before = count <= kBits<T> ? static_cast<T>(a >> (count - 1)) : T{0};
    const T r = static_cast<T>(before >> 1);
    flags.result(r, (before & 1) != 0, top_two_differ(r));
    return r;
  }
};
struct Sar {
  HV_HOST_FLAGS(sar)
  template <class T>
  static T apply(LazyFlags& flags, T a, unsigned count) {
    const auto wide = static_cast<std::int64_t>(static_cast<std::make_signed_t<T>>(a));
    const std::int64_t before = wide >> (count - 1);
    const T r = static_cast<T>(before >> 1);
    flags.result(r, (before & 1) != 0, false);
    return r;
  }
};
struct Rol {
  HV_HOST_FLAGS(rol)
  template <class T>
  static T apply(LazyFlags& flags, T a, unsigned count) {
    const T r = std::rotl(a, static_cast<int>(count % kBits<T>));
    flags.set_cf_of((r & 1) != 0, top(r) != ((r & 1) != 0));
    return r;
  }
};
struct Ror {
  HV_HOST_FLAGS(ror)
  template <class T>
  static T apply(LazyFlags& flags, T a, unsigned count) {
    const T r = std::rotr(a, static_cast<int>(count % kBits<T>));
    flags.set_cf_of(top(r), top_two_differ(r));
    return r;
  }
};
// Through the carry: a ring of one bit more than the operand has.
struct Rcl {
  HV_HOST_FLAGS(rcl)
  template <class T>
  static T apply(LazyFlags& flags, T a, unsigned count) {
    count %= kBits<T> + 1;
    if (count == 0) return a;
    const T carry = flags.cf();
    const bool cf = (a >> (kBits<T> - count) & 1) != 0;
    T r = static_cast<T>(carry << (count - 1));
    if (count < kBits<T>) r = static_cast<T>(r | a << count);
    if (count > 1) r = static_cast<T>(r | a >> (kBits<T> + 1 - count));
    flags.set_cf_of(cf, top(r) != cf);
    return r;
  }
};
struct Rcr {
  HV_HOST_FLAGS(rcr)
  template <class T>
  static T apply(LazyFlags& flags, T a, unsigned count) {
    count %= kBits<T> + 1;
    if (count == 0) return a;
    const T carry = flags.cf();
    const bool cf = (a >> (count - 1) & 1) != 0;
    T r = static_cast<T>(carry << (kBits<T> - count));
    if (count < kBits<T>) r = static_cast<T>(r | a >> count);
    if (count > 1) r = static_cast<T>(r | a << (kBits<T> + 1 - count));
    flags.set_cf_of(cf, top_two_differ(r));
    return r;
  }
};

// A count of 0 changes no flag, but the operand is written: a 32-bit register is cut.
template <class Operation, class T>
T shift(LazyFlags& flags, T a, unsigned count) {
  if (count == 0) return a;
  const std::uint64_t before = flags.value();
  const T r = Operation::template apply<T>(flags, a, count);
  flags.set(Operation::template kFlags<T>(before, flags.value(), a, T{}, count));
  return r;
}

template <class Operation>
struct Shift {
  template <class T, class Count>
  static void run_reg(Cpu& cpu, const Insn& i, Count count) {
    cpu.set_reg<T>(i.rm, shift<Operation, T>(cpu.flags, cpu.reg<T>(i.rm), masked<T>(count)));
  }
  template <class T, class Count>
  static void run_mem(Cpu& cpu, const Insn& i, Count count) {
    cpu.modify<T>(i.segment, cpu.effective_address(i), false, [&cpu, count](T old) {
      return shift<Operation, T>(cpu.flags, old, masked<T>(count));
    });
  }
  template <class T>
  struct Mi {
    static void reg(Cpu& cpu, const Insn& i) { run_reg<T>(cpu, i, i.imm); }
    static void mem(Cpu& cpu, const Insn& i) { run_mem<T>(cpu, i, i.imm); }
  };
  template <class T>
  struct Mc {
    static void reg(Cpu& cpu, const Insn& i) { run_reg<T>(cpu, i, cpu.gpr[kRcx]); }
    static void mem(Cpu& cpu, const Insn& i) { run_mem<T>(cpu, i, cpu.gpr[kRcx]); }
  };
};

// With 16 bits and a count above 16 (undefined) the source follows itself and CF is 0, as AMD's
// CPUs do.
template <class Operation, class T>
T past_end(LazyFlags& flags, T b, unsigned count) {
  const T r = Operation::template apply<T>(flags, b, b, count - kBits<T>);
  flags.set_cf(false);
  return r;
}
struct Left {
  HV_HOST_FLAGS(shld)
  template <class T>
  static T apply(LazyFlags& flags, T a, T b, unsigned count) {
    if (count > kBits<T>) return past_end<Left>(flags, b, count);
    const bool cf = (a >> (kBits<T> - count) & 1) != 0;
    const T high = count < kBits<T> ? static_cast<T>(a << count) : T{0};
    const T r = static_cast<T>(high | b >> (kBits<T> - count));
    flags.result(r, cf, top(r) != top(a));
    return r;
  }
};
struct Right {
  HV_HOST_FLAGS(shrd)
  template <class T>
  static T apply(LazyFlags& flags, T a, T b, unsigned count) {
    if (count > kBits<T>) return past_end<Right>(flags, b, count);
    const bool cf = (a >> (count - 1) & 1) != 0;
    const T low = count < kBits<T> ? static_cast<T>(a >> count) : T{0};
    const T r = static_cast<T>(low | b << (kBits<T> - count));
    flags.result(r, cf, top(r) != top(a));
    return r;
  }
};

#undef HV_HOST_FLAGS

template <class Operation, class T>
T shift_double(LazyFlags& flags, T a, T b, unsigned count) {
  if (count == 0) return a;
  const std::uint64_t before = flags.value();
  const T r = Operation::template apply<T>(flags, a, b, count);
  flags.set(Operation::template kFlags<T>(before, flags.value(), a, b, count));
  return r;
}

template <class Operation>
struct Double {
  template <class T, class Count>
  static void run_reg(Cpu& cpu, const Insn& i, Count count) {
    cpu.set_reg<T>(i.rm, shift_double<Operation, T>(cpu.flags, cpu.reg<T>(i.rm),
                                                    cpu.reg<T>(i.reg), masked<T>(count)));
  }
  template <class T, class Count>
  static void run_mem(Cpu& cpu, const Insn& i, Count count) {
    const T b = cpu.reg<T>(i.reg);
    cpu.modify<T>(i.segment, cpu.effective_address(i), false, [&cpu, b, count](T old) {
      return shift_double<Operation, T>(cpu.flags, old, b, masked<T>(count));
    });
  }
  template <class T>
  struct I {
    static void reg(Cpu& cpu, const Insn& i) { run_reg<T>(cpu, i, i.imm); }
    static void mem(Cpu& cpu, const Insn& i) { run_mem<T>(cpu, i, i.imm); }
  };
  template <class T>
  struct C {
    static void reg(Cpu& cpu, const Insn& i) { run_reg<T>(cpu, i, cpu.gpr[kRcx]); }
    static void mem(Cpu& cpu, const Insn& i) { run_mem<T>(cpu, i, cpu.gpr[kRcx]); }
  };
};

}  // namespace

std::span<const Binding> shift_bindings() {
#define HV_SHIFT(Name) sized<Shift<Name>::Mi>(Op::k##Name##Mi), sized<Shift<Name>::Mc>(Op::k##Name##Mc)
  static constexpr Binding kAll[] = {
      HV_SHIFT(Rol), HV_SHIFT(Ror), HV_SHIFT(Rcl), HV_SHIFT(Rcr),
      HV_SHIFT(Shl), HV_SHIFT(Shr), HV_SHIFT(Sar),
      sized<Double<Left>::I>(Op::kShldI), sized<Double<Left>::C>(Op::kShldC),
      sized<Double<Right>::I>(Op::kShrdI), sized<Double<Right>::C>(Op::kShrdC),
  };
#undef HV_SHIFT
  return kAll;
}

}  // namespace hv::softcpu

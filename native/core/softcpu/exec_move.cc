// MOV and its kin: MOVZX MOVSX MOVSXD LEA XLAT MOVBE BSWAP XCHG CMOVcc SETcc.
#include <utility>

#include "softcpu/exec_integer.h"

namespace hv::softcpu {

namespace {

template <class T>
T swap_bytes(T value) {
  if constexpr (sizeof(T) == 2) return __builtin_bswap16(value);
  if constexpr (sizeof(T) == 4) return __builtin_bswap32(value);
  if constexpr (sizeof(T) == 8) return __builtin_bswap64(value);
  return value;
}

template <class T>
struct MovMr {
  static void reg(Cpu& cpu, const Insn& i) { cpu.set_reg<T>(i.rm, cpu.reg<T>(i.reg)); }
  static void mem(Cpu& cpu, const Insn& i) { save<T>(cpu, i, cpu.reg<T>(i.reg)); }
};
template <class T>
struct MovRm {
  static void reg(Cpu& cpu, const Insn& i) { cpu.set_reg<T>(i.reg, cpu.reg<T>(i.rm)); }
  static void mem(Cpu& cpu, const Insn& i) { cpu.set_reg<T>(i.reg, load<T>(cpu, i)); }
};
template <class T>
struct MovMi {
  static void reg(Cpu& cpu, const Insn& i) { cpu.set_reg<T>(i.rm, static_cast<T>(i.imm)); }
  static void mem(Cpu& cpu, const Insn& i) { save<T>(cpu, i, static_cast<T>(i.imm)); }
};
template <class T>
struct MovRi {
  static void reg(Cpu& cpu, const Insn& i) { cpu.set_reg<T>(i.reg, static_cast<T>(i.imm)); }
};
template <class T>
struct MovAo {
  static void reg(Cpu& cpu, const Insn& i) { cpu.set_reg<T>(kRax, cpu.read<T>(i.segment, i.imm)); }
};
template <class T>
struct MovOa {
  static void reg(Cpu& cpu, const Insn& i) { cpu.write<T>(i.segment, i.imm, cpu.reg<T>(kRax)); }
};

// From is the type of the source; a signed one is extended by its sign.
template <class From>
struct Extend {
  using Raw = std::make_unsigned_t<From>;
  template <class T>
  struct To {
    static void reg(Cpu& cpu, const Insn& i) {
      cpu.set_reg<T>(i.reg, static_cast<T>(static_cast<From>(cpu.reg<Raw>(i.rm))));
    }
    static void mem(Cpu& cpu, const Insn& i) {
      cpu.set_reg<T>(i.reg, static_cast<T>(static_cast<From>(load<Raw>(cpu, i))));
    }
  };
};
// With an operand size below 64 bits MOVSXD is a plain move.
template <class T>
struct Movsxd : MovRm<T> {};
template <>
struct Movsxd<std::uint64_t> : Extend<std::int32_t>::To<std::uint64_t> {};

template <class T>
struct Lea {
  static void mem(Cpu& cpu, const Insn& i) {
    cpu.set_reg<T>(i.reg, static_cast<T>(cpu.effective_address(i)));
  }
};

void xlat(Cpu& cpu, const Insn& i) {
  const std::uint64_t at = cut(cpu.gpr[kRbx] + cpu.reg<std::uint8_t>(kRax), i.address);
  cpu.set_reg<std::uint8_t>(kRax, cpu.read<std::uint8_t>(i.segment, at));
}

template <class T>
struct MovbeRm {
  static void mem(Cpu& cpu, const Insn& i) { cpu.set_reg<T>(i.reg, swap_bytes(load<T>(cpu, i))); }
};
template <class T>
struct MovbeMr {
  static void mem(Cpu& cpu, const Insn& i) { save<T>(cpu, i, swap_bytes(cpu.reg<T>(i.reg))); }
};
template <class T>
struct Bswap {
  static void reg(Cpu& cpu, const Insn& i) {
    // SDM leaves the result for 16 bits undefined; hardware gives 0.
    const T value = sizeof(T) == 2 ? T{0} : swap_bytes(cpu.reg<T>(i.reg));
    cpu.set_reg<T>(i.reg, value);
  }
};

template <class T>
struct Xchg {
  static void reg(Cpu& cpu, const Insn& i) {
    const T a = cpu.reg<T>(i.rm), b = cpu.reg<T>(i.reg);
    cpu.set_reg<T>(i.rm, b);
    cpu.set_reg<T>(i.reg, a);
  }
  // Always locked (SDM Vol. 2, "XCHG").
  static void mem(Cpu& cpu, const Insn& i) {
    const T mine = cpu.reg<T>(i.reg);
    cpu.set_reg<T>(i.reg, cpu.modify<T>(i.segment, cpu.effective_address(i), true,
                                        [mine](T) { return mine; }));
  }
};
template <class T>
struct XchgAr {
  static void reg(Cpu& cpu, const Insn& i) {
    const T a = cpu.reg<T>(kRax), b = cpu.reg<T>(i.reg);
    cpu.set_reg<T>(kRax, b);
    cpu.set_reg<T>(i.reg, a);
  }
};

// The source is read, and a 32-bit destination cut, whether or not the condition holds.
template <unsigned kCode>
struct Cmov {
  template <class T>
  struct Rm {
    static void reg(Cpu& cpu, const Insn& i) { choose(cpu, i, cpu.reg<T>(i.rm)); }
    static void mem(Cpu& cpu, const Insn& i) { choose(cpu, i, load<T>(cpu, i)); }

   private:
    static void choose(Cpu& cpu, const Insn& i, T value) {
      const bool holds = cpu.flags.template condition<kCode>();
      cpu.set_reg<T>(i.reg, holds ? value : cpu.reg<T>(i.reg));
    }
  };
};
template <unsigned kCode>
struct Set {
  template <class T>
  struct M {
    static void reg(Cpu& cpu, const Insn& i) {
      cpu.set_reg<std::uint8_t>(i.rm, cpu.flags.template condition<kCode>());
    }
    static void mem(Cpu& cpu, const Insn& i) {
      save<std::uint8_t>(cpu, i, cpu.flags.template condition<kCode>());
    }
  };
};

constexpr Op by_code(Op first, std::size_t code) {
  return static_cast<Op>(static_cast<std::size_t>(first) + code);
}

template <std::size_t... kCode>
constexpr std::array<Binding, 32> conditional(std::index_sequence<kCode...>) {
  return {sized<Cmov<kCode>::template Rm>(by_code(Op::kCmovo, kCode))...,
          sized<Set<kCode>::template M>(by_code(Op::kSeto, kCode))...};
}

}  // namespace

std::span<const Binding> move_bindings() {
  static constexpr Binding kAll[] = {
      sized<MovMr>(Op::kMovMr), sized<MovRm>(Op::kMovRm), sized<MovMi>(Op::kMovMi),
      sized<MovRi>(Op::kMovRi), sized<MovAo>(Op::kMovAo), sized<MovOa>(Op::kMovOa),
      sized<Extend<std::uint8_t>::To>(Op::kMovzx8), sized<Extend<std::uint16_t>::To>(Op::kMovzx16),
      sized<Extend<std::int8_t>::To>(Op::kMovsx8), sized<Extend<std::int16_t>::To>(Op::kMovsx16),
      sized<Movsxd>(Op::kMovsxd), sized<Lea>(Op::kLea), fixed(Op::kXlat, xlat),
      sized<MovbeRm>(Op::kMovbeRm), sized<MovbeMr>(Op::kMovbeMr), sized<Bswap>(Op::kBswap),
      sized<Xchg>(Op::kXchgMr), sized<XchgAr>(Op::kXchgAr),
  };
  return kAll;
}

std::span<const Binding> conditional_bindings() {
  static constexpr auto kAll = conditional(std::make_index_sequence<16>{});
  return kAll;
}

}  // namespace hv::softcpu

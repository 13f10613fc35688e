// BT BTS BTR BTC BSF BSR POPCNT CRC32, and the exchanges: XADD CMPXCHG CMPXCHG8B CMPXCHG16B.
#include <array>
#include <bit>
#include <limits>

#include "softcpu/exec_integer.h"
#include "softcpu/host/undefined_flags.h"

namespace hv::softcpu {

namespace {

template <class T>
constexpr unsigned kBits = std::numeric_limits<T>::digits;

struct Keep {
  static constexpr bool kWrites = false;
  template <class T>
  static T apply(T a, T) { return a; }
};
struct SetBit {
  static constexpr bool kWrites = true;
  template <class T>
  static T apply(T a, T bit) { return static_cast<T>(a | bit); }
};
struct ResetBit {
  static constexpr bool kWrites = true;
  template <class T>
  static T apply(T a, T bit) { return static_cast<T>(a & ~bit); }
};
struct Complement {
  static constexpr bool kWrites = true;
  template <class T>
  static T apply(T a, T bit) { return static_cast<T>(a ^ bit); }
};

// CF is the bit; the other flags are undefined (but ZF, which stays) and stay.
template <class Operation, class T>
void bit_in_register(Cpu& cpu, const Insn& i, std::uint64_t number) {
  const T bit = static_cast<T>(T{1} << (number % kBits<T>)), old = cpu.reg<T>(i.rm);
  if constexpr (Operation::kWrites) cpu.set_reg<T>(i.rm, Operation::template apply<T>(old, bit));
  cpu.flags.set_cf((old & bit) != 0);
}
template <class Operation, class T>
void bit_in_memory(Cpu& cpu, const Insn& i, std::uint64_t at, std::uint64_t number) {
  const T bit = static_cast<T>(T{1} << (number % kBits<T>));
  T old;
  if constexpr (Operation::kWrites)
    old = cpu.modify<T>(i.segment, at, i.lock != 0,
                        [bit](T value) { return Operation::template apply<T>(value, bit); });
  else
    old = cpu.read<T>(i.segment, at);
  cpu.flags.set_cf((old & bit) != 0);
}

template <class Operation>
struct Bit {
  template <class T>
  struct Mi {
    static void reg(Cpu& cpu, const Insn& i) { bit_in_register<Operation, T>(cpu, i, i.imm); }
    static void mem(Cpu& cpu, const Insn& i) {
      bit_in_memory<Operation, T>(cpu, i, cpu.effective_address(i), i.imm);
    }
  };
  // A bit string in memory: the register's offset is signed and reaches past the operand.
  template <class T>
  struct Mr {
    static void reg(Cpu& cpu, const Insn& i) {
      bit_in_register<Operation, T>(cpu, i, cpu.reg<T>(i.reg));
    }
    static void mem(Cpu& cpu, const Insn& i) {
      const auto number =
          static_cast<std::int64_t>(static_cast<std::make_signed_t<T>>(cpu.reg<T>(i.reg)));
      const std::int64_t words = number >> std::countr_zero(kBits<T>);
      const std::uint64_t bytes = static_cast<std::uint64_t>(words) * sizeof(T);
      bit_in_memory<Operation, T>(cpu, i, cut(cpu.effective_address(i) + bytes, i.address),
                                  static_cast<std::uint64_t>(number));
    }
  };
};

template <class T>
T source(Cpu& cpu, const Insn& i) {
  return i.memory != 0 ? load<T>(cpu, i) : cpu.reg<T>(i.rm);
}

// ZF; the others are undefined.
template <class T>
void scan_flags(LazyFlags& flags, T value, decltype(host::flags_of_bsf<T>)& of_host) {
  const std::uint64_t before = flags.value();
  flags.logic(value);
  flags.set(of_host(before, flags.value(), T{}, value, 0));
}

// A source of 0 leaves the destination alone, as every CPU does (SDM says undefined).
template <class T>
struct Bsf {
  static void reg(Cpu& cpu, const Insn& i) {
    const T value = source<T>(cpu, i);
    scan_flags<T>(cpu.flags, value, host::flags_of_bsf<T>);
    if (value != 0) cpu.set_reg<T>(i.reg, static_cast<T>(std::countr_zero(value)));
  }
  static void mem(Cpu& cpu, const Insn& i) { reg(cpu, i); }
};
template <class T>
struct Bsr {
  static void reg(Cpu& cpu, const Insn& i) {
    const T value = source<T>(cpu, i);
    scan_flags<T>(cpu.flags, value, host::flags_of_bsr<T>);
    if (value != 0) cpu.set_reg<T>(i.reg, static_cast<T>(kBits<T> - 1 - std::countl_zero(value)));
  }
  static void mem(Cpu& cpu, const Insn& i) { reg(cpu, i); }
};
template <class T>
struct Popcnt {
  static void reg(Cpu& cpu, const Insn& i) {
    const T value = source<T>(cpu, i);
    cpu.set_reg<T>(i.reg, static_cast<T>(std::popcount(value)));
    cpu.flags.set(value == 0 ? 1u << 6 : 0u);
  }
  static void mem(Cpu& cpu, const Insn& i) { reg(cpu, i); }
};

// SDM Vol. 2, "CRC32": the polynomial 11EDC6F41H, bits reversed.
constexpr auto kCrc32c = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t n = 0; n < 256; ++n) {
    std::uint32_t value = n;
    for (int bit = 0; bit < 8; ++bit)
      value = value >> 1 ^ ((value & 1) != 0 ? 0x82f6'3b78u : 0u);
    table[n] = value;
  }
  return table;
}();

template <class T>
struct Crc32 {
  static void reg(Cpu& cpu, const Insn& i) {
    std::uint64_t value = source<T>(cpu, i);
    auto crc = static_cast<std::uint32_t>(cpu.gpr[i.reg]);
    for (std::size_t n = 0; n < sizeof(T); ++n, value >>= 8)
      crc = crc >> 8 ^ kCrc32c[(crc ^ value) & 0xff];
    cpu.gpr[i.reg] = crc;
  }
  static void mem(Cpu& cpu, const Insn& i) { reg(cpu, i); }
};

template <class T>
struct Xadd {
  static void reg(Cpu& cpu, const Insn& i) {
    const T a = cpu.reg<T>(i.rm), b = cpu.reg<T>(i.reg);
    cpu.set_reg<T>(i.reg, a);
    cpu.set_reg<T>(i.rm, cpu.flags.add(a, b));
  }
  static void mem(Cpu& cpu, const Insn& i) {
    const T b = cpu.reg<T>(i.reg);
    const T old = cpu.modify<T>(i.segment, cpu.effective_address(i), i.lock != 0,
                                [b](T a) { return static_cast<T>(a + b); });
    cpu.flags.add(old, b);
    cpu.set_reg<T>(i.reg, old);
  }
};

template <class T>
struct Cmpxchg {
  static void reg(Cpu& cpu, const Insn& i) {
    const T old = cpu.reg<T>(i.rm), wanted = cpu.reg<T>(kRax), next = cpu.reg<T>(i.reg);
    cpu.flags.sub(wanted, old);
    if (wanted == old)
      cpu.set_reg<T>(i.rm, next);
    else
      cpu.set_reg<T>(kRax, old);
  }
  static void mem(Cpu& cpu, const Insn& i) {
    const T wanted = cpu.reg<T>(kRax), next = cpu.reg<T>(i.reg);
    const T old = cpu.modify<T>(i.segment, cpu.effective_address(i), i.lock != 0,
                                [=](T value) { return value == wanted ? next : value; });
    cpu.flags.sub(wanted, old);
    if (wanted != old) cpu.set_reg<T>(kRax, old);
  }
};

std::uint64_t pair(const Cpu& cpu, unsigned high, unsigned low) {
  return std::uint64_t{cpu.reg<std::uint32_t>(high)} << 32 | cpu.reg<std::uint32_t>(low);
}

void cmpxchg8b(Cpu& cpu, const Insn& i) {
  const std::uint64_t wanted = pair(cpu, kRdx, kRax), next = pair(cpu, kRcx, kRbx);
  const std::uint64_t old =
      cpu.modify<std::uint64_t>(i.segment, cpu.effective_address(i), i.lock != 0,
                                [=](std::uint64_t v) { return v == wanted ? next : v; });
  cpu.flags.set_zf(old == wanted);
  if (old == wanted) return;
  cpu.set_reg(kRax, static_cast<std::uint32_t>(old));
  cpu.set_reg(kRdx, static_cast<std::uint32_t>(old >> 32));
}

void cmpxchg16b(Cpu& cpu, const Insn& i) {
  const std::uint64_t at = cpu.effective_address(i);
  if (((at + cpu.windows[i.segment].base) & 15) != 0) cpu.protection_fault();
  const Xmm wanted{{cpu.gpr[kRax], cpu.gpr[kRdx]}}, next{{cpu.gpr[kRbx], cpu.gpr[kRcx]}};
  const Xmm old = cpu.modify<Xmm>(i.segment, at, i.lock != 0,
                                  [&](const Xmm& v) { return v == wanted ? next : v; });
  cpu.flags.set_zf(old == wanted);
  if (old == wanted) return;
  cpu.gpr[kRax] = old.qword[0];
  cpu.gpr[kRdx] = old.qword[1];
}

constexpr Binding wide_exchange() {
  Binding binding{Op::kCmpxchg8b};
  binding.mem = binding.locked = {nullptr, cmpxchg8b, cmpxchg8b, cmpxchg16b};
  return binding;
}

}  // namespace

std::span<const Binding> bit_bindings() {
#define HV_BIT(Name, Operation) \
  sized<Bit<Operation>::Mr>(Op::k##Name##Mr), sized<Bit<Operation>::Mi>(Op::k##Name##Mi)
  static constexpr Binding kAll[] = {
      HV_BIT(Bt, Keep), HV_BIT(Bts, SetBit), HV_BIT(Btr, ResetBit), HV_BIT(Btc, Complement),
      sized<Bsf>(Op::kBsf), sized<Bsr>(Op::kBsr), sized<Popcnt>(Op::kPopcnt),
      sized<Crc32>(Op::kCrc32), sized<Xadd>(Op::kXadd), sized<Cmpxchg>(Op::kCmpxchg),
      wide_exchange(),
  };
#undef HV_BIT
  return kAll;
}

}  // namespace hv::softcpu

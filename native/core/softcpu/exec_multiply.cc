// MUL IMUL DIV IDIV, and the conversions between widths that go before a division.
#include <limits>

#include "softcpu/exec_integer.h"
#include "softcpu/host/undefined_flags.h"

namespace hv::softcpu {

namespace {

// Twice as wide as T.
template <class T> struct Wider;
template <> struct Wider<std::uint8_t> { using U = std::uint16_t; using S = std::int16_t; };
template <> struct Wider<std::uint16_t> { using U = std::uint32_t; using S = std::int32_t; };
template <> struct Wider<std::uint32_t> { using U = std::uint64_t; using S = std::int64_t; };
template <> struct Wider<std::uint64_t> { using U = unsigned __int128; using S = __int128; };
template <class T> using Wide = typename Wider<T>::U;
template <class T> using SignedWide = typename Wider<T>::S;
template <class T> constexpr unsigned kBits = std::numeric_limits<T>::digits;

// rDX:rAX, or AX for bytes.
template <class T>
Wide<T> dividend(const Cpu& cpu) {
  if constexpr (sizeof(T) == 1)
    return cpu.reg<std::uint16_t>(kRax);
  else
    return static_cast<Wide<T>>(static_cast<Wide<T>>(cpu.reg<T>(kRdx)) << kBits<T> |
                                cpu.reg<T>(kRax));
}
template <class T>
void set_pair(Cpu& cpu, T low, T high) {
  cpu.set_reg<T>(kRax, low);
  cpu.set_reg<T>(sizeof(T) == 1 ? std::uint8_t{kAh} : std::uint8_t{kRdx}, high);
}

template <class T>
T source(Cpu& cpu, const Insn& i) {
  return i.memory != 0 ? load<T>(cpu, i) : cpu.reg<T>(i.rm);
}

template <class T>
SignedWide<T> extend(T value) {
  return static_cast<std::make_signed_t<T>>(value);
}

// CF and OF tell whether the product needs its upper half; the others are undefined.
template <class T>
void product_flags(LazyFlags& flags, T low, bool cut_off, T a, T b,
                   decltype(host::flags_of_mul<T>)& of_host) {
  const std::uint64_t before = flags.value();
  flags.result(low, cut_off, cut_off);
  flags.set(of_host(before, flags.value(), a, b, 0));
}
template <class T>
T signed_product(LazyFlags& flags, T a, T b, T& high,
                 decltype(host::flags_of_imul<T>)& of_host = host::flags_of_imul<T>) {
  const auto product = static_cast<Wide<T>>(extend(a) * extend(b));
  const T low = static_cast<T>(product);
  high = static_cast<T>(product >> kBits<T>);
  const bool cut_off = static_cast<SignedWide<T>>(product) != extend(low);
  product_flags<T>(flags, low, cut_off, a, b, of_host);
  return low;
}

template <class T>
struct Mul {
  static void reg(Cpu& cpu, const Insn& i) {
    const T b = source<T>(cpu, i);
    const T a = cpu.reg<T>(kRax);
    const auto product =
        static_cast<Wide<T>>(static_cast<Wide<T>>(a) * static_cast<Wide<T>>(b));
    const T low = static_cast<T>(product), high = static_cast<T>(product >> kBits<T>);
    set_pair<T>(cpu, low, high);
    product_flags<T>(cpu.flags, low, high != 0, a, b, host::flags_of_mul<T>);
  }
  static void mem(Cpu& cpu, const Insn& i) { reg(cpu, i); }
};
template <class T>
struct ImulA {
  static void reg(Cpu& cpu, const Insn& i) {
    T high;
    const T b = source<T>(cpu, i);
    const T low = signed_product<T>(cpu.flags, cpu.reg<T>(kRax), b, high,
                                    host::flags_of_imul_wide<T>);
    set_pair<T>(cpu, low, high);
  }
  static void mem(Cpu& cpu, const Insn& i) { reg(cpu, i); }
};
template <class T>
struct ImulRm {
  static void reg(Cpu& cpu, const Insn& i) {
    T high;
    const T b = source<T>(cpu, i);
    cpu.set_reg<T>(i.reg, signed_product<T>(cpu.flags, cpu.reg<T>(i.reg), b, high));
  }
  static void mem(Cpu& cpu, const Insn& i) { reg(cpu, i); }
};
template <class T>
struct ImulRmi {
  static void reg(Cpu& cpu, const Insn& i) {
    T high;
    const T a = source<T>(cpu, i);
    cpu.set_reg<T>(i.reg, signed_product<T>(cpu.flags, a, static_cast<T>(i.imm), high));
  }
  static void mem(Cpu& cpu, const Insn& i) { reg(cpu, i); }
};

// The flags are undefined after a division and stay as they are.
template <class T>
struct Div {
  static void reg(Cpu& cpu, const Insn& i) {
    const T by = source<T>(cpu, i);
    const Wide<T> value = dividend<T>(cpu);
    if (by == 0) cpu.raise(Vector::kDe);
    if (static_cast<T>(value >> kBits<T>) >= by) cpu.raise(Vector::kDe);
    if (sizeof(T) == 8 && (value >> kBits<T>) == 0) {
      const T low = static_cast<T>(value);
      return set_pair<T>(cpu, static_cast<T>(low / by), static_cast<T>(low % by));
    }
    set_pair<T>(cpu, static_cast<T>(value / by), static_cast<T>(value % by));
  }
  static void mem(Cpu& cpu, const Insn& i) { reg(cpu, i); }
};
// By magnitudes: the least number has one, divided by -1 or not.
template <class T>
struct Idiv {
  static void reg(Cpu& cpu, const Insn& i) {
    const T by = source<T>(cpu, i);
    const Wide<T> value = dividend<T>(cpu);
    const bool value_negative = static_cast<SignedWide<T>>(value) < 0;
    const bool by_negative = static_cast<std::make_signed_t<T>>(by) < 0;
    const Wide<T> magnitude = value_negative ? static_cast<Wide<T>>(0 - value) : value;
    const T by_magnitude = by_negative ? static_cast<T>(0 - by) : by;
    if (by == 0) cpu.raise(Vector::kDe);
    const Wide<T> quotient = static_cast<Wide<T>>(magnitude / by_magnitude);
    const T rest = static_cast<T>(magnitude % by_magnitude);
    const bool negative = value_negative != by_negative;
    const Wide<T> limit = (Wide<T>{1} << (kBits<T> - 1)) - (negative ? 0 : 1);
    if (quotient > limit) cpu.raise(Vector::kDe);
    const T q = static_cast<T>(quotient);
    set_pair<T>(cpu, negative ? static_cast<T>(0 - q) : q,
                value_negative ? static_cast<T>(0 - rest) : rest);
  }
  static void mem(Cpu& cpu, const Insn& i) { reg(cpu, i); }
};

// CBW CWDE CDQE: the accumulator from its lower half.
template <class From, class To>
void widen(Cpu& cpu, const Insn&) {
  const auto half = static_cast<std::make_signed_t<From>>(cpu.reg<From>(kRax));
  cpu.set_reg<To>(kRax, static_cast<To>(half));
}
// CWD CDQ CQO: the sign of the accumulator fills rDX.
template <class T>
struct Cwd {
  static void reg(Cpu& cpu, const Insn&) {
    const bool negative = (cpu.reg<T>(kRax) >> (kBits<T> - 1)) != 0;
    cpu.set_reg<T>(kRdx, negative ? static_cast<T>(~T{0}) : T{0});
  }
};

constexpr Binding cbw() {
  Binding binding{Op::kCbw};
  binding.reg = {nullptr, widen<std::uint8_t, std::uint16_t>, widen<std::uint16_t, std::uint32_t>,
                 widen<std::uint32_t, std::uint64_t>};
  return binding;
}

}  // namespace

std::span<const Binding> multiply_bindings() {
  static constexpr Binding kAll[] = {
      sized<Mul>(Op::kMul), sized<ImulA>(Op::kImulA), sized<ImulRm>(Op::kImulRm),
      sized<ImulRmi>(Op::kImulRmi), sized<Div>(Op::kDiv), sized<Idiv>(Op::kIdiv),
      cbw(), sized<Cwd>(Op::kCwd),
  };
  return kAll;
}

}  // namespace hv::softcpu

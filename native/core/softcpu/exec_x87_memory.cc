// The x87's loads and stores, and what moves values about its stack.
//
// A store writes memory before anything of the FPU changes, so that a fault leaves no trace.
#include "softcpu/exec_x87.h"

namespace hv::softcpu::x87 {

using namespace softfloat;

namespace {

F80 read_f80(Cpu& cpu, const Insn& insn) {
  const std::uint64_t at = cpu.effective_address(insn);
  const auto significand = cpu.read<std::uint64_t>(insn.segment, at);
  return {significand, cpu.read<std::uint16_t>(insn.segment, at + 8)};
}

void write_80(Cpu& cpu, const Insn& insn, std::uint64_t low, std::uint16_t high) {
  const std::uint64_t at = cpu.effective_address(insn);
  cpu.probe_write(insn.segment, at, 10);
  cpu.write<std::uint64_t>(insn.segment, at, low);
  cpu.write<std::uint16_t>(insn.segment, at + 8, high);
}

// Pushes what came from memory or a constant, with the overflow that a full stack gives.
void push_value(X87& fpu, const F80& value) {
  if (!fpu.empty(7)) {
    if (fpu.overflow()) fpu.push(kIndefinite80);
    return;
  }
  fpu.condition(kX87C1, 0);
  fpu.push(value);
}

void push_float(Cpu& cpu, const Insn& insn, const Parts& value) {
  x87_note(cpu, insn);
  X87 fpu = x87_of(cpu);
  if (!fpu.empty(7)) return push_value(fpu, kIndefinite80);
  FloatStatus status = fpu.begin();
  const F80 loaded = f80_load(value, status);
  fpu.end(status);
  if (!status.unmasked(kInvalid)) fpu.push(loaded);
}

template <class Int>
void push_integer(Cpu& cpu, const Insn& insn) {
  x87_begin(cpu);
  const auto bits =
      cpu.read<std::make_unsigned_t<Int>>(insn.segment, cpu.effective_address(insn));
  x87_note(cpu, insn);
  X87 fpu = x87_of(cpu);
  push_value(fpu, f80_of_integer(static_cast<Int>(bits)));
}

// A store that computes: `convert(parts, status)` gives the value, `write(value)` stores it. An
// unmasked exception leaves `length` bytes of memory as they are, but where they could not be
// written that comes first.
template <class Value, class Convert, class Write>
void store(Cpu& cpu, const Insn& insn, unsigned length, bool pops, const Value& indefinite,
           Convert&& convert, Write&& write) {
  x87_begin(cpu);
  FpuState after = cpu.fpu;
  X87 fpu{after};
  Value value = indefinite;
  bool stores = true;
  if (fpu.empty(0)) {
    stores = fpu.underflow();
  } else {
    FloatStatus status = fpu.begin();
    value = convert(fpu.operand(0), status);
    fpu.end(status);
    stores = !status.unmasked(kInvalid | kOverflow | kUnderflow);
  }
  if (stores)
    write(value);
  else
    cpu.probe_write(insn.segment, cpu.effective_address(insn), length);
  if (stores && pops) fpu.pop();
  cpu.fpu.status = after.status;
  cpu.fpu.tags = after.tags;
  x87_note(cpu, insn);
}

template <class Int>
void store_integer(Cpu& cpu, const Insn& insn, bool pops, bool truncates) {
  using Unsigned = std::make_unsigned_t<Int>;
  constexpr unsigned kBits = sizeof(Int) * 8;
  store(
      cpu, insn, sizeof(Int), pops, static_cast<Unsigned>(1ull << (kBits - 1)),
      [=](const Parts& a, FloatStatus& status) {
        const Rounding rounding = truncates ? Rounding::kTowardZero : status.rounding;
        return static_cast<Unsigned>(f80_to_integer(a, kBits, rounding, status));
      },
      [&](Unsigned value) {
        cpu.write<Unsigned>(insn.segment, cpu.effective_address(insn), value);
      });
}

bool digit_pops(const Insn& insn) { return x87_digit(insn) == 3; }

void store_register(Cpu& cpu, const Insn& insn, bool pops) {
  X87 fpu = x87_start(cpu, insn);
  const unsigned i = x87_index(insn);
  if (fpu.empty(0)) {
    if (!fpu.underflow()) return;
    fpu.set(i, kIndefinite80);
  } else {
    fpu.condition(kX87C1, 0);
    fpu.set(i, fpu.st(0));
  }
  if (pops) fpu.pop();
}

}  // namespace

void ld_m32(Cpu& cpu, const Insn& insn) {
  x87_begin(cpu);
  const auto bits = cpu.read<std::uint32_t>(insn.segment, cpu.effective_address(insn));
  push_float(cpu, insn, unpack_f32(bits));
}
void ld_m64(Cpu& cpu, const Insn& insn) {
  x87_begin(cpu);
  const auto bits = cpu.read<std::uint64_t>(insn.segment, cpu.effective_address(insn));
  push_float(cpu, insn, unpack_f64(bits));
}
void ld_m80(Cpu& cpu, const Insn& insn) {
  x87_begin(cpu);
  const F80 value = read_f80(cpu, insn);
  x87_note(cpu, insn);
  X87 fpu = x87_of(cpu);
  push_value(fpu, value);
}
void ild_i16(Cpu& cpu, const Insn& insn) { push_integer<std::int16_t>(cpu, insn); }
void ild_i32(Cpu& cpu, const Insn& insn) { push_integer<std::int32_t>(cpu, insn); }
void ild_i64(Cpu& cpu, const Insn& insn) { push_integer<std::int64_t>(cpu, insn); }
void bld(Cpu& cpu, const Insn& insn) {
  x87_begin(cpu);
  const F80 bytes = read_f80(cpu, insn);
  x87_note(cpu, insn);
  X87 fpu = x87_of(cpu);
  push_value(fpu, f80_of_bcd({bytes.significand, bytes.sign_exponent}));
}

void ld_st(Cpu& cpu, const Insn& insn) {
  X87 fpu = x87_start(cpu, insn);
  const unsigned i = x87_index(insn);
  if (fpu.empty(i)) {
    if (fpu.underflow()) fpu.push(kIndefinite80);
    return;
  }
  push_value(fpu, F80{fpu.st(i)});
}

// SDM Vol. 2, FLD1 and kin: 64 bits of the constant as the rounding control wants them.
void ld_constant(Cpu& cpu, const Insn& insn) {
  struct Constant {
    std::uint64_t significand;  // rounded down
    std::uint16_t exponent;
    bool exact, nearest_is_up;
  };
  static constexpr Constant kConstants[8] = {
      {0x8000000000000000, 0x3fff, true, false},  // 1
      {0xd49a784bcd1b8afe, 0x4000, false, false}, // log2(10)
      {0xb8aa3b295c17f0bb, 0x3fff, false, true},  // log2(e)
      {0xc90fdaa22168c234, 0x4000, false, true},  // pi
      {0x9a209a84fbcff798, 0x3ffd, false, true},  // log10(2)
      {0xb17217f7d1cf79ab, 0x3ffe, false, true},  // ln(2)
      {0, 0, true, false},                        // 0
      {0, 0, true, false},
  };
  X87 fpu = x87_start(cpu, insn);
  const Constant& constant = kConstants[x87_index(insn)];
  const Rounding rounding = fpu.begin().rounding;
  const bool up = rounding == Rounding::kUp ||
                  (rounding == Rounding::kNearestEven && constant.nearest_is_up);
  const std::uint64_t significand = constant.significand + (up && !constant.exact ? 1 : 0);
  push_value(fpu, {significand, constant.exponent});
}

void st_m32(Cpu& cpu, const Insn& insn) {
  store(cpu, insn, 4, digit_pops(insn), f32{0xffc00000}, f80_to_f32, [&](f32 value) {
    cpu.write<std::uint32_t>(insn.segment, cpu.effective_address(insn), value);
  });
}
void st_m64(Cpu& cpu, const Insn& insn) {
  store(cpu, insn, 8, digit_pops(insn), f64{0xfff8000000000000}, f80_to_f64, [&](f64 value) {
    cpu.write<std::uint64_t>(insn.segment, cpu.effective_address(insn), value);
  });
}
void stp_m80(Cpu& cpu, const Insn& insn) {
  x87_begin(cpu);
  const F80 raw = x87_of(cpu).st(0);
  store(
      cpu, insn, 10, true, kIndefinite80, [&](const Parts&, FloatStatus&) { return raw; },
      [&](const F80& value) { write_80(cpu, insn, value.significand, value.sign_exponent); });
}
void bstp(Cpu& cpu, const Insn& insn) {
  store(
      cpu, insn, 10, true, Bcd{0xc000000000000000, 0xffff}, f80_to_bcd,
      [&](const Bcd& bcd) { write_80(cpu, insn, bcd.low, bcd.high); });
}

void ist_i16(Cpu& cpu, const Insn& insn) {
  store_integer<std::int16_t>(cpu, insn, digit_pops(insn), false);
}
void ist_i32(Cpu& cpu, const Insn& insn) {
  store_integer<std::int32_t>(cpu, insn, digit_pops(insn), false);
}
void istp_i64(Cpu& cpu, const Insn& insn) { store_integer<std::int64_t>(cpu, insn, true, false); }
void isttp_i16(Cpu& cpu, const Insn& insn) { store_integer<std::int16_t>(cpu, insn, true, true); }
void isttp_i32(Cpu& cpu, const Insn& insn) { store_integer<std::int32_t>(cpu, insn, true, true); }
void isttp_i64(Cpu& cpu, const Insn& insn) { store_integer<std::int64_t>(cpu, insn, true, true); }

void st_st(Cpu& cpu, const Insn& insn) { store_register(cpu, insn, digit_pops(insn)); }
void stp_st(Cpu& cpu, const Insn& insn) { store_register(cpu, insn, true); }
// The form of D9 does not mind an empty ST(0): it only pops it.
void stp_st1(Cpu& cpu, const Insn& insn) {
  X87 fpu = x87_start(cpu, insn);
  fpu.condition(kX87C1, 0);
  if (!fpu.empty(0)) fpu.set(x87_index(insn), fpu.st(0));
  fpu.pop();
}

void xch(Cpu& cpu, const Insn& insn) {
  X87 fpu = x87_start(cpu, insn);
  const unsigned i = x87_index(insn);
  if (fpu.empty(0) || fpu.empty(i)) {
    if (!fpu.underflow()) return;
    if (fpu.empty(0)) fpu.set(0, kIndefinite80);
    if (fpu.empty(i)) fpu.set(i, kIndefinite80);
  } else {
    fpu.condition(kX87C1, 0);
  }
  std::swap(fpu.st(0), fpu.st(i));
}

void nop(Cpu& cpu, const Insn& insn) { x87_start(cpu, insn); }

void free(Cpu& cpu, const Insn& insn) {
  X87 fpu = x87_start(cpu, insn);
  fpu.condition(kX87C1, 0);
  fpu.release(x87_index(insn));
}
void freep(Cpu& cpu, const Insn& insn) {
  X87 fpu = x87_start(cpu, insn);
  fpu.condition(kX87C1, 0);
  fpu.release(x87_index(insn));
  fpu.pop();
}
void incstp(Cpu& cpu, const Insn& insn) {
  X87 fpu = x87_start(cpu, insn);
  fpu.condition(kX87C1, 0);
  fpu.rotate(1);
}
void decstp(Cpu& cpu, const Insn& insn) {
  X87 fpu = x87_start(cpu, insn);
  fpu.condition(kX87C1, 0);
  fpu.rotate(7);
}

}  // namespace hv::softcpu::x87

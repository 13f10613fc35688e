#include "softcpu/translator/assembler.h"


namespace hv::softcpu::translator {

namespace {

bool fits8(std::uint64_t value) {
  const auto number = static_cast<std::int64_t>(value);
  return number >= -128 && number <= 127;
}
bool fits32(std::uint64_t value) {
  const auto number = static_cast<std::int64_t>(value);
  return number >= INT32_MIN && number <= INT32_MAX;
}
// `value` as an operand of this size sees it, sign-extended.
std::uint64_t extended(Size size, std::uint64_t value) {
  switch (size) {
    case k8: return static_cast<std::uint64_t>(std::int64_t{static_cast<std::int8_t>(value)});
    case k16: return static_cast<std::uint64_t>(std::int64_t{static_cast<std::int16_t>(value)});
    case k32: return static_cast<std::uint64_t>(std::int64_t{static_cast<std::int32_t>(value)});
    default: return value;
  }
}
unsigned immediate_bytes(Size size) { return size == k8 ? 1 : size == k16 ? 2 : 4; }

}  // namespace

// SDM Vol. 2, "REX Prefixes".
void Assembler::rex(Size size, unsigned reg, const Rm& rm, bool force) {
  const unsigned base = softcpu::translator::number(rm.base);
  const unsigned index = rm.memory ? softcpu::translator::number(rm.index) : 0;
  const unsigned bits = (size == k64 ? 8u : 0u) | (reg >= 8 ? 4u : 0u) | (index >= 8 ? 2u : 0u) |
                        (rm.has_base && base >= 8 ? 1u : 0u);
  if (bits != 0 || force) byte(static_cast<std::uint8_t>(0x40 | bits));
}

// SDM Vol. 2, "32-Bit Addressing Forms with the ModR/M Byte", and "… with the SIB Byte".
void Assembler::modrm(unsigned reg, const Rm& rm) {
  const unsigned field = (reg & 7) << 3, base = softcpu::translator::number(rm.base) & 7;
  if (!rm.memory) return byte(static_cast<std::uint8_t>(0xc0 | field | base));
  const unsigned index = softcpu::translator::number(rm.index) & 7;
  if (!rm.has_base) {
    byte(static_cast<std::uint8_t>(field | 4));
    byte(static_cast<std::uint8_t>(unsigned{rm.scale} << 6 | index << 3 | 5));
    return immediate(static_cast<std::uint32_t>(rm.disp), 4);
  }
  const bool sib = base == 4 || rm.index != Rm::kNone;
  const auto disp = static_cast<std::uint64_t>(std::int64_t{rm.disp});
  const unsigned mod = rm.disp == 0 && base != 5 ? 0 : fits8(disp) ? 1 : 2;
  byte(static_cast<std::uint8_t>(mod << 6 | field | (sib ? 4 : base)));
  if (sib) byte(static_cast<std::uint8_t>(unsigned{rm.scale} << 6 | index << 3 | base));
  if (mod != 0) immediate(disp, mod == 1 ? 1 : 4);
}

void Assembler::encode(Size size, Map map, std::uint8_t opcode, unsigned reg, const Rm& rm,
                       bool reg_is_general, unsigned) {
  const auto needs_rex = [](unsigned n) { return n >= 4 && n < 8; };
  const bool bytes_of = size == k8;
  const bool force = bytes_of && ((reg_is_general && needs_rex(reg)) ||
                                  (!rm.memory && needs_rex(softcpu::translator::number(rm.base))));
  if (size == k16) byte(0x66);
  if (prefix_ != 0) byte(prefix_);
  prefix_ = 0;
  rex(size, reg, rm, force);
  if (map != Map::kOne) byte(0x0f);
  if (map == Map::k0F38) byte(0x38);
  if (map == Map::k0F3A) byte(0x3a);
  byte(opcode);
  modrm(reg, rm);
}

// A byte source in a register may need a REX prefix though the operation is wider.
void Assembler::extend(Size to_size, std::uint8_t opcode, Host to, Rm from, Size from_size) {
  const unsigned source = softcpu::translator::number(from.base);
  const bool force = from_size == k8 && !from.memory && source >= 4 && source < 8;
  if (to_size == k16) byte(0x66);
  rex(to_size, softcpu::translator::number(to), from, force);
  byte(0x0f);
  byte(opcode);
  modrm(softcpu::translator::number(to), from);
}

void Assembler::movsx(Size to_size, Host to, Rm from, Size from_size) {
  if (from_size == k32) return op(k64, Map::kOne, 0x63, to, from);
  extend(to_size, from_size == k8 ? 0xbe : 0xbf, to, from, from_size);
}

void Assembler::mov_imm(Size size, Rm to, std::uint64_t value) {
  digit(size, Map::kOne, size == k8 ? 0xc6 : 0xc7, 0, to, immediate_bytes(size));
  immediate(value, immediate_bytes(size));
}

void Assembler::load_imm(Host to, std::uint64_t value) {
  if (value >> 32 != 0 && fits32(value)) return mov_imm(k64, Rm::reg(to), value);
  const bool wide = value >> 32 != 0;
  rex(wide ? k64 : k32, 0, Rm::reg(to), false);
  byte(static_cast<std::uint8_t>(0xb8 | (softcpu::translator::number(to) & 7)));
  immediate(value, wide ? 8 : 4);
}

void Assembler::alu_imm(Alu kind, Size size, Rm to, std::uint64_t value) {
  const std::uint64_t wanted = extended(size, value);
  if (size == k8) {
    digit(size, Map::kOne, 0x80, number(kind), to, 1);
    return immediate(value, 1);
  }
  const bool is_short = fits8(wanted);
  digit(size, Map::kOne, is_short ? 0x83 : 0x81, number(kind), to, is_short ? 1 : 4);
  immediate(wanted, is_short ? 1 : immediate_bytes(size));
}

void Assembler::test_imm(Size size, Rm a, std::uint64_t value) {
  digit(size, Map::kOne, size == k8 ? 0xf6 : 0xf7, 0, a, immediate_bytes(size));
  immediate(value, immediate_bytes(size));
}

void Assembler::imul_imm(Size size, Host to, Rm from, std::uint64_t value) {
  const bool is_short = fits8(extended(size, value));
  op(size, Map::kOne, is_short ? 0x6b : 0x69, to, from, is_short ? 1 : 4);
  immediate(value, is_short ? 1 : immediate_bytes(size));
}

void Assembler::shift_imm(Shift kind, Size size, Rm rm, std::uint8_t count) {
  const auto which = static_cast<unsigned>(kind);
  if (count == 1) return digit(size, Map::kOne, size == k8 ? 0xd0 : 0xd1, which, rm);
  digit(size, Map::kOne, size == k8 ? 0xc0 : 0xc1, which, rm, 1);
  byte(count);
}

void Assembler::bswap(Size size, Host reg) {
  rex(size, 0, Rm::reg(reg), false);
  byte(0x0f);
  byte(static_cast<std::uint8_t>(0xc8 | (softcpu::translator::number(reg) & 7)));
}

void Assembler::push(Host reg) {
  rex(k32, 0, Rm::reg(reg), false);
  byte(static_cast<std::uint8_t>(0x50 | (softcpu::translator::number(reg) & 7)));
}

void Assembler::pop(Host reg) {
  rex(k32, 0, Rm::reg(reg), false);
  byte(static_cast<std::uint8_t>(0x58 | (softcpu::translator::number(reg) & 7)));
}

}  // namespace hv::softcpu::translator

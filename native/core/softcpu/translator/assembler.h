// Writes x86-64 instructions (Intel SDM Vol. 2). One function for each shape of encoding that the
// translator uses; operands are typed, so that a register and a number cannot be confused.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>

#include "softcpu/insn.h"

namespace hv::softcpu::translator {

enum class Host : std::uint8_t {
  kRax, kRcx, kRdx, kRbx, kRsp, kRbp, kRsi, kRdi, kR8, kR9, kR10, kR11, kR12, kR13, kR14, kR15
};
constexpr unsigned number(Host reg) { return static_cast<unsigned>(reg); }

// An r/m operand: a register, or memory at base + index * 2^scale + disp.
struct Rm {
  static constexpr Host kNone = Host::kRsp;  // as an index: SIB has no other way to say so
  bool memory = false, has_base = true;
  Host base{};  // or the register itself
  Host index = kNone;
  std::uint8_t scale = 0;
  std::int32_t disp = 0;

  static constexpr Rm reg(Host reg) { return {false, true, reg, kNone, 0, 0}; }
  static constexpr Rm at(Host base, std::int32_t disp = 0) {
    return {true, true, base, kNone, 0, disp};
  }
  static constexpr Rm indexed(Host base, Host index, std::uint8_t scale, std::int32_t disp) {
    return {true, true, base, index, scale, disp};
  }
  static constexpr Rm scaled(Host index, std::uint8_t scale, std::int32_t disp) {
    return {true, false, Host::kRax, index, scale, disp};
  }
};

// By the digit of group 1, and bits 5:3 of the opcodes 00 to 3F.
enum class Alu : std::uint8_t { kAdd, kOr, kAdc, kSbb, kAnd, kSub, kXor, kCmp };
// Group 2.
enum class Shift : std::uint8_t { kRol, kRor, kRcl, kRcr, kShl, kShr, kSal, kSar };
// Group 3, by digit.
enum class Unary : std::uint8_t { kNot = 2, kNeg = 3, kMul = 4, kImul = 5, kDiv = 6, kIdiv = 7 };
// Condition codes (SDM Vol. 2, appendix B).
enum Condition : std::uint8_t { kO, kNo, kB, kNb, kZ, kNz, kBe, kNbe, kS, kNs, kP, kNp, kL, kNl, kLe, kNle };

// A place whose rel32 is not known yet.
struct Fixup {
  std::uint8_t* at = nullptr;  // of the four bytes
};

enum class Map : std::uint8_t { kOne, k0F, k0F38, k0F3A };

class Assembler {
 public:
  typedef std::uint32_t Unaligned32 __attribute__((aligned(1), may_alias));

  Assembler(std::uint8_t* begin, std::uint8_t* end) : at_(begin), end_(end) {}

  std::uint8_t* here() const { return at_; }
  void move_to(std::uint8_t* at) { at_ = at; }
  std::size_t room() const { return static_cast<std::size_t>(end_ - at_); }
  // Something did not fit: what was written is not code.
  bool overflowed() const { return overflowed_; }
  void restart(std::uint8_t* begin) {
    at_ = begin;
    overflowed_ = false;
  }

  // ---- moves
  void mov(Size size, Host to, Rm from) { op(size, Map::kOne, size == k8 ? 0x8a : 0x8b, to, from); }
  void mov(Size size, Rm to, Host from) { op(size, Map::kOne, size == k8 ? 0x88 : 0x89, from, to); }
  void mov(Host to, Host from) { mov(k64, to, Rm::reg(from)); }
  void mov_imm(Size size, Rm to, std::uint64_t value);  // sign-extended from 32 bits for k64
  void load_imm(Host to, std::uint64_t value);          // the shortest way; keeps the flags
  void movzx(Size to_size, Host to, Rm from, Size from_size) {
    extend(to_size, from_size == k8 ? 0xb6 : 0xb7, to, from, from_size);
  }
  void movsx(Size to_size, Host to, Rm from, Size from_size);
  void lea(Size size, Host to, Rm from) { op(size, Map::kOne, 0x8d, to, from); }
  void xchg(Size size, Rm a, Host b) { op(size, Map::kOne, size == k8 ? 0x86 : 0x87, b, a); }
  void bswap(Size size, Host reg);
  void push(Host reg);
  void pop(Host reg);

  // ---- arithmetic
  void alu(Alu kind, Size size, Host to, Rm from) {
    op(size, Map::kOne, static_cast<std::uint8_t>(number(kind) * 8 + (size == k8 ? 2 : 3)), to, from);
  }
  void alu(Alu kind, Size size, Rm to, Host from) {
    op(size, Map::kOne, static_cast<std::uint8_t>(number(kind) * 8 + (size == k8 ? 0 : 1)), from, to);
  }
  void alu_imm(Alu kind, Size size, Rm to, std::uint64_t value);
  void test(Size size, Rm a, Host b) { op(size, Map::kOne, size == k8 ? 0x84 : 0x85, b, a); }
  void test_imm(Size size, Rm a, std::uint64_t value);
  void unary(Unary kind, Size size, Rm rm) {
    digit(size, Map::kOne, size == k8 ? 0xf6 : 0xf7, static_cast<unsigned>(kind), rm);
  }
  void inc(Size size, Rm rm) { digit(size, Map::kOne, size == k8 ? 0xfe : 0xff, 0, rm); }
  void dec(Size size, Rm rm) { digit(size, Map::kOne, size == k8 ? 0xfe : 0xff, 1, rm); }
  void imul(Size size, Host to, Rm from) { op(size, Map::k0F, 0xaf, to, from); }
  void imul_imm(Size size, Host to, Rm from, std::uint64_t value);
  void shift_imm(Shift kind, Size size, Rm rm, std::uint8_t count);
  void shift_cl(Shift kind, Size size, Rm rm) {
    digit(size, Map::kOne, size == k8 ? 0xd2 : 0xd3, static_cast<unsigned>(kind), rm);
  }
  // SHLD (`left`) or SHRD.
  void shift_double_imm(bool left, Size size, Rm to, Host from, std::uint8_t count) {
    op(size, Map::k0F, left ? 0xa4 : 0xac, from, to, 1);
    byte(count);
  }
  void shift_double_cl(bool left, Size size, Rm to, Host from) {
    op(size, Map::k0F, left ? 0xa5 : 0xad, from, to);
  }
  // `digit`: 4 BT, 5 BTS, 6 BTR, 7 BTC.
  void bit(unsigned which, Size size, Rm rm, Host offset) {
    op(size, Map::k0F, static_cast<std::uint8_t>(0x83 + 8 * which), offset, rm);
  }
  void bit_imm(unsigned which, Size size, Rm rm, std::uint8_t offset) {
    digit(size, Map::k0F, 0xba, which, rm, 1);
    byte(offset);
  }
  void scan(bool reverse, Size size, Host to, Rm from) {
    op(size, Map::k0F, reverse ? 0xbd : 0xbc, to, from);
  }
  void popcnt(Size size, Host to, Rm from) {
    prefix_ = 0xf3;
    op(size, Map::k0F, 0xb8, to, from);
  }
  void xadd(Size size, Rm to, Host from) { op(size, Map::k0F, size == k8 ? 0xc0 : 0xc1, from, to); }
  void cmpxchg(Size size, Rm to, Host from) {
    op(size, Map::k0F, size == k8 ? 0xb0 : 0xb1, from, to);
  }
  void setcc(Condition code, Rm to) {
    digit(k8, Map::k0F, static_cast<std::uint8_t>(0x90 + code), 0, to);
  }
  void cmov(Condition code, Size size, Host to, Rm from) {
    op(size, Map::k0F, static_cast<std::uint8_t>(0x40 + code), to, from);
  }
  void lock() { byte(0xf0); }
  void mfence() { bytes({0x0f, 0xae, 0xf0}); }
  void lahf() { byte(0x9f); }
  void sahf() { byte(0x9e); }
  void clc() { byte(0xf8); }
  void stc() { byte(0xf9); }
  void cmc() { byte(0xf5); }

  // ---- SSE. `prefix` 0, 66, F2 or F3; registers are numbers of xmm.
  void sse(std::uint8_t prefix, Map map, std::uint8_t opcode, unsigned xmm, Rm rm,
           Size general = k32, unsigned imm_bytes = 0) {
    prefix_ = prefix;
    encode(general == k64 ? k64 : k32, map, opcode, xmm, rm, false, imm_bytes);
  }
  void immediate8(std::uint8_t value) { byte(value); }

  // EAX from a fixed address, and its comparison with a number that may be changed later.
  void load_eax(const void* from) {
    byte(0xa1);
    immediate(reinterpret_cast<std::uintptr_t>(from), 8);
  }
  Fixup compare_eax(std::uint32_t with) {
    byte(0x3d);
    const Fixup place = rel32();
    set(place, with);
    return place;
  }
  static void set(Fixup place, std::uint32_t value) {
    __atomic_store_n(reinterpret_cast<Unaligned32*>(place.at), value, __ATOMIC_RELAXED);
  }

  // ---- jumps
  Fixup jcc(Condition code) {
    byte(0x0f);
    byte(static_cast<std::uint8_t>(0x80 + code));
    return rel32();
  }
  Fixup jmp() {
    byte(0xe9);
    return rel32();
  }
  Fixup call() {
    byte(0xe8);
    return rel32();
  }
  void jmp(Rm to) { digit(k32, Map::kOne, 0xff, 4, to); }
  void call(Rm to) { digit(k32, Map::kOne, 0xff, 2, to); }
  void ret() { byte(0xc3); }
  void bind(Fixup place) { bind(place, at_); }
  static void bind(Fixup place, const std::uint8_t* target) {
    const auto distance = static_cast<std::int32_t>(target - (place.at + 4));
    set(place, static_cast<std::uint32_t>(distance));
  }
  void align(std::size_t to) {
    while ((reinterpret_cast<std::uintptr_t>(at_) & (to - 1)) != 0 && !overflowed_) byte(0xcc);
  }

 private:
  static constexpr unsigned number(Alu kind) { return static_cast<unsigned>(kind); }
  void byte(std::uint8_t value) {
    if (at_ == end_) {
      overflowed_ = true;
      return;
    }
    *at_++ = value;
  }
  void bytes(std::initializer_list<std::uint8_t> list) {
    for (const std::uint8_t value : list) byte(value);
  }
  void immediate(std::uint64_t value, unsigned count) {
    for (unsigned i = 0; i < count; ++i) byte(static_cast<std::uint8_t>(value >> 8 * i));
  }
  Fixup rel32() {
    // Where the four bytes do not fit, an earlier place keeps the fixup inside the buffer.
    std::uint8_t* const at = room() >= 4 ? at_ : end_ - 4;
    immediate(0, 4);
    return {at};
  }
  void op(Size size, Map map, std::uint8_t opcode, Host reg, Rm rm, unsigned imm_bytes = 0) {
    encode(size, map, opcode, softcpu::translator::number(reg), rm, true, imm_bytes);
  }
  void digit(Size size, Map map, std::uint8_t opcode, unsigned digit, Rm rm, unsigned imm = 0) {
    encode(size, map, opcode, digit, rm, false, imm);
  }
  void extend(Size to_size, std::uint8_t opcode, Host to, Rm from, Size from_size);
  // `reg_is_general`: in byte operations SPL, BPL, SIL and DIL need a REX prefix.
  void encode(Size size, Map map, std::uint8_t opcode, unsigned reg, const Rm& rm,
              bool reg_is_general, unsigned imm_bytes);
  void rex(Size size, unsigned reg, const Rm& rm, bool force);
  void modrm(unsigned reg, const Rm& rm);

  std::uint8_t* at_;
  std::uint8_t* end_;
  std::uint8_t prefix_ = 0;
  bool overflowed_ = false;
};

}  // namespace hv::softcpu::translator

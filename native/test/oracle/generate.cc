#include "generate.h"

#include <cstring>

namespace oracle {
namespace {

using namespace hv;
using namespace hv::softcpu;

bool has_arg(const Row& row, std::initializer_list<Arg> wanted) {
  for (const Arg arg : row.args)
    for (const Arg one : wanted)
      if (arg == one) return true;
  return false;
}

bool starts_with(const Row& row, std::string_view head) { return row.name.starts_with(head); }

// Relative and indirect near transfers, whose target must lie in the code.
bool is_indirect_branch(const Row& row) {
  return (row.name == "jmp" || row.name == "call") && has_arg(row, {Arg::Ev});
}
bool is_return(const Row& row) { return row.name == "ret"; }

std::uint64_t random_value(Random& random) {
  static constexpr std::uint64_t kSpecial[] = {
      0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fff'ffff, 0x8000'0000, 0xffff'ffff,
      0x7fff'ffff'ffff'ffff, 0x8000'0000'0000'0000, ~0ull, ~1ull};
  switch (random.below(4)) {
    case 0: return random.pick(kSpecial);
    case 1: return random.bits() >> random.below(64);
    default: return random.bits();
  }
}

// Floating-point patterns around which implementations go wrong.
std::uint32_t random_f32(Random& random) {
  static constexpr std::uint32_t kSpecial[] = {
      0, 1, 0x007f'ffff, 0x0080'0000, 0x3f80'0000, 0x3f00'0000, 0x7f7f'ffff, 0x7f80'0000,
      0x7f80'0001, 0x7fc0'0000, 0x7fff'ffff, 0x4f00'0000, 0x4eff'ffff, 0x5f00'0000, 0x3fc0'0000};
  const auto sign = static_cast<std::uint32_t>(random.bits()) & 0x8000'0000;
  const auto noise = static_cast<std::uint32_t>(random.bits()) & 0x7fff'ffff;
  switch (random.below(4)) {
    case 0: return random.pick(kSpecial) ^ sign;
    case 1: return (0x3f80'0000 + (random.below(64) << 23) - (32u << 23) + (noise & 0x7fffff)) | sign;
    default: return noise | sign;
  }
}

std::uint64_t random_f64(Random& random) {
  static constexpr std::uint64_t kSpecial[] = {
      0, 1, 0x000f'ffff'ffff'ffff, 0x0010'0000'0000'0000, 0x3ff0'0000'0000'0000,
      0x3fe0'0000'0000'0000, 0x7fef'ffff'ffff'ffff, 0x7ff0'0000'0000'0000,
      0x7ff0'0000'0000'0001, 0x7ff8'0000'0000'0000, 0x41e0'0000'0000'0000,
      0x41df'ffff'ffc0'0000, 0x43e0'0000'0000'0000, 0x3690'0000'0000'0000, 0x47ef'ffff'e000'0000};
  const std::uint64_t sign = random.bits() & 1ull << 63;
  const std::uint64_t fraction = random.bits() >> 12;
  switch (random.below(4)) {
    case 0: return random.pick(kSpecial) ^ sign;
    case 1: return (std::uint64_t{1023 - 40 + random.below(80)} << 52 | fraction) | sign;
    default: return (random.bits() >> 1) | sign;
  }
}

F80 random_f80(Random& random) {
  F80 value{random.bits(), static_cast<std::uint16_t>(random.bits())};
  static constexpr std::uint16_t kExponents[] = {0, 1, 0x3ffe, 0x3fff, 0x4000, 0x7ffe, 0x7fff,
                                                 0x3fff + 63, 0x3fff + 31, 0x3f80, 0x407f, 0x43ff};
  static constexpr std::uint64_t kSignificands[] = {
      0, 1ull << 63, ~0ull, 1ull << 63 | 1, 0xc000'0000'0000'0000, 0x7fff'ffff'ffff'ffff, 1,
      0x4000'0000'0000'0000, 0xffff'ffff'ffff'f800, 0xffff'ff00'0000'0000};
  if (random.percent(50))
    value.sign_exponent =
        static_cast<std::uint16_t>((value.sign_exponent & 0x8000) | random.pick(kExponents));
  if (random.percent(25))
    value.sign_exponent = static_cast<std::uint16_t>((value.sign_exponent & 0x8000) |
                                                     (0x3fff - 40 + random.below(80)));
  if (random.percent(35)) value.significand = random.pick(kSignificands);
  if (random.percent(70) && (value.sign_exponent & 0x7fff) != 0) value.significand |= 1ull << 63;
  return value;
}

Xmm random_xmm(Random& random) {
  Xmm value;
  const unsigned kind = random.below(3);
  for (auto& half : value.qword) {
    half = kind == 0   ? random_value(random)
           : kind == 1 ? random_f64(random)
                       : random_f32(random) | std::uint64_t{random_f32(random)} << 32;
  }
  return value;
}

// The encoding, with what must be known to patch it afterwards.
struct Encoder {
  Random& random;
  const Row& row;
  CodeSize mode;
  Case& test;
  unsigned at = 0;
  unsigned modrm_at = 0;

  void byte(unsigned value) { test.bytes[at++] = static_cast<std::uint8_t>(value); }

  void prefixes() {
    static constexpr std::uint8_t kSegments[] = {0x26, 0x2e, 0x36, 0x3e};
    const bool near_branch = (row.traits & kForce64) != 0 || has_arg(row, {Arg::Jb, Arg::Jz});
    // With 66 MOVSXD reads two bytes on Intel and four on AMD.
    const bool free66 = row.prefix == Prefix::kNone && family(row.op) != Family::kSimd &&
                        !near_branch && row.name != "movsxd";
    // Which bytes MASKMOV looks at before a fault, and stores, is the implementation's choice: its
    // operand stays where aim() puts it.
    const bool placed = starts_with(row, "maskmov");
    if (free66 && random.percent(20)) byte(0x66);
    if (!placed && random.percent(8)) byte(0x67);
    if (!placed && random.percent(6) && (row.traits & kEndsBlock) == 0)
      byte(mode == CodeSize::k64 && random.percent(40) ? 0x65u : random.pick(kSegments));
    if ((row.traits & kRepeats) != 0 && random.percent(60)) byte(random.percent(50) ? 0xf2 : 0xf3);
    if (random.percent(lock_chance())) byte(0xf0);
    if (row.prefix == Prefix::k66) byte(0x66);
    if (row.prefix == Prefix::kF3) byte(0xf3);
    if (row.prefix == Prefix::kF2) byte(0xf2);
    if (mode == CodeSize::k64 && random.percent(60)) byte(0x40 | random.below(16));
  }

  // Where LOCK is not allowed it must be refused; but AMD reads LOCK MOV CR0 as MOV CR8.
  unsigned lock_chance() const {
    if ((row.traits & kPrivileged) != 0) return 0;
    return (row.traits & kLockable) != 0 ? 25 : 1;
  }

  void opcode() {
    if (row.map != Map::kOne) byte(0x0f);
    if (row.map == Map::k0F38) byte(0x38);
    if (row.map == Map::k0F3A) byte(0x3a);
    byte(row.opcode);
  }

  void modrm() {
    if (row.form == Form::kNoModrm && row.digit == kAnyDigit && row.modrm == kAnyModrm) return;
    modrm_at = at;
    unsigned value = random.below(256);
    if (row.form == Form::kMemory && value >= 0xc0) value &= 0x3f | random.below(3) << 6;
    if (row.form == Form::kRegister) value |= 0xc0;
    if (row.digit != kAnyDigit)
      value = (value & 0xc7) | static_cast<unsigned>(row.digit) << 3;
    if (row.modrm != kAnyModrm) value = static_cast<unsigned>(row.modrm);
    byte(value);
  }

  void encode() {
    for (auto& one : test.bytes) one = static_cast<std::uint8_t>(random.bits());
    prefixes();
    opcode();
    modrm();
  }
};

// Makes the case's registers, and the bytes of displacements, lead to useful places.
class Aimer {
 public:
  Aimer(Random& random, Case& test, unsigned modrm_at) : random_{random}, test_{test},
                                                         modrm_at_{modrm_at} {}

  void aim(const Decoded& decoded) {
    const Row& row = *decoded.row;
    const Insn& insn = decoded.insn;
    row_ = &row;
    stack(row);
    strings(row, insn);
    if (starts_with(row, "bt") && insn.memory && has_arg(row, {Arg::Gv}) &&
        has_arg(row, {Arg::Ev}))
      gpr(insn.reg) = static_cast<std::uint64_t>(static_cast<std::int64_t>(random_.below(2000)) - 1000);
    // AMD has a bit 17 in MXCSR (misaligned SSE); whichever byte it comes from, it is not set here.
    if (row.name == "ldmxcsr" || row.name == "fxrstor")
      for (auto& one : test_.data) one &= 0xfd;
    if (row.name == "xlat") gpr(kRbx) = based(target() & ~255ull);
    if (starts_with(row, "maskmov")) gpr(kRdi) = based(kData + 16 * random_.below(0x1f0));
    if (starts_with(row, "shld") || starts_with(row, "shrd")) small_count(row, insn);
    branches(row, insn);
    if (insn.memory) memory(insn);
    if (has_arg(row, {Arg::Ob, Arg::Ov})) absolute(insn);
    if (is_indirect_branch(row)) indirect(insn);
  }

 private:
  std::uint64_t& gpr(unsigned number) { return test_.registers.gpr[number & 15]; }
  // Data segments of 16-bit code begin at the data.
  std::uint64_t based(std::uint64_t linear) const {
    return test_.mode == CodeSize::k16 ? linear - kData : linear;
  }

  std::uint64_t target() {
    switch (random_.below(20)) {
      case 0: return kData + kWritable - 1 - random_.below(32);  // into the read-only page
      case 1: return kData + kDataSize - 1 - random_.below(32);  // out of the data
      case 2: return kData + kWritable + random_.below(0x800);
      case 3: return kData + kPageSize - 1 - random_.below(32);  // across two pages
      case 4: case 5: case 6: return kData + 64 + random_.below(0x1e00);
      default: return kData + 64 + (random_.below(0x1e00) & ~15u);
    }
  }

  std::uint64_t code_target() {
    return kCode + 0x100 + random_.below(0x7000) + (random_.percent(50) ? 0x8400 : 0);
  }

  void stack(const Row& row) {
    gpr(kRsp) = kData + 0x1000 + (random_.below(0x600) & ~(random_.percent(90) ? 7u : 0u));
    if (row.name == "leave" || row.name == "enter")
      gpr(kRbp) = kData + 0x1000 + (random_.below(0x600) & ~7u);
    const std::uint64_t top = gpr(kRsp) - kData;
    std::uint64_t value = 0;
    if (is_return(row)) {
      value = code_target();
    } else if (starts_with(row, "popf")) {
      value = (random_.bits() & 0xcd5) | 0x202;  // OF DF SF ZF AF PF CF
    } else {
      return;
    }
    std::memcpy(test_.data.data() + top, &value, sizeof value);
  }

  void strings(const Row& row, const Insn& insn) {
    if (!has_arg(row, {Arg::Xb, Arg::Xv, Arg::Yb, Arg::Yv})) return;
    gpr(kRsi) = based(target());
    gpr(kRdi) = based(target());
    if (insn.repeat != 0) gpr(kRcx) = random_.below(random_.percent(80) ? 20 : 400);
    if (random_.percent(40)) gpr(kRax) = 0x0101'0101'0101'0101ull * random_.below(256);
    if (random_.percent(50)) {  // something to compare equal
      const std::uint8_t fill = random_.percent(50) ? static_cast<std::uint8_t>(gpr(kRax)) : 7;
      std::memset(test_.data.data(), fill, 0x1800);
    }
  }

  // SDM Vol. 2, "SHLD": a count past the operand size leaves everything undefined.
  void small_count(const Row& row, const Insn& insn) {
    if (insn.size != k16) return;
    if (has_arg(row, {Arg::Ib})) test_.bytes[insn.length - 1u] &= 15;
    else gpr(kRcx) &= ~std::uint64_t{16};
  }

  void branches(const Row& row, const Insn& insn) {
    if (has_arg(row, {Arg::Jb})) {
      // Anywhere but into the instruction itself.
      const int back = -static_cast<int>(insn.length) - 1 - static_cast<int>(random_.below(90));
      const int forth = 1 + static_cast<int>(random_.below(110));
      test_.bytes[insn.length - 1u] = static_cast<std::uint8_t>(random_.percent(50) ? back : forth);
    }
    if (!has_arg(row, {Arg::Jz})) return;
    const std::int32_t far = (random_.percent(50) ? 1 : -1) *
                             static_cast<std::int32_t>(0x40 + random_.below(0x3000));
    const unsigned width = insn.size == k16 && test_.mode != CodeSize::k64 ? 2 : 4;
    std::memcpy(test_.bytes.data() + insn.length - width, &far, width);
  }

  // The operand's address is base + (index << scale) + disp: solve it for one of them.
  void memory(const Insn& insn) {
    // Indirect branches read whole targets only: whether one that is not canonical faults before
    // the push or after the jump differs between Intel and AMD.
    const std::uint64_t exact = is_indirect_branch(*row_) ? ~7ull : ~0ull;
    std::uint64_t want = insn.segment == kGs ? (target() & exact) - kGsBase : based(target() & exact);
    if (insn.segment == kSs && test_.mode == CodeSize::k16) want += kData;
    const std::uint64_t index =
        insn.index == kNoRegister ? 0 : gpr(insn.index) << insn.scale;
    if (insn.base == kRip) {
      displacement(want - test_.registers.rip - insn.length, 4);
    } else if (insn.base != kNoRegister && insn.base != insn.index) {
      gpr(insn.base) = want - index - static_cast<std::uint64_t>(std::int64_t{insn.disp});
    } else if (insn.index != kNoRegister && insn.base == kNoRegister) {
      gpr(insn.index) = (want - static_cast<std::uint64_t>(std::int64_t{insn.disp})) >> insn.scale;
    } else if (insn.base == kNoRegister) {
      displacement(want, insn.address == k16 ? 2 : 4);
    }
  }

  void displacement(std::uint64_t value, unsigned width) {
    const bool sib = width == 4 && (test_.bytes[modrm_at_] & 7) == 4;
    std::memcpy(test_.bytes.data() + modrm_at_ + 1 + (sib ? 1 : 0), &value, width);
  }

  void absolute(const Insn& insn) {
    const std::uint64_t want = insn.segment == kGs ? target() - kGsBase : based(target());
    const unsigned width = 1u << insn.address;
    std::memcpy(test_.bytes.data() + insn.length - width, &want, width);
  }

  void indirect(const Insn& insn) {
    const std::uint64_t where = code_target();
    if (!insn.memory) {
      gpr(insn.rm) = where;
      return;
    }
    for (unsigned at = 0; at + 8 <= kDataSize; at += 8)
      std::memcpy(test_.data.data() + at, &where, sizeof where);
  }

  Random& random_;
  Case& test_;
  unsigned modrm_at_;
  const Row* row_ = nullptr;
};

void random_registers(Random& random, Case& test) {
  Registers& registers = test.registers;
  for (auto& value : registers.gpr) value = random_value(random);
  registers.rflags = (random.bits() & kArith) | 0x202 | (random.percent(15) ? kDf + 0u : 0u);
  registers.rip = test.mode == CodeSize::k16 ? 0x8000 : kCode + 0x8000;
  if (random.percent(10)) registers.rip += kPageSize - 1 - random.below(14);  // across two pages
  for (auto& value : registers.st) value = random_f80(random);
  for (auto& value : registers.xmm) value = random_xmm(random);
  registers.control = static_cast<std::uint16_t>(0x40 | (random.bits() & 0xf00) |
                                                 (random.percent(85) ? 0x3f : random.bits() & 0x3f));
  registers.status = static_cast<std::uint16_t>(random.bits() & (random.percent(90) ? 0x7f00 & ~0x80u : 0x7f7f));
  const bool pending = (registers.status & ~registers.control & 0x3f) != 0;
  registers.status = static_cast<std::uint16_t>((registers.status & 0x7f7f) | (pending ? 0x8080 : 0));
  registers.tags = static_cast<std::uint8_t>(random.percent(70) ? 0xff : random.bits());
  registers.mxcsr = static_cast<std::uint32_t>(
      (random.percent(85) ? 0x1f80 : random.bits() & 0x1f80) | (random.bits() & 0x6000) |
      (random.percent(10) ? random.bits() & 0x8040 : 0) | (random.percent(10) ? random.bits() & 0x3f : 0));
}

const std::array<std::uint8_t, 1 << 16>& noise() {
  static const auto pool = [] {
    std::array<std::uint8_t, 1 << 16> made{};
    Random random{42};
    for (std::size_t at = 0; at < made.size(); at += 8) {
      const std::uint64_t value = at % 64 < 32 ? random.bits() : random_f64(random);
      std::memcpy(made.data() + at, &value, 8);
    }
    return made;
  }();
  return pool;
}

void keep_32_bits(Case& test) {
  for (unsigned i = 0; i < 16; ++i)
    test.registers.gpr[i] = i < 8 ? test.registers.gpr[i] & 0xffff'ffff : 0;
  for (unsigned i = 8; i < 16; ++i) test.registers.xmm[i] = Xmm{};
}

}  // namespace

bool can_show(const Row& row, CodeSize mode) {
  constexpr std::uint32_t kHidden = kNotUser | kUserVisible | kNewerReads | kNeedsVex;
  if ((row.traits & kHidden) != 0) return false;
  return (row.traits & (mode == CodeSize::k64 ? kNot64 : kOnly64)) == 0;
}

Generated generate(std::uint64_t seed, const Row& row, CodeSize mode) {
  Generated out;
  Random random{seed};
  Case& test = out.test;
  test.seed = seed;
  test.mode = mode;
  random_registers(random, test);
  std::memcpy(test.data.data(), noise().data() + random.below(static_cast<unsigned>(noise().size() - kDataSize)),
              kDataSize);
  Encoder encoder{random, row, mode, test};
  encoder.encode();
  out.decoded = decode({test.bytes.data(), 15}, mode);
  const bool valid = out.decoded.status == DecodeStatus::kOk;
  test.length = valid ? out.decoded.insn.length : 15;
  if (valid) Aimer{random, test, encoder.modrm_at}.aim(out.decoded);
  if (mode != CodeSize::k64) keep_32_bits(test);
  return out;
}

}  // namespace oracle

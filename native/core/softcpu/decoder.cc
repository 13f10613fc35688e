// SDM Vol. 2, chapter "Instruction Format", and appendix A for the operands.
#include "softcpu/decoder.h"

#include <algorithm>

#include "accel/cpu_state.h"
#include "softcpu/opcodes.h"

namespace hv::softcpu {

namespace {

constexpr std::uint8_t kRexW = 8, kRexR = 4, kRexX = 2, kRexB = 1;
constexpr std::uint8_t kNoSegment = 0xff;
// The numbers that ModRM, SIB and the 16-bit address forms use.
constexpr std::uint8_t kBx = 3, kSp = 4, kBp = 5, kSi = 6, kDi = 7;

class Reader {
 public:
  Reader(std::span<const std::uint8_t> bytes, CodeSize size) : bytes_(bytes), mode_(size) {}
  Decoded run();

 private:
  bool failed() const { return out_.status != DecodeStatus::kOk; }
  void fail(DecodeStatus why) {
    if (!failed()) out_.status = why;
  }
  std::uint8_t byte();
  std::uint64_t number(unsigned bytes, bool is_signed);
  bool take_prefix(std::uint8_t value);
  void read_prefixes_and_opcode();
  bool fits(const Row& row) const;
  const Row* find_row(std::span<const Row* const> list) const;
  void read_modrm();
  void choose_sizes(const Row& row);
  void read_memory_operand();
  void read_memory_16();
  void read_sib(unsigned mod);
  void read_argument(Arg arg);
  void read_immediate(unsigned bytes, bool is_signed);
  std::uint8_t byte_register(std::uint8_t value) const {
    return rex_ == 0 && !rex_seen_ && value >= 4 && value < 8
               ? static_cast<std::uint8_t>(kAh + value - 4) : value;
  }
  std::uint8_t with_rex(unsigned low, std::uint8_t bit) const {
    return static_cast<std::uint8_t>((low & 7) | ((rex_ & bit) != 0 ? 8u : 0u));
  }

  const std::span<const std::uint8_t> bytes_;
  const CodeSize mode_;
  Decoded out_;
  unsigned at_ = 0;
  bool operand_prefix_ = false, address_prefix_ = false, lock_ = false, rex_seen_ = false;
  std::uint8_t repeat_ = 0, rex_ = 0, segment_ = kNoSegment, opcode_ = 0;
  Map map_ = Map::kOne;
  bool has_modrm_ = false, register_form_ = false, immediate_seen_ = false;
};

std::uint8_t Reader::byte() {
  if (failed()) return 0;
  if (at_ == kMaxLength) return fail(DecodeStatus::kTooLong), std::uint8_t{0};
  if (at_ == bytes_.size()) return fail(DecodeStatus::kNeedMore), std::uint8_t{0};
  return bytes_[at_++];
}

std::uint64_t Reader::number(unsigned bytes, bool is_signed) {
  std::uint64_t value = 0;
  for (unsigned i = 0; i < bytes; ++i) value |= std::uint64_t{byte()} << (8 * i);
  if (!is_signed || bytes == 8) return value;
  const unsigned unused = 64 - 8 * bytes;
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(value << unused) >> unused);
}

// A REX prefix counts only right before the opcode: any prefix after it undoes it.
bool Reader::take_prefix(std::uint8_t value) {
  const bool is64 = mode_ == CodeSize::k64;
  if (is64 && (value & 0xf0) == 0x40) {
    rex_ = value & 0xf;
    rex_seen_ = true;
    return true;
  }
  switch (value) {
    case 0x26: case 0x2e: case 0x36: case 0x3e:
      if (!is64) segment_ = value >> 3 & 3;
      break;
    case 0x64: case 0x65: segment_ = value & 7; break;
    case 0x66: operand_prefix_ = true; break;
    case 0x67: address_prefix_ = true; break;
    case 0xf0: lock_ = true; break;
    case 0xf2: case 0xf3: repeat_ = value; break;
    default: return false;
  }
  rex_ = 0;
  rex_seen_ = false;
  return true;
}

void Reader::read_prefixes_and_opcode() {
  do {
    opcode_ = byte();
  } while (!failed() && take_prefix(opcode_));
  if (opcode_ != 0x0f) return;
  map_ = Map::k0F;
  opcode_ = byte();
  if (opcode_ != 0x38 && opcode_ != 0x3a) return;
  map_ = opcode_ == 0x38 ? Map::k0F38 : Map::k0F3A;
  opcode_ = byte();
}

bool Reader::fits(const Row& row) const {
  const bool is64 = mode_ == CodeSize::k64;
  if (row.vex != Vex::kLegacy || (row.traits & kNeedsVex) != 0) return false;
  if ((row.traits & (is64 ? kNot64 : kOnly64)) != 0) return false;
  switch (row.prefix) {
    case Prefix::kNone: break;
    case Prefix::kNp: if (operand_prefix_ || repeat_ != 0) return false; break;
    case Prefix::k66: if (!operand_prefix_ || repeat_ != 0) return false; break;
    case Prefix::kF3: if (repeat_ != 0xf3) return false; break;
    case Prefix::kF2: if (repeat_ != 0xf2) return false; break;
  }
  if (row.form == Form::kNoModrm) return true;
  if (row.form == Form::kMemory && register_form_) return false;
  if (row.form == Form::kRegister && !register_form_) return false;
  if (row.digit != kAnyDigit && row.digit != (out_.insn.modrm >> 3 & 7)) return false;
  return row.modrm == kAnyModrm || row.modrm == out_.insn.modrm;
}

const Row* Reader::find_row(std::span<const Row* const> list) const {
  const auto found = std::find_if(list.begin(), list.end(), [&](auto* row) { return fits(*row); });
  return found == list.end() ? nullptr : *found;
}

void Reader::read_modrm() {
  Insn& i = out_.insn;
  i.modrm = byte();
  has_modrm_ = true;
  // MOV to and from control and debug registers takes any mod as 3 (SDM Vol. 2, "MOV—Move to/from
  // Control Registers").
  const bool moves_special = map_ == Map::k0F && (opcode_ & 0xfc) == 0x20;
  register_form_ = i.modrm >= 0xc0 || moves_special;
  i.reg = with_rex(i.modrm >> 3, kRexR);
  i.rm = with_rex(i.modrm, kRexB);
}

// SDM Vol. 2, appendix A: an operand of type y is a doubleword, or a quadword with REX.W; beside
// one of type v (CRC32) it is that one which the size is for.
bool never_a_word(const Row& row) {
  bool y = false;
  for (const Arg arg : row.args) {
    if (arg == Arg::Ev) return false;
    y |= arg == Arg::Ey || arg == Arg::Gy || arg == Arg::Ry;
  }
  return y;
}

void Reader::choose_sizes(const Row& row) {
  const bool is64 = mode_ == CodeSize::k64;
  const bool prefixed = operand_prefix_ && row.prefix != Prefix::k66;
  Insn& i = out_.insn;
  if ((row.traits & kByte) != 0) {
    i.size = k8;
  } else if (is64 && ((row.traits & kForce64) != 0 || (rex_ & kRexW) != 0)) {
    i.size = k64;
  } else if (prefixed != (mode_ == CodeSize::k16) && !never_a_word(row)) {
    i.size = k16;
  } else {
    i.size = is64 && (row.traits & kDefault64) != 0 ? k64 : k32;
  }
}

void Reader::read_memory_operand() {
  Insn& i = out_.insn;
  i.memory = 1;
  if (i.address == k16) return read_memory_16();
  const unsigned mod = i.modrm >> 6, rm = i.modrm & 7;
  if (rm == 4) {
    read_sib(mod);
  } else if (mod == 0 && rm == 5) {
    i.base = mode_ == CodeSize::k64 ? kRip : kNoRegister;
    i.disp = static_cast<std::int32_t>(number(4, true));
  } else {
    i.base = i.rm;
  }
  if (mod == 1) i.disp = static_cast<std::int32_t>(number(1, true));
  if (mod == 2) i.disp = static_cast<std::int32_t>(number(4, true));
  if (segment_ == kNoSegment && (i.base == kSp || i.base == kBp)) i.segment = kSs;
}

void Reader::read_sib(unsigned mod) {
  Insn& i = out_.insn;
  const std::uint8_t sib = byte();
  const unsigned scale = sib >> 6;
  i.scale = scale & 3u;
  const std::uint8_t index = with_rex(sib >> 3, kRexX);
  if (index != kSp) i.index = index;
  if (mod == 0 && (sib & 7) == 5)
    i.disp = static_cast<std::int32_t>(number(4, true));
  else
    i.base = with_rex(sib, kRexB);
}

// SDM Vol. 2, "16-Bit Addressing Forms with the ModR/M Byte".
void Reader::read_memory_16() {
  static constexpr std::uint8_t kBase[8] = {kBx, kBx, kBp, kBp, kSi, kDi, kBp, kBx};
  static constexpr std::uint8_t kIndex[8] = {kSi, kDi, kSi, kDi,
                                             kNoRegister, kNoRegister, kNoRegister, kNoRegister};
  Insn& i = out_.insn;
  const unsigned mod = i.modrm >> 6, rm = i.modrm & 7;
  const bool absolute = mod == 0 && rm == 6;
  i.base = absolute ? kNoRegister : kBase[rm];
  i.index = kIndex[rm];
  if (mod == 1) i.disp = static_cast<std::int32_t>(number(1, true));
  if (mod == 2 || absolute) i.disp = static_cast<std::int32_t>(number(2, true));
  if (segment_ == kNoSegment && i.base == kBp) i.segment = kSs;
}

void Reader::read_immediate(unsigned bytes, bool is_signed) {
  const std::uint64_t value = number(bytes, is_signed);
  if (immediate_seen_)
    out_.insn.imm2 = static_cast<std::uint8_t>(value);
  else
    out_.insn.imm = value;
  immediate_seen_ = true;
}

void Reader::read_argument(Arg arg) {
  Insn& i = out_.insn;
  const unsigned z = i.size == k16 ? 2 : 4;
  switch (arg) {
    case Arg::Eb: if (i.memory == 0) i.rm = byte_register(i.rm); break;
    case Arg::Gb: i.reg = byte_register(i.reg); break;
    case Arg::Zb: i.reg = byte_register(with_rex(opcode_, kRexB)); break;
    case Arg::Zv: i.reg = with_rex(opcode_, kRexB); break;
    case Arg::One: i.imm = 1; break;
    case Arg::Ib: read_immediate(1, false); break;
    case Arg::Iw: read_immediate(2, false); break;
    case Arg::sIb: case Arg::Jb: read_immediate(1, true); break;
    case Arg::Iz: case Arg::Jz: read_immediate(z, true); break;
    case Arg::Iv: read_immediate(i.size == k64 ? 8 : z, true); break;
    case Arg::Ob: case Arg::Ov: i.imm = number(1u << i.address, false); break;
    case Arg::Ap:
      i.imm = number(z, false);
      i.disp = static_cast<std::int32_t>(number(2, false));
      break;
    default: break;
  }
}

Decoded Reader::run() {
  out_.status = DecodeStatus::kOk;
  Insn& i = out_.insn;
  read_prefixes_and_opcode();
  const auto list = candidates(map_, opcode_);
  const auto wants_modrm = [](const Row* row) { return row->form != Form::kNoModrm; };
  if (std::any_of(list.begin(), list.end(), wants_modrm)) read_modrm();
  const Row* const row = failed() ? nullptr : find_row(list);
  if (row == nullptr) fail(DecodeStatus::kInvalid);
  if (!failed()) {
    const Size natural = mode_ == CodeSize::k64 ? k64 : mode_ == CodeSize::k32 ? k32 : k16;
    i.address = (address_prefix_ ? (natural == k32 ? k16 : k32) : natural) & 3u;
    i.segment = segment_ != kNoSegment ? segment_ : std::uint8_t{kDs};
    i.op = row->op;
    choose_sizes(*row);
    if (has_modrm_ && !register_form_) read_memory_operand();
    for (const Arg arg : row->args) read_argument(arg);
    if (lock_ && ((row->traits & kLockable) == 0 || i.memory == 0)) fail(DecodeStatus::kInvalid);
    i.lock = lock_;
    if ((row->traits & kRepeats) != 0 && repeat_ != 0)
      i.repeat = static_cast<unsigned>(repeat_ == 0xf3 ? Repeat::kRepe : Repeat::kRepne) & 3u;
  }
  i.length = static_cast<std::uint8_t>(at_);
  if (!failed()) out_.row = row;
  return out_;
}

}  // namespace

Decoded decode(std::span<const std::uint8_t> bytes, CodeSize size) {
  return Reader{bytes, size}.run();
}

}  // namespace hv::softcpu

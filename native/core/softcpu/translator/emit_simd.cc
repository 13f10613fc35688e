// SSE to SSE4.2 by the host's own instructions, on the host's registers of the same numbers, under
// the guest's MXCSR. The first such instruction of a block looks whether they are there
// (State::xmm_here). A guest that unmasked an exception has its floating point done by the
// handlers.
#include "softcpu/opcodes.h"
#include "softcpu/translator/block_translator.h"
#include "softcpu/translator/host.h"
#include "softcpu/translator/host_features.h"

#if HV_TRANSLATOR
namespace hv::softcpu::translator {

namespace {

// Those that are reg = f(reg, r/m) or f(r/m), by the row's encoding, and cannot raise.
constexpr Op kInteger[] = {
#define SHARED(map, opcode, Name, name) Op::k##Name,
#define SHARED_LOW(opcode, Name, name) Op::k##Name,
#define SHARED_IMM(map, opcode, Name, name) Op::k##Name,
#define SHIFT(opcode, immediate, digit, Name, name) Op::k##Name,
#define XMM2(map, prefix, opcode, Name, name, function) Op::k##Name,
#define XMM2_IMM(map, prefix, opcode, Name, name, function) Op::k##Name,
#include "softcpu/simd_tables.def"
    Op::kMovddup, Op::kPmovsxbw, Op::kPmovsxbd, Op::kPmovsxbq, Op::kPmovsxwd, Op::kPmovsxwq,
    Op::kPmovsxdq, Op::kPmovzxbw, Op::kPmovzxbd, Op::kPmovzxbq, Op::kPmovzxwd, Op::kPmovzxwq,
    Op::kPmovzxdq, Op::kPblendvb, Op::kBlendvps, Op::kBlendvpd, Op::kInsertps, Op::kMovhlps,
    Op::kMovlhps, Op::kRcpps, Op::kRcpss, Op::kRsqrtps, Op::kRsqrtss,
};
constexpr Op kShiftImm[] = {
#define SHIFT(opcode, immediate, digit, Name, name) Op::k##Name##Imm,
#include "softcpu/simd_tables.def"
    Op::kPsrldqImm, Op::kPslldqImm,
};
constexpr Op kFloat[] = {
#define FLOAT4(opcode, Name, name) \
  Op::k##Name##ps, Op::k##Name##pd, Op::k##Name##ss, Op::k##Name##sd,
#include "softcpu/simd_tables.def"
    Op::kCmpps, Op::kCmppd, Op::kCmpss, Op::kCmpsdXmm, Op::kCvtps2pd, Op::kCvtpd2ps,
    Op::kCvtss2sd, Op::kCvtsd2ss, Op::kCvtdq2ps, Op::kCvtps2dq, Op::kCvttps2dq, Op::kCvtdq2pd,
    Op::kCvtpd2dq, Op::kCvttpd2dq, Op::kAddsubps, Op::kAddsubpd, Op::kHaddps, Op::kHaddpd,
    Op::kHsubps, Op::kHsubpd, Op::kRoundps, Op::kRoundpd, Op::kRoundss, Op::kRoundsd, Op::kDpps,
    Op::kDppd,
};

std::uint8_t prefix_byte(Prefix prefix) {
  switch (prefix) {
    case Prefix::k66: return 0x66;
    case Prefix::kF3: return 0xf3;
    case Prefix::kF2: return 0xf2;
    default: return 0;
  }
}

// The first row of an operation that works on XMM registers.
const Row* row_of(Op op) {
  static const auto kRows = [] {
    std::array<const Row*, static_cast<std::size_t>(Op::kCount)> table{};
    for (const Row& row : rows(Family::kSimd)) {
      const Row*& place = table[static_cast<std::size_t>(row.op)];
      if (place == nullptr && (row.traits & kMmx) == 0) place = &row;
    }
    return table;
  }();
  return kRows[static_cast<std::size_t>(op)];
}

Rm xmm(unsigned number) { return Rm::reg(static_cast<Host>(number)); }

unsigned source_bytes(const Row& row) {
  switch (row.args[1]) {
    case Arg::Ww: return 2;
    case Arg::Wd: return 4;
    case Arg::Wq: return 8;
    default: return 16;
  }
}

}  // namespace

void BlockTranslator::need_xmm(std::uint8_t what) {
  if ((xmm_here_ & what) == what) return;
  save_flags();
  flags_lost();
  out_.test_imm(k8, in_cpu(&cpu_.translated.xmm_here), what);
  Cold absent{Cold::Kind::kLoadXmm};
  absent.add(out_.jcc(kZ));
  absent.resume = out_.here();
  absent.needs = what;
  absent.site = site();
  absent.with_flags = !ignores_flags(insn());
  absent.leaves = true;
  absent.uncount = static_cast<std::uint32_t>(site()->remaining - 1);
  add_cold(absent);
  xmm_here_ |= what | kXmmHere;
}

void BlockTranslator::access_xmm(const Insn& i, unsigned bytes, bool aligned, Access kind) {
  access(i, bytes, kind, aligned && bytes == 16);
}

Rm BlockTranslator::xmm_operand(const Insn& i, const Row& row) {
  if (i.memory == 0) return xmm(i.rm);
  access_xmm(i, source_bytes(row), (row.traits & kAligned) != 0, Access::kRead);
  return memory();
}

// reg = f(reg, r/m), by the encoding that the guest's has.
void BlockTranslator::sse_two(const Insn& i, const Row& row) {
  const Rm source = xmm_operand(i, row);
  out_.sse(prefix_byte(row.prefix), static_cast<Map>(row.map), row.opcode, i.reg, source);
  if (row.args[2] == Arg::Ib) out_.immediate8(static_cast<std::uint8_t>(i.imm));
}

bool BlockTranslator::sse_integer(const Insn& i) {
  need_xmm(kXmmHere);
  sse_two(i, *row_of(i.op));
  return true;
}

bool BlockTranslator::sse_float(const Insn& i) {
  need_xmm(kFloatHere);
  sse_two(i, *row_of(i.op));
  return true;
}

bool BlockTranslator::sse_shift_imm(const Insn& i) {
  const Row& row = *row_of(i.op);
  need_xmm(kXmmHere);
  out_.sse(0x66, Map::k0F, row.opcode, static_cast<unsigned>(row.digit), xmm(i.rm));
  out_.immediate8(static_cast<std::uint8_t>(i.imm));
  return true;
}

bool BlockTranslator::sse_compare(const Insn& i) {
  need_xmm(kFloatHere);
  sse_two(i, *row_of(i.op));
  flags_written();
  return true;
}

// PTEST; PCMPISTRI and PCMPISTRM, whose results go to the same registers in the host.
bool BlockTranslator::sse_test(const Insn& i) {
  static_assert(kHome[kRcx] == Host::kRcx);
  need_xmm(kXmmHere);
  sse_two(i, *row_of(i.op));
  flags_written();
  return true;
}

// CVTSI2SS, CVTSI2SD.
bool BlockTranslator::sse_from_integer(const Insn& i) {
  const Row& row = *row_of(i.op);
  const Size size = i.size == k64 ? k64 : k32;
  need_xmm(kFloatHere);
  out_.sse(prefix_byte(row.prefix), Map::k0F, row.opcode, i.reg, operand(i, size), size);
  return true;
}

// CVTTSD2SI and its kin.
bool BlockTranslator::sse_to_integer(const Insn& i) {
  const Row& row = *row_of(i.op);
  const Size size = i.size == k64 ? k64 : k32;
  need_xmm(kFloatHere);
  const Rm source = xmm_operand(i, row);
  const Host to = pinned(i.reg) ? kHome[i.reg] : kScratch;
  out_.sse(prefix_byte(row.prefix), Map::k0F, row.opcode, static_cast<unsigned>(to), source, size);
  put_back(i.reg, to);
  return true;
}

// MOVMSKPS, MOVMSKPD, PMOVMSKB, and PEXTRW from a register.
bool BlockTranslator::sse_mask(const Insn& i) {
  const Row& row = *row_of(i.op);
  need_xmm(kXmmHere);
  const Host to = pinned(i.reg) ? kHome[i.reg] : kScratch;
  out_.sse(prefix_byte(row.prefix), Map::k0F, row.opcode, static_cast<unsigned>(to), xmm(i.rm));
  if (row.args[2] == Arg::Ib) out_.immediate8(static_cast<std::uint8_t>(i.imm));
  put_back(i.reg, to);
  return true;
}

// ---- moves ----------------------------------------------------------------------------------------

bool BlockTranslator::sse_load(const Insn& i) {
  need_xmm(kXmmHere);
  if (i.memory == 0) {
    out_.sse(0, Map::k0F, 0x28, i.reg, xmm(i.rm));  // MOVAPS
    return true;
  }
  access_xmm(i, 16, i.op == Op::kMovapsLoad, Access::kRead);
  out_.sse(0, Map::k0F, 0x10, i.reg, memory());  // MOVUPS
  return true;
}

bool BlockTranslator::sse_store(const Insn& i) {
  need_xmm(kXmmHere);
  if (i.memory == 0) {
    out_.sse(0, Map::k0F, 0x28, i.rm, xmm(i.reg));
    return true;
  }
  access_xmm(i, 16, i.op == Op::kMovapsStore, Access::kWrite);
  out_.sse(0, Map::k0F, 0x11, i.reg, memory());
  return true;
}

// MOVSS, MOVSD, MOVQ: memory clears the other lanes, a register leaves them (but MOVQ's).
bool BlockTranslator::sse_load_low(const Insn& i) {
  const bool single = i.op == Op::kMovssLoad, whole = i.op == Op::kMovqXmmLoad;
  need_xmm(kXmmHere);
  if (i.memory != 0) access(i, single ? 4 : 8, Access::kRead);
  const Rm source = i.memory != 0 ? memory() : xmm(i.rm);
  if (whole)
    out_.sse(0xf3, Map::k0F, 0x7e, i.reg, source);
  else
    out_.sse(single ? 0xf3 : 0xf2, Map::k0F, 0x10, i.reg, source);
  return true;
}

bool BlockTranslator::sse_store_low(const Insn& i) {
  need_xmm(kXmmHere);
  if (i.memory == 0) {  // as a load, the other way round
    if (i.op == Op::kMovqXmmStore)
      out_.sse(0xf3, Map::k0F, 0x7e, i.rm, xmm(i.reg));
    else
      out_.sse(i.op == Op::kMovssStore ? 0xf3 : 0xf2, Map::k0F, 0x10, i.rm, xmm(i.reg));
    return true;
  }
  const bool single = i.op == Op::kMovssStore;
  access(i, single ? 4 : 8, Access::kWrite);
  out_.sse(single ? 0xf3 : 0xf2, Map::k0F, 0x11, i.reg, memory());
  return true;
}

// MOVLPS, MOVHPS and the same of doubles.
bool BlockTranslator::sse_half(const Insn& i) {
  need_xmm(kXmmHere);
  access(i, 8, Access::kRead);
  out_.sse(0, Map::k0F, i.op == Op::kMovlps ? 0x12 : 0x16, i.reg, memory());
  return true;
}

bool BlockTranslator::sse_store_half(const Insn& i) {
  need_xmm(kXmmHere);
  access(i, 8, Access::kWrite);
  out_.sse(0, Map::k0F, i.op == Op::kMovlpsStore ? 0x13 : 0x17, i.reg, memory());
  return true;
}

namespace {
// PINSRB, PINSRW, PINSRD and their opposites, by the width of the element.
Size element(const Insn& i) {
  switch (i.op) {
    case Op::kPinsrb: case Op::kPextrb: return k8;
    case Op::kPinsrw: case Op::kPextrw: return k16;
    case Op::kExtractps: return k32;
    default: return i.size == k64 ? k64 : k32;
  }
}
}  // namespace

bool BlockTranslator::sse_insert(const Insn& i) {
  const Row& row = *row_of(i.op);
  need_xmm(kXmmHere);
  const Rm source = operand(i, element(i));
  out_.sse(0x66, static_cast<Map>(row.map), row.opcode, i.reg, source, element(i));
  out_.immediate8(static_cast<std::uint8_t>(i.imm));
  return true;
}

// To a register the element is extended with zeros to 64 bits.
bool BlockTranslator::sse_extract(const Insn& i) {
  const Row& row = *row_of(i.op);
  need_xmm(kXmmHere);
  if (i.memory != 0) access(i, 1u << element(i), Access::kWrite);
  const Rm to = i.memory != 0 ? memory() : Rm::reg(pinned(i.rm) ? kHome[i.rm] : kScratch);
  out_.sse(0x66, static_cast<Map>(row.map), row.opcode, i.reg, to, element(i));
  out_.immediate8(static_cast<std::uint8_t>(i.imm));
  if (i.memory == 0) put_back(i.rm, to.base);
  return true;
}

bool BlockTranslator::movd_to_xmm(const Insn& i) {
  const Size size = i.size == k64 ? k64 : k32;
  need_xmm(kXmmHere);
  out_.sse(0x66, Map::k0F, 0x6e, i.reg, operand(i, size), size);
  return true;
}

bool BlockTranslator::movd_from_xmm(const Insn& i) {
  const Size size = i.size == k64 ? k64 : k32;
  need_xmm(kXmmHere);
  if (i.memory != 0) access(i, 1u << size, Access::kWrite);
  const Rm to = i.memory != 0 ? memory() : Rm::reg(pinned(i.rm) ? kHome[i.rm] : kScratch);
  out_.sse(0x66, Map::k0F, 0x7e, i.reg, to, size);
  if (i.memory == 0) put_back(i.rm, to.base);
  return true;
}

std::span<const BlockTranslator::Entry> BlockTranslator::simd_emitters() {
  using B = BlockTranslator;
  if (!host_features().sse42) return {};
  static const std::vector<Entry> kAll = [] {
    std::vector<Entry> all = {
        {Op::kMovapsLoad, &B::sse_load}, {Op::kMovupsLoad, &B::sse_load},
        {Op::kMovapsStore, &B::sse_store}, {Op::kMovupsStore, &B::sse_store},
        {Op::kMovssLoad, &B::sse_load_low}, {Op::kMovsdXmmLoad, &B::sse_load_low},
        {Op::kMovqXmmLoad, &B::sse_load_low}, {Op::kMovssStore, &B::sse_store_low},
        {Op::kMovsdXmmStore, &B::sse_store_low}, {Op::kMovqXmmStore, &B::sse_store_low},
        {Op::kMovdToXmm, &B::movd_to_xmm}, {Op::kMovdFromXmm, &B::movd_from_xmm},
        {Op::kMovlps, &B::sse_half}, {Op::kMovhps, &B::sse_half},
        {Op::kMovlpsStore, &B::sse_store_half}, {Op::kMovhpsStore, &B::sse_store_half},
        {Op::kPinsrb, &B::sse_insert}, {Op::kPinsrw, &B::sse_insert},
        {Op::kPinsrd, &B::sse_insert}, {Op::kPextrb, &B::sse_extract},
        {Op::kPextrw, &B::sse_extract}, {Op::kPextrd, &B::sse_extract},
        {Op::kExtractps, &B::sse_extract}, {Op::kPextrwReg, &B::sse_mask},
        {Op::kPtest, &B::sse_test}, {Op::kPcmpistri, &B::sse_test},
        {Op::kPcmpistrm, &B::sse_test},
        {Op::kMovmskps, &B::sse_mask}, {Op::kMovmskpd, &B::sse_mask}, {Op::kPmovmskb, &B::sse_mask},
        {Op::kUcomiss, &B::sse_compare}, {Op::kUcomisd, &B::sse_compare},
        {Op::kComiss, &B::sse_compare}, {Op::kComisd, &B::sse_compare},
        {Op::kCvtsi2ss, &B::sse_from_integer}, {Op::kCvtsi2sd, &B::sse_from_integer},
        {Op::kCvttss2si, &B::sse_to_integer}, {Op::kCvttsd2si, &B::sse_to_integer},
        {Op::kCvtss2si, &B::sse_to_integer}, {Op::kCvtsd2si, &B::sse_to_integer},
    };
    for (const Op op : kInteger) all.push_back({op, &B::sse_integer});
    for (const Op op : kFloat) all.push_back({op, &B::sse_float});
    for (const Op op : kShiftImm) all.push_back({op, &B::sse_shift_imm});
    return all;
  }();
  return kAll;
}

}  // namespace hv::softcpu::translator
#endif

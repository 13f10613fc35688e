// SSE to SSE4.2 by the host's own instructions. XMM registers stay in the Cpu; an instruction loads
// its destination to XMM0, takes its source from memory, and stores XMM0.
//
// Floating point runs under the guest's MXCSR: loaded before the first such instruction of a block,
// stored (with the flags that were raised) and replaced by the host's before handlers and at the
// block's end. A guest that unmasked an exception is served by the handlers.
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
    Op::kMovddup, Op::kPmovsxbw, Op::kPmovsxbd, Op::kPmovsxwd, Op::kPmovsxwq, Op::kPmovsxdq,
    Op::kPmovzxbw, Op::kPmovzxbd, Op::kPmovzxwd, Op::kPmovzxwq, Op::kPmovzxdq,
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
    Op::kHsubps, Op::kHsubpd,
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

unsigned source_bytes(const Row& row) {
  switch (row.args[1]) {
    case Arg::Wd: return 4;
    case Arg::Wq: return 8;
    default: return 16;
  }
}

}  // namespace

// CR0.EM, CR0.TS and CR4.OSFXSR, once for the block: the handler raises what is due.
void BlockTranslator::check_sse() {
  if (sse_checked_) return;
  save_flags();
  flags_lost();
  Cold fails{Cold::Kind::kHandler};
  out_.test_imm(k8, in_cpu(&cpu_.cr0), 0xc);
  fails.add(out_.jcc(kNz));
  out_.test_imm(k32, in_cpu(&cpu_.cr4), 1u << 9);
  fails.add(out_.jcc(kZ));
  fails.site = site();
  fails.leaves = true;
  add_cold(fails);
  sse_checked_ = true;
}

void BlockTranslator::enter_float() {
  check_sse();
  if (in_float_) return;
  save_flags();
  flags_lost();
  constexpr std::uint32_t kAllMasked = 0x1f80;
  out_.mov(k32, kScratch, in_cpu(&cpu_.mxcsr));
  out_.alu_imm(Alu::kAnd, k32, Rm::reg(kScratch), kAllMasked);
  out_.alu_imm(Alu::kCmp, k32, Rm::reg(kScratch), kAllMasked);
  Cold unmasked{Cold::Kind::kHandler};
  unmasked.add(out_.jcc(kNz));
  unmasked.site = site();
  unmasked.with_flags = !ignores_flags(block_.insns[index_]);
  unmasked.leaves = true;
  unmasked.uncount = static_cast<std::uint32_t>(site()->remaining - 1);
  add_cold(unmasked);
  out_.sse(0, Map::k0F, 0xae, 2, in_cpu(&cpu_.mxcsr));  // LDMXCSR
  in_float_ = true;
}

void BlockTranslator::store_mxcsr() {
  out_.sse(0, Map::k0F, 0xae, 3, in_cpu(&cpu_.mxcsr));  // STMXCSR
  out_.sse(0, Map::k0F, 0xae, 2, in_cpu(&cpu_.translated.host_mxcsr));
}

void BlockTranslator::leave_float() {
  if (!in_float_) return;
  store_mxcsr();
  in_float_ = false;
}

void BlockTranslator::load_xmm(unsigned host, unsigned guest_number) {
  out_.sse(0, Map::k0F, 0x28, host, xmm(guest_number));  // MOVAPS
}
void BlockTranslator::store_xmm(unsigned guest_number) {
  out_.sse(0, Map::k0F, 0x29, 0, xmm(guest_number));
}

// A 16-byte operand that must be aligned is looked at before anything else can fault.
void BlockTranslator::access_xmm(const Insn& i, unsigned bytes, bool aligned, Access kind) {
  save_flags();
  flags_lost();
  effective_address(i);
  add_segment_base(i.segment);
  if (aligned && bytes == 16) {
    out_.test_imm(k8, Rm::reg(kAddress), 15);
    Cold fails{Cold::Kind::kHandler};
    fails.add(out_.jcc(kNz));
    fails.site = site();
    fails.with_flags = !ignores_flags(i);
    add_cold(fails);
  }
  access_linear(bytes, kind);
}

Rm BlockTranslator::xmm_operand(const Insn& i, const Row& row) {
  if (i.memory == 0) return xmm(i.rm);
  access_xmm(i, source_bytes(row), (row.traits & kAligned) != 0, Access::kRead);
  return memory();
}

bool BlockTranslator::sse_two(const Insn& i) {
  const Row& row = *row_of(i.op);
  const Rm source = xmm_operand(i, row);
  // A source in memory of which 16 bytes are read need not be aligned in every row.
  const bool has_imm = row.args[2] == Arg::Ib;
  load_xmm(0, i.reg);
  out_.sse(prefix_byte(row.prefix), static_cast<Map>(row.map), row.opcode, 0, source);
  if (has_imm) out_.immediate8(static_cast<std::uint8_t>(i.imm));
  store_xmm(i.reg);
  return true;
}

bool BlockTranslator::sse_integer(const Insn& i) {
  check_sse();
  return sse_two(i);
}

bool BlockTranslator::sse_float(const Insn& i) {
  enter_float();
  return sse_two(i);
}

bool BlockTranslator::sse_shift_imm(const Insn& i) {
  const Row& row = *row_of(i.op);
  check_sse();
  load_xmm(0, i.rm);
  out_.sse(0x66, Map::k0F, row.opcode, static_cast<unsigned>(row.digit), Rm::reg(Host::kRax));
  out_.immediate8(static_cast<std::uint8_t>(i.imm));
  store_xmm(i.rm);
  return true;
}

bool BlockTranslator::sse_compare(const Insn& i) {
  const Row& row = *row_of(i.op);
  enter_float();
  const Rm source = xmm_operand(i, row);
  load_xmm(0, i.reg);
  out_.sse(prefix_byte(row.prefix), Map::k0F, row.opcode, 0, source);
  flags_written();
  return true;
}

// CVTSI2SS, CVTSI2SD.
bool BlockTranslator::sse_from_integer(const Insn& i) {
  const Row& row = *row_of(i.op);
  const Size size = i.size == k64 ? k64 : k32;
  enter_float();
  const Rm source = operand(i, size);
  load_xmm(0, i.reg);
  out_.sse(prefix_byte(row.prefix), Map::k0F, row.opcode, 0, source, size);
  store_xmm(i.reg);
  return true;
}

// CVTTSD2SI and its kin.
bool BlockTranslator::sse_to_integer(const Insn& i) {
  const Row& row = *row_of(i.op);
  const Size size = i.size == k64 ? k64 : k32;
  enter_float();
  const Rm source = xmm_operand(i, row);
  const Host to = pinned(i.reg) ? kHome[i.reg] : kScratch;
  out_.sse(prefix_byte(row.prefix), Map::k0F, row.opcode, static_cast<unsigned>(to), source, size);
  put_back(i.reg, to);
  return true;
}

// MOVMSKPS, MOVMSKPD, PMOVMSKB.
bool BlockTranslator::sse_mask(const Insn& i) {
  const Row& row = *row_of(i.op);
  check_sse();
  load_xmm(0, i.rm);
  const Host to = pinned(i.reg) ? kHome[i.reg] : kScratch;
  out_.sse(prefix_byte(row.prefix), Map::k0F, row.opcode, static_cast<unsigned>(to),
           Rm::reg(Host::kRax));
  put_back(i.reg, to);
  return true;
}

// ---- moves ----------------------------------------------------------------------------------------

bool BlockTranslator::sse_load(const Insn& i) {
  check_sse();
  if (i.memory == 0) {
    load_xmm(0, i.rm);
  } else {
    access_xmm(i, 16, i.op == Op::kMovapsLoad, Access::kRead);
    out_.sse(0, Map::k0F, 0x10, 0, memory());  // MOVUPS
  }
  store_xmm(i.reg);
  return true;
}

bool BlockTranslator::sse_store(const Insn& i) {
  check_sse();
  if (i.memory == 0) {
    load_xmm(0, i.reg);
    store_xmm(i.rm);
    return true;
  }
  access_xmm(i, 16, i.op == Op::kMovapsStore, Access::kWrite);
  load_xmm(0, i.reg);
  out_.sse(0, Map::k0F, 0x11, 0, memory());
  return true;
}

// MOVSS, MOVSD, MOVQ: memory clears the other lanes, a register leaves them (but MOVQ's).
bool BlockTranslator::sse_load_low(const Insn& i) {
  const bool single = i.op == Op::kMovssLoad, whole = i.op == Op::kMovqXmmLoad;
  check_sse();
  if (i.memory != 0) {
    access(i, single ? 4 : 8, Access::kRead);
    out_.sse(single ? 0xf3 : 0xf2, Map::k0F, 0x10, 0, memory());
  } else if (whole) {
    out_.sse(0xf3, Map::k0F, 0x7e, 0, xmm(i.rm));
  } else {
    load_xmm(0, i.reg);
    load_xmm(1, i.rm);
    out_.sse(single ? 0xf3 : 0xf2, Map::k0F, 0x10, 0, Rm::reg(Host::kRcx));  // XMM1
  }
  store_xmm(i.reg);
  return true;
}

bool BlockTranslator::sse_store_low(const Insn& i) {
  if (i.memory == 0) return false;
  const Size size = i.op == Op::kMovssStore ? k32 : k64;
  check_sse();
  access(i, 1u << size, Access::kWrite);
  out_.mov(size, kScratch2, xmm(i.reg));
  out_.mov(size, memory(), kScratch2);
  return true;
}

bool BlockTranslator::movd_to_xmm(const Insn& i) {
  const Size size = i.size == k64 ? k64 : k32;
  check_sse();
  const Rm source = operand(i, size);
  out_.sse(0x66, Map::k0F, 0x6e, 0, source, size);
  store_xmm(i.reg);
  return true;
}

bool BlockTranslator::movd_from_xmm(const Insn& i) {
  const Size size = i.size == k64 ? k64 : k32;
  check_sse();
  if (i.memory != 0) {
    access(i, 1u << size, Access::kWrite);
    out_.mov(size, kScratch2, xmm(i.reg));
    out_.mov(size, memory(), kScratch2);
    return true;
  }
  const Host to = pinned(i.rm) ? kHome[i.rm] : kScratch;
  out_.mov(size, to, xmm(i.reg));
  put_back(i.rm, to);
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

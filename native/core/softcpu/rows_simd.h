// MMX and SSE to SSE4.2 as encodings (SDM Vol. 2, appendix A, and each instruction's page). The
// regular ones come from simd_tables.def.
#pragma once
#include <array>

#include "softcpu/opcode_row.h"

namespace hv::softcpu {

namespace simd_rows {

inline constexpr std::uint32_t kBoth = kSse | kMmx;  // touches xmm and mm registers

constexpr Row make(Map map, Prefix prefix, std::uint8_t opcode, Op op, std::string_view name,
                   std::array<Arg, 3> args, std::uint32_t traits, Form form = Form::kAny) {
  Row row{.map = map, .opcode = opcode, .op = op, .name = name};
  row.form = form;
  row.args = args;
  row.traits = traits;
  row.prefix = prefix;
  return row;
}
// xmm, xmm/m128 and what else is given.
constexpr Row xmm(Map map, Prefix prefix, std::uint8_t opcode, Op op, std::string_view name,
                  Arg third = Arg::kNone) {
  return make(map, prefix, opcode, op, name, {Arg::Vx, Arg::Wx, third}, kSse | kAligned);
}
constexpr Row mmx(Map map, std::uint8_t opcode, Op op, std::string_view name, Arg source = Arg::Qq,
                  Arg third = Arg::kNone) {
  return make(map, Prefix::kNp, opcode, op, name, {Arg::Pq, source, third}, kMmx);
}
// One of the maps 0F, with the arguments as they are.
constexpr Row sse(Prefix prefix, std::uint8_t opcode, Op op, std::string_view name,
                  std::array<Arg, 3> args, std::uint32_t traits = kSse, Form form = Form::kAny) {
  return make(Map::k0F, prefix, opcode, op, name, args, traits, form);
}
constexpr Row sse4(Map map, std::uint8_t opcode, Op op, std::string_view name,
                   std::array<Arg, 3> args, std::uint32_t traits = kSse, Form form = Form::kAny) {
  return make(map, Prefix::k66, opcode, op, name, args, traits, form);
}
constexpr Row digit(int number, Row row) {
  row.digit = static_cast<std::int8_t>(number);
  return row;
}

}  // namespace simd_rows

// clang-format off
inline constexpr auto kSimdRows = [] {
  using namespace simd_rows;
  using enum Arg;
  using enum Map;
  using Prefix::k66, Prefix::kF2, Prefix::kF3, Prefix::kNp;
  using enum Form;
  return std::to_array<Row>({
#define SHARED(map, opcode, Name, name)            \
    mmx(map, opcode, Op::k##Name##Mmx, #name),     \
    xmm(map, k66, opcode, Op::k##Name, #name),
#define SHARED_LOW(opcode, Name, name)             \
    mmx(k0F, opcode, Op::k##Name##Mmx, #name, Qd), \
    xmm(k0F, k66, opcode, Op::k##Name, #name),
#define SHARED_IMM(map, opcode, Name, name)            \
    mmx(map, opcode, Op::k##Name##Mmx, #name, Qq, Ib), \
    xmm(map, k66, opcode, Op::k##Name, #name, Ib),
#define SHIFT(opcode, immediate, number, Name, name)                                            \
    mmx(k0F, opcode, Op::k##Name##Mmx, #name),                                                  \
    xmm(k0F, k66, opcode, Op::k##Name, #name),                                                  \
    digit(number, sse(kNp, immediate, Op::k##Name##ImmMmx, #name, {Nq, Ib}, kMmx, kRegister)),  \
    digit(number, sse(k66, immediate, Op::k##Name##Imm, #name, {Ux, Ib}, kSse, kRegister)),
#define XMM2(map, prefix, opcode, Name, name, function) \
    xmm(map, prefix, opcode, Op::k##Name, #name),
#define XMM2_IMM(map, prefix, opcode, Name, name, function) \
    xmm(map, prefix, opcode, Op::k##Name, #name, Ib),
#define FLOAT4(opcode, Name, name)                              \
    xmm(k0F, kNp, opcode, Op::k##Name##ps, #name "ps"),         \
    xmm(k0F, k66, opcode, Op::k##Name##pd, #name "pd"),         \
    sse(kF3, opcode, Op::k##Name##ss, #name "ss", {Vd, Wd}),    \
    sse(kF2, opcode, Op::k##Name##sd, #name "sd", {Vq, Wq}),
#include "softcpu/simd_tables.def"

    // MMX alone.
    sse(kNp, 0x77, Op::kEmms, "emms", {}, kMmx, kNoModrm),
    mmx(k0F, 0x70, Op::kPshufwMmx, "pshufw", Qq, Ib),
    mmx(k0F, 0x6e, Op::kMovdToMm, "movd", Ey),
    sse(kNp, 0x7e, Op::kMovdFromMm, "movd", {Ey, Pq}, kMmx),
    mmx(k0F, 0x6f, Op::kMovqMmLoad, "movq"),
    sse(kNp, 0x7f, Op::kMovqMmStore, "movq", {Qq, Pq}, kMmx),
    sse(kNp, 0xe7, Op::kMovntq, "movntq", {Mq, Pq}, kMmx, kMemory),
    sse(kNp, 0xf7, Op::kMaskmovq, "maskmovq", {Pq, Nq}, kMmx, kRegister),
    mmx(k0F, 0xc4, Op::kPinsrwMmx, "pinsrw", Ew, Ib),
    sse(kNp, 0xc5, Op::kPextrwMmx, "pextrw", {Gd, Nq, Ib}, kMmx, kRegister),
    sse(kNp, 0xd7, Op::kPmovmskbMmx, "pmovmskb", {Gd, Nq}, kMmx, kRegister),
    sse(kF3, 0xd6, Op::kMovq2dq, "movq2dq", {Vx, Nq}, kBoth, kRegister),
    sse(kF2, 0xd6, Op::kMovdq2q, "movdq2q", {Pq, Ux}, kBoth, kRegister),

    // Moves of 16 bytes.
    sse(kNp, 0x10, Op::kMovupsLoad, "movups", {Vx, Wx}),
    sse(k66, 0x10, Op::kMovupsLoad, "movupd", {Vx, Wx}),
    sse(kNp, 0x11, Op::kMovupsStore, "movups", {Wx, Vx}),
    sse(k66, 0x11, Op::kMovupsStore, "movupd", {Wx, Vx}),
    sse(kF3, 0x6f, Op::kMovupsLoad, "movdqu", {Vx, Wx}),
    sse(kF3, 0x7f, Op::kMovupsStore, "movdqu", {Wx, Vx}),
    sse(kF2, 0xf0, Op::kMovupsLoad, "lddqu", {Vx, Mdq}, kSse, kMemory),
    sse(kNp, 0x28, Op::kMovapsLoad, "movaps", {Vx, Wx}, kSse | kAligned),
    sse(k66, 0x28, Op::kMovapsLoad, "movapd", {Vx, Wx}, kSse | kAligned),
    sse(kNp, 0x29, Op::kMovapsStore, "movaps", {Wx, Vx}, kSse | kAligned),
    sse(k66, 0x29, Op::kMovapsStore, "movapd", {Wx, Vx}, kSse | kAligned),
    sse(k66, 0x6f, Op::kMovapsLoad, "movdqa", {Vx, Wx}, kSse | kAligned),
    sse(k66, 0x7f, Op::kMovapsStore, "movdqa", {Wx, Vx}, kSse | kAligned),
    sse(kNp, 0x2b, Op::kMovapsStore, "movntps", {Mdq, Vx}, kSse | kAligned, kMemory),
    sse(k66, 0x2b, Op::kMovapsStore, "movntpd", {Mdq, Vx}, kSse | kAligned, kMemory),
    sse(k66, 0xe7, Op::kMovapsStore, "movntdq", {Mdq, Vx}, kSse | kAligned, kMemory),
    sse4(k0F38, 0x2a, Op::kMovapsLoad, "movntdqa", {Vx, Mdq}, kSse | kAligned, kMemory),

    // Moves of parts.
    sse(kF3, 0x10, Op::kMovssLoad, "movss", {Vd, Wd}),
    sse(kF3, 0x11, Op::kMovssStore, "movss", {Wd, Vd}),
    sse(kF2, 0x10, Op::kMovsdXmmLoad, "movsd", {Vq, Wq}),
    sse(kF2, 0x11, Op::kMovsdXmmStore, "movsd", {Wq, Vq}),
    sse(kNp, 0x12, Op::kMovlps, "movlps", {Vq, Mq}, kSse, kMemory),
    sse(kNp, 0x12, Op::kMovhlps, "movhlps", {Vq, Uq}, kSse, kRegister),
    sse(k66, 0x12, Op::kMovlps, "movlpd", {Vq, Mq}, kSse, kMemory),
    sse(kNp, 0x13, Op::kMovlpsStore, "movlps", {Mq, Vq}, kSse, kMemory),
    sse(k66, 0x13, Op::kMovlpsStore, "movlpd", {Mq, Vq}, kSse, kMemory),
    sse(kNp, 0x16, Op::kMovhps, "movhps", {Vx, Mq}, kSse, kMemory),
    sse(kNp, 0x16, Op::kMovlhps, "movlhps", {Vx, Uq}, kSse, kRegister),
    sse(k66, 0x16, Op::kMovhps, "movhpd", {Vx, Mq}, kSse, kMemory),
    sse(kNp, 0x17, Op::kMovhpsStore, "movhps", {Mq, Vx}, kSse, kMemory),
    sse(k66, 0x17, Op::kMovhpsStore, "movhpd", {Mq, Vx}, kSse, kMemory),
    sse(kF2, 0x12, Op::kMovddup, "movddup", {Vx, Wq}),
    sse(k66, 0x6e, Op::kMovdToXmm, "movd", {Vx, Ey}),
    sse(k66, 0x7e, Op::kMovdFromXmm, "movd", {Ey, Vx}),
    sse(kF3, 0x7e, Op::kMovqXmmLoad, "movq", {Vx, Wq}),
    sse(k66, 0xd6, Op::kMovqXmmStore, "movq", {Wq, Vx}),
    sse(k66, 0xf7, Op::kMaskmovdqu, "maskmovdqu", {Vx, Ux}, kSse, kRegister),
    sse(kNp, 0x50, Op::kMovmskps, "movmskps", {Gd, Ux}, kSse, kRegister),
    sse(k66, 0x50, Op::kMovmskpd, "movmskpd", {Gd, Ux}, kSse, kRegister),
    sse(k66, 0xd7, Op::kPmovmskb, "pmovmskb", {Gd, Ux}, kSse, kRegister),
    digit(2, sse(kNp, 0xae, Op::kLdmxcsr, "ldmxcsr", {Md}, kSse, kMemory)),
    digit(3, sse(kNp, 0xae, Op::kStmxcsr, "stmxcsr", {Md}, kSse, kMemory)),

    // Shuffles.
    digit(3, sse(k66, 0x73, Op::kPsrldqImm, "psrldq", {Ux, Ib}, kSse, kRegister)),
    digit(7, sse(k66, 0x73, Op::kPslldqImm, "pslldq", {Ux, Ib}, kSse, kRegister)),
    sse(k66, 0xc4, Op::kPinsrw, "pinsrw", {Vx, Ew, Ib}),
    sse(k66, 0xc5, Op::kPextrwReg, "pextrw", {Gd, Ux, Ib}, kSse, kRegister),
    sse4(k0F3A, 0x14, Op::kPextrb, "pextrb", {Mb, Vx, Ib}, kSse, kMemory),
    sse4(k0F3A, 0x14, Op::kPextrb, "pextrb", {Ry, Vx, Ib}, kSse, kRegister),
    sse4(k0F3A, 0x15, Op::kPextrw, "pextrw", {Mw, Vx, Ib}, kSse, kMemory),
    sse4(k0F3A, 0x15, Op::kPextrw, "pextrw", {Ry, Vx, Ib}, kSse, kRegister),
    sse4(k0F3A, 0x16, Op::kPextrd, "pextrd", {Ey, Vx, Ib}),
    sse4(k0F3A, 0x17, Op::kExtractps, "extractps", {Ed, Vx, Ib}),
    sse4(k0F3A, 0x20, Op::kPinsrb, "pinsrb", {Vx, Mb, Ib}, kSse, kMemory),
    sse4(k0F3A, 0x20, Op::kPinsrb, "pinsrb", {Vx, Ry, Ib}, kSse, kRegister),
    sse4(k0F3A, 0x21, Op::kInsertps, "insertps", {Vx, Wd, Ib}),
    sse4(k0F3A, 0x22, Op::kPinsrd, "pinsrd", {Vx, Ey, Ib}),
    xmm(k0F38, k66, 0x10, Op::kPblendvb, "pblendvb", XMM0),
    xmm(k0F38, k66, 0x14, Op::kBlendvps, "blendvps", XMM0),
    xmm(k0F38, k66, 0x15, Op::kBlendvpd, "blendvpd", XMM0),
    xmm(k0F38, k66, 0x17, Op::kPtest, "ptest"),
    sse4(k0F38, 0x20, Op::kPmovsxbw, "pmovsxbw", {Vx, Wq}),
    sse4(k0F38, 0x21, Op::kPmovsxbd, "pmovsxbd", {Vx, Wd}),
    sse4(k0F38, 0x22, Op::kPmovsxbq, "pmovsxbq", {Vx, Ww}),
    sse4(k0F38, 0x23, Op::kPmovsxwd, "pmovsxwd", {Vx, Wq}),
    sse4(k0F38, 0x24, Op::kPmovsxwq, "pmovsxwq", {Vx, Wd}),
    sse4(k0F38, 0x25, Op::kPmovsxdq, "pmovsxdq", {Vx, Wq}),
    sse4(k0F38, 0x30, Op::kPmovzxbw, "pmovzxbw", {Vx, Wq}),
    sse4(k0F38, 0x31, Op::kPmovzxbd, "pmovzxbd", {Vx, Wd}),
    sse4(k0F38, 0x32, Op::kPmovzxbq, "pmovzxbq", {Vx, Ww}),
    sse4(k0F38, 0x33, Op::kPmovzxwd, "pmovzxwd", {Vx, Wq}),
    sse4(k0F38, 0x34, Op::kPmovzxwq, "pmovzxwq", {Vx, Wd}),
    sse4(k0F38, 0x35, Op::kPmovzxdq, "pmovzxdq", {Vx, Wq}),
    // Their memory operand need not be aligned.
    sse4(k0F3A, 0x60, Op::kPcmpestrm, "pcmpestrm", {Vx, Wx, Ib}),
    sse4(k0F3A, 0x61, Op::kPcmpestri, "pcmpestri", {Vx, Wx, Ib}),
    sse4(k0F3A, 0x62, Op::kPcmpistrm, "pcmpistrm", {Vx, Wx, Ib}),
    sse4(k0F3A, 0x63, Op::kPcmpistri, "pcmpistri", {Vx, Wx, Ib}),

    // Floating point.
    xmm(k0F, kNp, 0x52, Op::kRsqrtps, "rsqrtps"),
    sse(kF3, 0x52, Op::kRsqrtss, "rsqrtss", {Vd, Wd}),
    xmm(k0F, kNp, 0x53, Op::kRcpps, "rcpps"),
    sse(kF3, 0x53, Op::kRcpss, "rcpss", {Vd, Wd}),
    xmm(k0F, kF2, 0xd0, Op::kAddsubps, "addsubps"),
    xmm(k0F, k66, 0xd0, Op::kAddsubpd, "addsubpd"),
    xmm(k0F, kF2, 0x7c, Op::kHaddps, "haddps"),
    xmm(k0F, k66, 0x7c, Op::kHaddpd, "haddpd"),
    xmm(k0F, kF2, 0x7d, Op::kHsubps, "hsubps"),
    xmm(k0F, k66, 0x7d, Op::kHsubpd, "hsubpd"),
    xmm(k0F, kNp, 0xc2, Op::kCmpps, "cmpps", Ib),
    xmm(k0F, k66, 0xc2, Op::kCmppd, "cmppd", Ib),
    sse(kF3, 0xc2, Op::kCmpss, "cmpss", {Vd, Wd, Ib}),
    sse(kF2, 0xc2, Op::kCmpsdXmm, "cmpsd", {Vq, Wq, Ib}),
    sse(kNp, 0x2e, Op::kUcomiss, "ucomiss", {Vd, Wd}),
    sse(k66, 0x2e, Op::kUcomisd, "ucomisd", {Vq, Wq}),
    sse(kNp, 0x2f, Op::kComiss, "comiss", {Vd, Wd}),
    sse(k66, 0x2f, Op::kComisd, "comisd", {Vq, Wq}),
    xmm(k0F3A, k66, 0x08, Op::kRoundps, "roundps", Ib),
    xmm(k0F3A, k66, 0x09, Op::kRoundpd, "roundpd", Ib),
    sse4(k0F3A, 0x0a, Op::kRoundss, "roundss", {Vd, Wd, Ib}),
    sse4(k0F3A, 0x0b, Op::kRoundsd, "roundsd", {Vq, Wq, Ib}),
    xmm(k0F3A, k66, 0x40, Op::kDpps, "dpps", Ib),
    xmm(k0F3A, k66, 0x41, Op::kDppd, "dppd", Ib),

    // Conversions.
    sse(kNp, 0x2a, Op::kCvtpi2ps, "cvtpi2ps", {Vq, Qq}, kBoth),
    sse(k66, 0x2a, Op::kCvtpi2pd, "cvtpi2pd", {Vx, Qq}, kBoth),
    sse(kNp, 0x2c, Op::kCvttps2pi, "cvttps2pi", {Pq, Wq}, kBoth),
    sse(k66, 0x2c, Op::kCvttpd2pi, "cvttpd2pi", {Pq, Wx}, kBoth | kAligned),
    sse(kNp, 0x2d, Op::kCvtps2pi, "cvtps2pi", {Pq, Wq}, kBoth),
    sse(k66, 0x2d, Op::kCvtpd2pi, "cvtpd2pi", {Pq, Wx}, kBoth | kAligned),
    sse(kF3, 0x2a, Op::kCvtsi2ss, "cvtsi2ss", {Vd, Ey}),
    sse(kF2, 0x2a, Op::kCvtsi2sd, "cvtsi2sd", {Vq, Ey}),
    sse(kF3, 0x2c, Op::kCvttss2si, "cvttss2si", {Gy, Wd}),
    sse(kF2, 0x2c, Op::kCvttsd2si, "cvttsd2si", {Gy, Wq}),
    sse(kF3, 0x2d, Op::kCvtss2si, "cvtss2si", {Gy, Wd}),
    sse(kF2, 0x2d, Op::kCvtsd2si, "cvtsd2si", {Gy, Wq}),
    sse(kNp, 0x5a, Op::kCvtps2pd, "cvtps2pd", {Vx, Wq}),
    xmm(k0F, k66, 0x5a, Op::kCvtpd2ps, "cvtpd2ps"),
    sse(kF3, 0x5a, Op::kCvtss2sd, "cvtss2sd", {Vq, Wd}),
    sse(kF2, 0x5a, Op::kCvtsd2ss, "cvtsd2ss", {Vd, Wq}),
    xmm(k0F, kNp, 0x5b, Op::kCvtdq2ps, "cvtdq2ps"),
    xmm(k0F, k66, 0x5b, Op::kCvtps2dq, "cvtps2dq"),
    xmm(k0F, kF3, 0x5b, Op::kCvttps2dq, "cvttps2dq"),
    sse(kF3, 0xe6, Op::kCvtdq2pd, "cvtdq2pd", {Vx, Wq}),
    xmm(k0F, kF2, 0xe6, Op::kCvtpd2dq, "cvtpd2dq"),
    xmm(k0F, k66, 0xe6, Op::kCvttpd2dq, "cvttpd2dq"),
  });
}();
// clang-format on

}  // namespace hv::softcpu

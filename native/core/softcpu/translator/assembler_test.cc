// The assembler against encodings retyped from the SDM's tables, and against the decoder.
#include "softcpu/translator/assembler.h"

#include <initializer_list>
#include <vector>

#include "base/test.h"
#include "softcpu/decoder.h"

namespace {

using namespace hv::softcpu;
using namespace hv::softcpu::translator;

template <class F>
bool encodes(F&& emit, std::initializer_list<unsigned> wanted) {
  std::uint8_t buffer[64];
  Assembler out{buffer, buffer + sizeof buffer};
  emit(out);
  std::vector<std::uint8_t> got(buffer, out.here()), expected;
  for (const unsigned value : wanted) expected.push_back(static_cast<std::uint8_t>(value));
  if (got == expected) return true;
  for (const std::uint8_t value : got) std::fprintf(stderr, "%02x ", value);
  std::fprintf(stderr, "\n");
  return false;
}

}  // namespace

TEST(moves) {
  EXPECT(encodes([](Assembler& a) { a.mov(Host::kRax, Host::kR15); }, {0x49, 0x8b, 0xc7}));
  EXPECT(encodes([](Assembler& a) { a.mov(k32, Host::kRcx, Rm::at(Host::kRbp, -8)); },
                 {0x8b, 0x4d, 0xf8}));
  EXPECT(encodes([](Assembler& a) { a.mov(k8, Rm::at(Host::kR12), Host::kRsi); },
                 {0x41, 0x88, 0x34, 0x24}));
  EXPECT(encodes([](Assembler& a) { a.mov(k8, Rm::at(Host::kRbx), Host::kRsi); },
                 {0x40, 0x88, 0x33}));
  EXPECT(encodes([](Assembler& a) { a.mov(k16, Rm::at(Host::kR13), Host::kRax); },
                 {0x66, 0x41, 0x89, 0x45, 0x00}));
  EXPECT(encodes([](Assembler& a) { a.mov_imm(k64, Rm::at(Host::kR14), ~0ull); },
                 {0x49, 0xc7, 0x06, 0xff, 0xff, 0xff, 0xff}));
  EXPECT(encodes([](Assembler& a) { a.load_imm(Host::kR14, 0x1122'3344'5566'7788); },
                 {0x49, 0xbe, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11}));
  EXPECT(encodes([](Assembler& a) { a.load_imm(Host::kRax, 5); }, {0xb8, 5, 0, 0, 0}));
  EXPECT(encodes([](Assembler& a) { a.movzx(k32, Host::kRax, Rm::reg(Host::kRdi), k8); },
                 {0x40, 0x0f, 0xb6, 0xc7}));
  EXPECT(encodes([](Assembler& a) { a.movsx(k64, Host::kR10, Rm::reg(Host::kR10), k32); },
                 {0x4d, 0x63, 0xd2}));
}

TEST(addresses) {
  EXPECT(encodes([](Assembler& a) {
    a.lea(k64, Host::kR14, Rm::indexed(Host::kRbx, Host::kR12, 3, 0x100));
  }, {0x4e, 0x8d, 0xb4, 0xe3, 0x00, 0x01, 0x00, 0x00}));
  EXPECT(encodes([](Assembler& a) { a.lea(k32, Host::kR14, Rm::scaled(Host::kRcx, 2, 4)); },
                 {0x44, 0x8d, 0x34, 0x8d, 4, 0, 0, 0}));
  EXPECT(encodes([](Assembler& a) {
    a.lea(k64, Host::kRax, Rm::indexed(Host::kR13, Host::kRax, 0, 0));
  }, {0x49, 0x8d, 0x44, 0x05, 0x00}));
  EXPECT(encodes([](Assembler& a) { a.jmp(Rm::at(Host::kRax, 24)); }, {0xff, 0x60, 24}));
}

TEST(arithmetic) {
  EXPECT(encodes([](Assembler& a) { a.alu(Alu::kAdc, k64, Host::kRdx, Rm::reg(Host::kR8)); },
                 {0x49, 0x13, 0xd0}));
  EXPECT(encodes([](Assembler& a) { a.alu(Alu::kCmp, k8, Rm::at(Host::kRax), Host::kRbx); },
                 {0x38, 0x18}));
  EXPECT(encodes([](Assembler& a) { a.alu_imm(Alu::kAnd, k64, Rm::reg(Host::kR15), ~0xfffull); },
                 {0x49, 0x81, 0xe7, 0x00, 0xf0, 0xff, 0xff}));
  EXPECT(encodes([](Assembler& a) { a.alu_imm(Alu::kSub, k16, Rm::reg(Host::kRcx), 0xfff8); },
                 {0x66, 0x83, 0xe9, 0xf8}));
  EXPECT(encodes([](Assembler& a) { a.imul_imm(k32, Host::kRax, Rm::reg(Host::kRcx), 1000); },
                 {0x69, 0xc1, 0xe8, 0x03, 0, 0}));
  EXPECT(encodes([](Assembler& a) { a.unary(Unary::kMul, k64, Rm::reg(Host::kRsi)); },
                 {0x48, 0xf7, 0xe6}));
  EXPECT(encodes([](Assembler& a) { a.shift_imm(Shift::kSar, k64, Rm::reg(Host::kRdx), 63); },
                 {0x48, 0xc1, 0xfa, 63}));
  EXPECT(encodes([](Assembler& a) { a.shift_imm(Shift::kRcr, k32, Rm::reg(Host::kRdx), 1); },
                 {0xd1, 0xda}));
  EXPECT(encodes([](Assembler& a) { a.popcnt(k64, Host::kR9, Rm::reg(Host::kRax)); },
                 {0xf3, 0x4c, 0x0f, 0xb8, 0xc8}));
  EXPECT(encodes([](Assembler& a) { a.bit(5, k64, Rm::at(Host::kR14), Host::kR15); },
                 {0x4d, 0x0f, 0xab, 0x3e}));
  EXPECT(encodes([](Assembler& a) { a.setcc(kL, Rm::reg(Host::kRsi)); }, {0x40, 0x0f, 0x9c, 0xc6}));
  EXPECT(encodes([](Assembler& a) { a.cmov(kNz, k64, Host::kR10, Rm::reg(Host::kRcx)); },
                 {0x4c, 0x0f, 0x45, 0xd1}));
}

TEST(jumps_are_bound_both_ways) {
  std::uint8_t buffer[64];
  Assembler out{buffer, buffer + sizeof buffer};
  const Fixup ahead = out.jcc(kZ);
  std::uint8_t* const back = out.here();
  Assembler::bind(out.jmp(), back);
  out.bind(ahead);
  EXPECT_EQ(buffer[2], 5);     // over the five bytes of JMP
  EXPECT_EQ(buffer[7], 0xfb);  // -5
}

TEST(what_does_not_fit_is_not_written) {
  std::uint8_t buffer[8] = {};
  Assembler out{buffer, buffer + 4};
  out.load_imm(Host::kRax, ~0ull >> 1);
  EXPECT(out.overflowed());
  EXPECT_EQ(buffer[4], 0);
}

TEST(the_decoder_reads_what_is_written) {
  std::uint8_t buffer[64];
  for (unsigned to = 0; to < 16; ++to) {
    for (unsigned base = 0; base < 16; ++base) {
      for (const std::int32_t disp : {0, 8, -200}) {
        Assembler out{buffer, buffer + sizeof buffer};
        out.mov(k64, static_cast<Host>(to), Rm::at(static_cast<Host>(base), disp));
        const Decoded decoded =
            decode({buffer, static_cast<std::size_t>(out.here() - buffer)}, CodeSize::k64);
        EXPECT(decoded.status == DecodeStatus::kOk && decoded.insn.op == Op::kMovRm);
        EXPECT_EQ(decoded.insn.reg, to);
        EXPECT_EQ(decoded.insn.base, base);
        EXPECT_EQ(decoded.insn.disp, disp);
      }
    }
  }
}

TEST_MAIN()

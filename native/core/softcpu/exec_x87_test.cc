// x87 instructions in running code: what a guest sees of results, images in memory and exceptions.
// exec_x87_host_test.cc compares the arithmetic with the host's.
#include "softcpu/test_machine.h"

using namespace hv;
using namespace hv::softcpu;

namespace {

constexpr std::uint64_t kData = TestMachine::kData;
constexpr std::uint64_t kPiAsDouble = 0x400921fb54442d18;
constexpr int kDeviceNotAvailable = 7, kGeneralProtection = 13, kFloatingPointError = 16;

// Data operands are [rbx] (in real mode [bx]) with rbx = kData (0).
void point_at_data(TestMachine& m, std::uint64_t offset) {
  m.change([&](CpuState& s) { s.gpr[kRbx] = offset; });
}

struct Long64 : TestMachine {
  Long64() {
    enter_long64();
    point_at_data(*this, kData);
  }
};

struct Real : TestMachine {
  Real() {
    enter_real();
    point_at_data(*this, 0);
  }
};

using Bytes = std::vector<std::uint8_t>;

}  // namespace

TEST(pi_is_stored_as_a_double) {
  Long64 m;
  const CpuState s = m.execute({0xdb, 0xe3, 0xd9, 0xeb, 0xdd, 0x1b});  // fninit fldpi fstp [rbx]
  EXPECT_EQ(m.get64(kData), kPiAsDouble);
  EXPECT_EQ(s.fpu.status, 0x0020);  // inexact, and not rounded up
  EXPECT_EQ(s.fpu.tags, 0xffff);
}

TEST(a_chain_of_arithmetic) {
  Long64 m;
  m.put32(kData, 0x40a00000);  // 5.0f
  // fninit; fld1; fadd st0,st0; fmul dword [rbx]; fist dword [rbx+8]; fchs; fistp word [rbx+16]
  m.execute({0xdb, 0xe3, 0xd9, 0xe8, 0xd8, 0xc0, 0xd8, 0x0b, 0xdb, 0x53, 0x08, 0xd9, 0xe0, 0xdf,
             0x5b, 0x10});
  EXPECT_EQ(m.get(kData + 8, 4), 10);
  EXPECT_EQ(m.get(kData + 16, 2), 0xfff6);
}

TEST(packed_decimal_goes_both_ways) {
  Long64 m;
  m.put64(kData, 0x1234567890123456);
  m.put16(kData + 8, 0x8078);
  m.execute({0xdb, 0xe3, 0xdf, 0x23, 0xdf, 0x73, 0x10});  // fbld [rbx]; fbstp [rbx+16]
  EXPECT_EQ(m.get64(kData + 16), 0x1234567890123456);
  EXPECT_EQ(m.get(kData + 24, 2), 0x8078);
}

TEST(comparison_to_flags_and_a_conditional_move) {
  Long64 m;
  // fninit; fld1; fldpi; fcomi st0,st1; fcmovnbe st0,st1; fstp qword [rbx]
  const CpuState s = m.execute({0xdb, 0xe3, 0xd9, 0xe8, 0xd9, 0xeb, 0xdb, 0xf1, 0xdb, 0xd1, 0xdd,
                                0x1b});
  EXPECT_EQ(s.rflags & 0x8d5, 0);  // pi is above 1
  EXPECT_EQ(m.get64(kData), 0x3ff0000000000000);
}

TEST(task_switched_and_emulation_raise_nm) {
  for (const std::uint64_t bit : {0x8u, 0x4u}) {
    Long64 m;
    m.change([&](CpuState& s) { s.cr0 |= bit; });
    m.execute({0xd9, 0xd0});
    EXPECT_EQ(m.vector(), kDeviceNotAvailable);
  }
}

TEST(wait_heeds_monitor_coprocessor) {
  Long64 m;
  m.change([](CpuState& s) { s.cr0 = (s.cr0 & ~0xeull) | 0x8; });  // TS without MP
  m.execute({0x9b});
  EXPECT_EQ(m.vector(), -1);
  m.change([](CpuState& s) { s.cr0 |= 0x2; });
  m.execute({0x9b});
  EXPECT_EQ(m.vector(), kDeviceNotAvailable);
}

TEST(an_unmasked_exception_waits_for_the_next_instruction) {
  Long64 m;
  m.put16(kData, 0x037b);  // zero-divide unmasked
  // fninit; fldcw [rbx]; fldz; fld1; fdiv st0,st1; fnstsw ax; nop; fnop
  const Bytes code = {0xdb, 0xe3, 0xd9, 0x2b, 0xd9, 0xee, 0xd9, 0xe8,
                      0xd8, 0xf1, 0xdf, 0xe0, 0x90, 0xd9, 0xd0};
  const CpuState s = m.execute(code);
  EXPECT_EQ(m.vector(), kFloatingPointError);
  EXPECT_EQ(m.stack_top(0), TestMachine::kCode + 13);  // the FNOP
  EXPECT_EQ(s.gpr[kRax] & 0xffff, 0xb084);             // B, TOP 6, ES, ZE
  EXPECT_EQ(s.fpu.physical[6].sign_exponent, 0x3fff);  // the dividend is still there
  EXPECT_EQ(s.fpu.instruction, TestMachine::kCode + 8);
  EXPECT_EQ(s.fpu.opcode, 0x0f1);
}

TEST(without_ne_nothing_is_reported) {
  Long64 m;
  m.change([](CpuState& s) { s.cr0 &= ~0x20ull; });
  m.put16(kData, 0x037b);
  m.execute({0xdb, 0xe3, 0xd9, 0x2b, 0xd9, 0xee, 0xd9, 0xe8, 0xd8, 0xf1, 0xd9, 0xd0});
  EXPECT_EQ(m.vector(), -1);
}

TEST(a_store_that_faults_leaves_no_trace) {
  Long64 m;
  m.execute({0xdb, 0xe3, 0xd9, 0xeb});
  m.change([](CpuState& s) { s.gpr[kRbx] = 1ull << 63; });  // not canonical
  const CpuState s = m.execute({0xdd, 0x1b});
  EXPECT_EQ(m.vector(), kGeneralProtection);
  EXPECT_EQ(s.fpu.status, 0x3800);  // no pop, no inexact
  EXPECT_EQ(s.fpu.tags, 0x3fff);
}

// SDM Vol. 1, "Protected Mode x87 FPU State Image in Memory, 32-Bit Format".
TEST(environment_in_32_bit_protected_mode) {
  TestMachine m;
  m.enter_flat32();
  point_at_data(m, kData);
  m.put32(kData + 64, 0x3f800000);
  m.execute({0xdb, 0xe3, 0xd9, 0x43, 0x40, 0xd9, 0x33});  // fninit; fld dword [ebx+64]; fnstenv
  EXPECT_EQ(m.get(kData, 4), 0xffff037f);
  EXPECT_EQ(m.get(kData + 4, 4), 0xffff3800);
  EXPECT_EQ(m.get(kData + 8, 4), 0xffff3fff);
  EXPECT_EQ(m.get(kData + 12, 4), TestMachine::kCode + 2);
  EXPECT_EQ(m.get(kData + 16, 4), std::uint32_t{0x143} << 16 | TestMachine::kCode32);
  EXPECT_EQ(m.get(kData + 20, 4), kData + 64);
  EXPECT_EQ(m.get(kData + 24, 4), 0xffff0000u | TestMachine::kDataSel);
}

// … "Real Mode x87 FPU State Image in Memory, 16-Bit Format": linear addresses.
TEST(environment_in_16_bit_real_mode) {
  Real m;
  m.put32(kData + 64, 0x3f800000);
  m.execute({0xdb, 0xe3, 0xd9, 0x47, 0x40, 0xd9, 0x37});  // fninit; fld dword [bx+64]; fnstenv [bx]
  EXPECT_EQ(m.get(kData, 2), 0x037f);
  EXPECT_EQ(m.get(kData + 2, 2), 0x3800);
  EXPECT_EQ(m.get(kData + 4, 2), 0x3fff);
  EXPECT_EQ(m.get(kData + 6, 2), 0x0002);                // CS is 1000h
  EXPECT_EQ(m.get(kData + 8, 2), 0x1147);
  EXPECT_EQ(m.get(kData + 10, 2), 0x0040);               // DS is 2000h
  EXPECT_EQ(m.get(kData + 12, 2), 0x2000);
}

TEST(save_and_restore_in_every_layout) {
  for (const bool wide : {false, true}) {
    Real m;
    Bytes code = {0xdb, 0xe3, 0xd9, 0xeb, 0xd9, 0xe8};  // fninit; fldpi; fld1
    const auto add = [&](std::initializer_list<std::uint8_t> bytes) {
      if (wide) code.push_back(0x66);
      code.insert(code.end(), bytes);
    };
    add({0xdd, 0x37});  // fnsave [bx]
    add({0xdd, 0x27});  // frstor [bx]
    const CpuState s = m.execute(code);
    EXPECT_EQ(s.fpu.status, 0x3000);
    EXPECT_EQ(s.fpu.tags, 0x0fff);
    EXPECT_EQ(s.fpu.physical[6].significand, 0x8000000000000000);
    EXPECT_EQ(s.fpu.physical[7].significand, 0xc90fdaa22168c235);
    EXPECT_EQ(m.get64(kData + (wide ? 28 : 14) + 10), 0xc90fdaa22168c235);
  }
}

TEST(save_initializes) {
  Long64 m;
  m.put16(kData + 0x100, 0x0c40);
  const CpuState s = m.execute({0xd9, 0xab, 0x00, 0x01, 0x00, 0x00, 0xd9, 0xe8, 0xdd, 0x33});
  EXPECT_EQ(s.fpu.control, 0x37f);
  EXPECT_EQ(s.fpu.status, 0);
  EXPECT_EQ(s.fpu.tags, 0xffff);
  EXPECT_EQ(s.fpu.instruction, 0);
}

// SDM Vol. 2, "Non-64-Bit-Mode Layout of FXSAVE and FXRSTOR Memory Region", and with REX.W.
TEST(fxsave_in_64_bit_mode) {
  Long64 m;
  m.change([](CpuState& s) {
    s.fpu.xmm[0].qword = {0x1111, 0x2222};
    s.fpu.xmm[15].qword = {0x3333, 0x4444};
    s.fpu.mxcsr = 0x1fa0;
  });
  m.put32(kData + 0x400, 0x3f800000);
  // fninit; fld dword [rbx+0x400]; fxsave64 [rbx]
  m.execute({0xdb, 0xe3, 0xd9, 0x83, 0x00, 0x04, 0x00, 0x00, 0x48, 0x0f, 0xae, 0x03});
  EXPECT_EQ(m.get64(kData), 0x0183'0080'3800'037f);
  EXPECT_EQ(m.get64(kData + 8), TestMachine::kCode + 2);
  EXPECT_EQ(m.get64(kData + 16), kData + 0x400);
  EXPECT_EQ(m.get64(kData + 24), 0x0000'ffff'0000'1fa0);
  EXPECT_EQ(m.get64(kData + 32), 0x8000000000000000);
  EXPECT_EQ(m.get64(kData + 40), 0x3fff);
  EXPECT_EQ(m.get64(kData + 160), 0x1111);
  EXPECT_EQ(m.get64(kData + 160 + 15 * 16 + 8), 0x4444);
}

TEST(fxrstor_takes_back_what_fxsave_stored) {
  Long64 m;
  m.change([](CpuState& s) { s.fpu.xmm[7].qword = {7, 8}; });
  // fninit; fldpi; fxsave [rbx]; fninit; pxor xmm7,xmm7; fxrstor [rbx]
  const CpuState s = m.execute({0xdb, 0xe3, 0xd9, 0xeb, 0x0f, 0xae, 0x03, 0xdb, 0xe3, 0x66, 0x0f,
                                0xef, 0xff, 0x0f, 0xae, 0x0b});
  EXPECT_EQ(s.fpu.status, 0x3800);
  EXPECT_EQ(s.fpu.tags, 0x3fff);
  EXPECT_EQ(s.fpu.physical[7].significand, 0xc90fdaa22168c235);
  EXPECT_EQ(s.fpu.xmm[7].qword[1], 8);
}

TEST(fxsave_demands_alignment_and_fxrstor_a_valid_mxcsr) {
  Long64 m;
  point_at_data(m, kData + 8);
  m.execute({0x0f, 0xae, 0x03});
  EXPECT_EQ(m.vector(), kGeneralProtection);
  point_at_data(m, kData);
  m.enter_long64();
  point_at_data(m, kData);
  m.put32(kData + 24, 0x10000);
  m.execute({0x0f, 0xae, 0x0b});
  EXPECT_EQ(m.vector(), kGeneralProtection);
}

TEST(aliases_that_hardware_executes) {
  Long64 m;
  // fninit; fld1; fldpi; ffreep st1, which empties the stack; fldpi; fld1; fxch st1 by DD C9;
  // fstp st1 by DF D1; fstp qword [rbx]
  const CpuState s = m.execute({0xdb, 0xe3, 0xd9, 0xe8, 0xd9, 0xeb, 0xdf, 0xc1, 0xd9, 0xeb, 0xd9,
                                0xe8, 0xdd, 0xc9, 0xdf, 0xd1, 0xdd, 0x1b});
  EXPECT_EQ(m.get64(kData), kPiAsDouble);
  EXPECT_EQ(s.fpu.tags, 0xffff);
}

TEST(reserved_encodings_are_undefined) {
  for (const Bytes& code : {Bytes{0xd9, 0xd1}, Bytes{0xdb, 0xe5}, Bytes{0xde, 0xd8},
                            Bytes{0xdf, 0xf8}, Bytes{0xd9, 0x0b}, Bytes{0xdd, 0x2b}}) {
    Long64 m;
    m.execute(code);
    EXPECT_EQ(m.vector(), 6);
  }
}

TEST_MAIN()

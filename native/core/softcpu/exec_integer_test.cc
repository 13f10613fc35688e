// Integer instructions where modes, widths and faults matter. (Their arithmetic is compared with
// the host's CPU by the oracle.)
#include "softcpu/test_machine.h"

namespace hv::softcpu {

namespace {

constexpr unsigned kC = 0x001, kP = 0x004, kA = 0x010, kZ = 0x040, kS = 0x080;
constexpr std::uint64_t kArithmetic = 0x8d5;

using Bytes = std::vector<std::uint8_t>;

CpuState run32(const Bytes& code, std::uint64_t eax, std::uint64_t rflags = 2) {
  TestMachine m;
  m.enter_flat32();
  m.change([&](CpuState& s) {
    s.gpr[kRax] = eax;
    s.rflags = rflags;
  });
  return m.execute(code);
}

struct Decimal {
  std::uint8_t opcode;
  unsigned ax, flags, wanted_ax, wanted_flags, compared;
};

}  // namespace

// SDM Vol. 2, "DAA", "DAS", "AAA", "AAS": the undefined flags are not compared.
TEST(decimal_adjustments) {
  constexpr unsigned kAll = kC | kP | kA | kZ | kS, kAsciiFlags = kC | kA;
  const Decimal cases[] = {
      {0x27, 0x00ae, 0, 0x0014, kC | kA | kP, kAll},      // 79H + 35H: SDM's example
      {0x27, 0x0014, kC | kA, 0x007a, kC | kA, kC | kA},
      {0x27, 0x009a, 0, 0x0000, kC | kA | kZ | kP, kAll},
      {0x27, 0x0042, 0, 0x0042, kP, kAll},
      {0x2f, 0x00ee, kC | kA, 0x0088, kC | kA | kS | kP, kAll},  // 35H - 47H
      {0x2f, 0x0003, kA, 0x00fd, kC | kA, kC | kA},
      {0x2f, 0x0042, 0, 0x0042, kP, kAll},
      {0x37, 0x000b, 0, 0x0101, kAsciiFlags, kAsciiFlags},
      {0x37, 0x00fb, 0, 0x0201, kAsciiFlags, kAsciiFlags},  // AX + 106H carries into AH
      {0x37, 0x1234, 0, 0x1204, 0, kAsciiFlags},
      {0x3f, 0x0205, kA, 0x000f, kAsciiFlags, kAsciiFlags},
      {0x3f, 0x0209, 0, 0x0209, 0, kAsciiFlags},
  };
  for (const Decimal& c : cases) {
    const CpuState s = run32({c.opcode}, 0xabcd0000 | c.ax, 2 | c.flags);
    if (!EXPECT_EQ(s.gpr[kRax], 0xabcd0000 | c.wanted_ax) ||
        !EXPECT_EQ(s.rflags & c.compared, c.wanted_flags & c.compared))
      std::fprintf(stderr, "  opcode %02x, AX %04x\n", c.opcode, c.ax);
  }
  EXPECT_EQ(run32({0xd4, 0x0a}, 0x0063).gpr[kRax], 0x0909u);  // AAM: 99 is 9 and 9
  EXPECT_EQ(run32({0xd5, 0x0a}, 0x0909).gpr[kRax], 0x0063u);  // AAD
  EXPECT_EQ(run32({0xd4, 0x10}, 0x00a5).gpr[kRax], 0x0a05u);
}

TEST(division_faults_leave_everything_as_it_was) {
  const Bytes cases[] = {
      {0xf6, 0xf3},              // DIV BL: 0
      {0x48, 0xf7, 0xf3},        // DIV RBX: 0
      {0x48, 0xf7, 0xfb},        // IDIV RBX: 0
      {0x48, 0xf7, 0xf1},        // DIV RCX: the quotient is too big
      {0x48, 0xf7, 0xfe},        // IDIV RSI: least number by -1
  };
  for (const Bytes& code : cases) {
    TestMachine m;
    m.enter_long64();
    m.change([](CpuState& s) {
      s.gpr[kRax] = 0;
      s.gpr[kRdx] = 1ull << 63;
      s.gpr[kRbx] = 0;
      s.gpr[kRcx] = 1ull << 63;
      s.gpr[kRsi] = ~0ull;
      s.rflags = 0x8d7;
    });
    const CpuState s = m.execute(code);
    EXPECT_EQ(m.vector(), 0);
    EXPECT_EQ(s.gpr[kRdx], 1ull << 63);
    EXPECT_EQ(s.gpr[kRax], 0u);
    EXPECT_EQ(m.stack_top(0), TestMachine::kCode);
    EXPECT_EQ(m.stack_top(2) & kArithmetic, 0x8d5u);
  }
  EXPECT_EQ(run32({0xd4, 0x00}, 5).rip, TestMachine::kStubs + 1);  // AAM 0: #DE
}

TEST(the_least_number_divides) {
  TestMachine m;
  m.enter_long64();
  m.change([](CpuState& s) {
    s.gpr[kRax] = 1ull << 63;
    s.gpr[kRdx] = ~0ull;
    s.gpr[kRcx] = 1;
  });
  const CpuState s = m.execute({0x48, 0xf7, 0xf9});  // IDIV RCX
  EXPECT_EQ(m.vector(), -1);
  EXPECT_EQ(s.gpr[kRax], 1ull << 63);
  EXPECT_EQ(s.gpr[kRdx], 0u);
}

TEST(bound_checks_signed_limits) {
  TestMachine m;
  m.enter_flat32();
  m.put32(TestMachine::kData, static_cast<std::uint32_t>(-5));
  m.put32(TestMachine::kData + 4, 10);
  const Bytes bound = {0x62, 0x05, 0x00, 0x00, 0x02, 0x00};  // BOUND EAX, [kData]
  for (const int inside : {-5, 0, 10}) {
    m.change([&](CpuState& s) { s.gpr[kRax] = static_cast<std::uint32_t>(inside); });
    m.execute(bound);
    EXPECT_EQ(m.vector(), -1);
  }
  for (const int outside : {-6, 11}) {
    m.change([&](CpuState& s) { s.gpr[kRax] = static_cast<std::uint32_t>(outside); });
    m.execute(bound);
    EXPECT_EQ(m.vector(), 5);
    m.enter_flat32();
  }
}

TEST(pusha_and_popa) {
  TestMachine m;
  m.enter_flat32();
  m.change([](CpuState& s) {
    for (unsigned n = 0; n < 8; ++n)
      if (n != kRsp) s.gpr[n] = 0x1000 + n;
  });
  CpuState s = m.execute({0x60});
  EXPECT_EQ(s.gpr[kRsp], TestMachine::kStack - 32);
  for (unsigned n = 0; n < 8; ++n)
    EXPECT_EQ(m.get(TestMachine::kStack - 4 - 4 * n, 4), n == kRsp ? TestMachine::kStack : 0x1000 + n);
  m.change([](CpuState& state) {
    for (unsigned n = 0; n < 8; ++n)
      if (n != kRsp) state.gpr[n] = 0;
  });
  s = m.execute({0x61});
  EXPECT_EQ(s.gpr[kRsp], TestMachine::kStack);
  for (unsigned n = 0; n < 8; ++n)
    if (n != kRsp) EXPECT_EQ(s.gpr[n], 0x1000 + n);
}

TEST(enter_with_nesting_and_leave) {
  TestMachine m;
  m.enter_long64();
  constexpr std::uint64_t kOuter = TestMachine::kStack - 0x100;
  m.put64(kOuter - 8, 0x1111);
  m.put64(kOuter - 16, 0x2222);
  m.change([](CpuState& s) { s.gpr[kRbp] = kOuter; });
  const CpuState s = m.execute({0xc8, 0x20, 0x00, 0x03});  // ENTER 32, 3
  const std::uint64_t frame = TestMachine::kStack - 8;
  EXPECT_EQ(s.gpr[kRbp], frame);
  EXPECT_EQ(s.gpr[kRsp], frame - 24 - 32);
  EXPECT_EQ(m.get64(frame), kOuter);
  EXPECT_EQ(m.get64(frame - 8), 0x1111u);
  EXPECT_EQ(m.get64(frame - 16), 0x2222u);
  EXPECT_EQ(m.get64(frame - 24), frame);
  const CpuState left = m.execute({0xc9});
  EXPECT_EQ(left.gpr[kRbp], kOuter);
  EXPECT_EQ(left.gpr[kRsp], TestMachine::kStack);
}

TEST(pop_to_memory_addresses_by_the_moved_stack_pointer) {
  TestMachine m;
  m.enter_long64();
  m.put64(TestMachine::kStack - 16, 0x77);
  m.change([](CpuState& s) { s.gpr[kRsp] = TestMachine::kStack - 16; });
  m.execute({0x8f, 0x04, 0x24});  // POP [RSP]
  EXPECT_EQ(m.get64(TestMachine::kStack - 8), 0x77u);
  m.change([](CpuState& s) { s.gpr[kRsp] = TestMachine::kStack - 16; });
  EXPECT_EQ(m.execute({0x5c}).gpr[kRsp], 0x77u);  // POP RSP
  m.change([](CpuState& s) { s.gpr[kRsp] = TestMachine::kStack; });
  m.execute({0x54});  // PUSH RSP: the value before
  EXPECT_EQ(m.get64(TestMachine::kStack - 8), TestMachine::kStack);
}

TEST(a_push_that_faults_moves_nothing) {
  TestMachine m;
  m.enter_long64();
  // Past the 1 GiB that is mapped; the fault is delivered on a stack from the IST.
  m.put64(TestMachine::kTss + 0x24, TestMachine::kStack);
  m.put64(TestMachine::kIdt + 14 * 16, m.get64(TestMachine::kIdt + 14 * 16) | 1ull << 32);
  m.change([](CpuState& s) { s.gpr[kRsp] = 0x5000'0000; });
  m.execute({0x50});
  EXPECT_EQ(m.vector(), 14);
  EXPECT_EQ(m.error_code(), 2u);
  EXPECT_EQ(m.state().cr2, 0x4fff'fff8u);
  EXPECT_EQ(m.stack_top(4), 0x5000'0000u);  // the RSP pushed
}

TEST(branches_cut_the_target_by_the_operand_size) {
  TestMachine m;
  m.enter_real();
  m.put(TestMachine::kCode, {0xf4});
  m.code({0xe9, 0xfc, 0xff}, TestMachine::kCode + 1);  // JMP to IP 0
  EXPECT_EQ(m.run_until_halt(), Exit::kHalted);
  EXPECT_EQ(m.state().rip, 1u);
  // 66 JMP rel32 past the limit of 64 KiB: #GP at the branch.
  m.enter_real();
  m.code({0x66, 0xe9, 0, 0, 1, 0});
  EXPECT_EQ(m.run_until_halt(), Exit::kHalted);
  EXPECT_EQ(m.stack_top(0), 0u);
  EXPECT_EQ(m.state().rip, TestMachine::kStubs + 13 * 16 + 1);
}

TEST(a_jump_to_a_noncanonical_address_faults_at_the_branch) {
  TestMachine m;
  m.enter_long64();
  m.change([](CpuState& s) { s.gpr[kRax] = 1ull << 47; });
  const Bytes branches[] = {{0xff, 0xe0}, {0xff, 0xd0}};
  for (const Bytes& branch : branches) {
    m.enter_long64();
    m.change([](CpuState& s) { s.gpr[kRax] = 1ull << 47; });
    m.execute(branch);
    EXPECT_EQ(m.vector(), 13);
    EXPECT_EQ(m.stack_top(1), TestMachine::kCode);
    EXPECT_EQ(m.stack_top(4), TestMachine::kStack);
  }
  m.enter_long64();
  m.put64(TestMachine::kStack - 8, 1ull << 47);
  m.change([](CpuState& s) { s.gpr[kRsp] -= 8; });
  m.execute({0xc3});
  EXPECT_EQ(m.vector(), 13);
  EXPECT_EQ(m.stack_top(4), TestMachine::kStack - 8);  // RSP as before RET
}

TEST(loops_count_by_the_address_size) {
  TestMachine m;
  m.enter_long64();
  m.change([](CpuState& s) { s.gpr[kRcx] = 0xffff'ffff'0000'0003; });
  EXPECT_EQ(m.execute({0x67, 0xe2, 0xfd}).gpr[kRcx], 0u);  // LOOP by ECX: three times, then cut
  m.change([](CpuState& s) { s.gpr[kRcx] = 1ull << 32; });
  // JRCXZ falls through, JECXZ jumps over INC EAX.
  EXPECT_EQ(m.execute({0x31, 0xc0, 0xe3, 0x02, 0xff, 0xc0}).gpr[kRax], 1u);
  EXPECT_EQ(m.execute({0x31, 0xc0, 0x67, 0xe3, 0x02, 0xff, 0xc0}).gpr[kRax], 0u);
}

TEST(string_moves_overlap_as_bytes_do) {
  TestMachine m;
  m.enter_long64();
  m.put(TestMachine::kData, {1, 2, 3, 4});
  m.change([](CpuState& s) {
    s.gpr[kRsi] = TestMachine::kData;
    s.gpr[kRdi] = TestMachine::kData + 2;
    s.gpr[kRcx] = 6;
  });
  CpuState s = m.execute({0xf3, 0xa4});
  EXPECT_EQ(m.get64(TestMachine::kData), 0x0201'0201'0201'0201ull);
  EXPECT_EQ(s.gpr[kRsi], TestMachine::kData + 6);
  EXPECT_EQ(s.gpr[kRdi], TestMachine::kData + 8);
  EXPECT_EQ(s.gpr[kRcx], 0u);
  // Downwards, from the ends.
  m.put64(TestMachine::kData, 0x0807'0605'0403'0201);
  m.change([](CpuState& state) {
    state.rflags |= 0x400;
    state.gpr[kRsi] = TestMachine::kData + 5;
    state.gpr[kRdi] = TestMachine::kData + 7;
    state.gpr[kRcx] = 6;
  });
  s = m.execute({0xf3, 0xa4});
  EXPECT_EQ(m.get64(TestMachine::kData), 0x0605'0403'0201'0201ull);
  EXPECT_EQ(s.gpr[kRsi], TestMachine::kData - 1);
}

TEST(a_long_copy_crosses_pages) {
  TestMachine m;
  m.enter_long64();
  constexpr std::uint64_t kFrom = 0x100ff1, kTo = 0x180007, kLength = 20'000;
  for (std::uint64_t i = 0; i < kLength; ++i)
    *m.memory().host(Gpa{kFrom + i}) = static_cast<std::uint8_t>(i * 7);
  m.change([](CpuState& s) {
    s.gpr[kRsi] = kFrom;
    s.gpr[kRdi] = kTo;
    s.gpr[kRcx] = kLength / 8;
  });
  const CpuState s = m.execute({0xf3, 0x48, 0xa5});
  EXPECT_EQ(s.gpr[kRcx], 0u);
  EXPECT_EQ(s.gpr[kRdi], kTo + kLength);
  EXPECT_EQ(std::memcmp(m.memory().host(Gpa{kTo}), m.memory().host(Gpa{kFrom}), kLength), 0);
  EXPECT_EQ(s.instructions, 2u);
}

TEST(a_repetition_that_faults_keeps_what_it_has_done) {
  TestMachine m;
  m.enter_long64();
  constexpr std::uint64_t kEnd = 0x4000'0000;  // the first page that is not mapped
  m.change([](CpuState& s) {
    s.gpr[kRdi] = kEnd - 0x3000;
    s.gpr[kRcx] = 0x4000;
  });
  m.execute({0xf3, 0xaa});
  EXPECT_EQ(m.vector(), 14);
  EXPECT_EQ(m.state().cr2, kEnd);
  EXPECT_EQ(m.state().gpr[kRdi], kEnd);
  EXPECT_EQ(m.state().gpr[kRcx], 0x1000u);
  EXPECT_EQ(m.stack_top(1), TestMachine::kCode);
}

TEST(repetition_by_16_bit_addresses_wraps) {
  TestMachine m;
  m.enter_real();
  m.change([](CpuState& s) {
    s.gpr[kRax] = 0xee;
    s.gpr[kRdi] = 0xabcd'fffe;
    s.gpr[kRcx] = 0xabcd'0004;
  });
  const CpuState s = m.execute({0xf3, 0xaa});
  EXPECT_EQ(s.gpr[kRdi], 0xabcd'0002u);
  EXPECT_EQ(s.gpr[kRcx], 0xabcd'0000u);
  EXPECT_EQ(m.get(TestMachine::kData + 0xfffe, 2), 0xeeeeu);
  EXPECT_EQ(m.get(TestMachine::kData, 3), 0x00eeeeu);
}

TEST(scans_and_comparisons_stop) {
  TestMachine m;
  m.enter_long64();
  m.put(TestMachine::kData, {'h', 'e', 'l', 'l', 'o', 0});
  m.put(TestMachine::kData + 0x100, {'h', 'e', 'l', 'p'});
  m.change([](CpuState& s) {
    s.gpr[kRax] = 0;
    s.gpr[kRdi] = TestMachine::kData;
    s.gpr[kRcx] = ~0ull;
  });
  CpuState s = m.execute({0xf2, 0xae});  // REPNE SCASB: the length of a string
  EXPECT_EQ(~s.gpr[kRcx] - 1, 5u);
  m.change([](CpuState& state) {
    state.gpr[kRsi] = TestMachine::kData;
    state.gpr[kRdi] = TestMachine::kData + 0x100;
    state.gpr[kRcx] = 6;
  });
  s = m.execute({0xf3, 0xa6});  // REPE CMPSB
  EXPECT_EQ(s.gpr[kRcx], 2u);
  EXPECT_EQ(s.rflags & (kZ | kC), kC);  // 'l' is below 'p'
}

TEST(cmpxchg16b) {
  TestMachine m;
  m.enter_long64();
  m.put64(TestMachine::kData, 1);
  m.put64(TestMachine::kData + 8, 2);
  m.change([](CpuState& s) {
    s.gpr[kRax] = 1;
    s.gpr[kRdx] = 2;
    s.gpr[kRbx] = 3;
    s.gpr[kRcx] = 4;
    s.gpr[kRsi] = TestMachine::kData;
  });
  const Bytes code = {0xf0, 0x48, 0x0f, 0xc7, 0x0e};
  EXPECT_EQ(m.execute(code).rflags & kZ, kZ);
  EXPECT_EQ(m.get64(TestMachine::kData), 3u);
  EXPECT_EQ(m.get64(TestMachine::kData + 8), 4u);
  const CpuState s = m.execute(code);
  EXPECT_EQ(s.rflags & kZ, 0u);
  EXPECT_EQ(s.gpr[kRax], 3u);
  EXPECT_EQ(s.gpr[kRdx], 4u);
  m.change([](CpuState& state) { state.gpr[kRsi] += 8; });
  m.execute(code);
  EXPECT_EQ(m.vector(), 13);
}

TEST(bit_strings_reach_before_their_operand) {
  TestMachine m;
  m.enter_long64();
  m.change([](CpuState& s) {
    s.gpr[kRsi] = TestMachine::kData + 0x100;
    s.gpr[kRax] = static_cast<std::uint64_t>(-64 * 4 - 1);
  });
  m.execute({0x48, 0x0f, 0xab, 0x06});  // BTS [RSI], RAX
  EXPECT_EQ(m.get64(TestMachine::kData + 0x100 - 5 * 8), 1ull << 63);
}

TEST(nop_keeps_the_upper_half_and_xchg_cuts_it) {
  TestMachine m;
  m.enter_long64();
  m.change([](CpuState& s) {
    s.gpr[kRax] = 0x1'0000'0001;
    s.gpr[kR8] = 0x2'0000'0002;
  });
  EXPECT_EQ(m.execute({0x90}).gpr[kRax], 0x1'0000'0001u);
  EXPECT_EQ(m.execute({0xf3, 0x90}).gpr[kRax], 0x1'0000'0001u);
  EXPECT_EQ(m.platform().spins, 1u);
  const CpuState s = m.execute({0x41, 0x90});  // XCHG EAX, R8D
  EXPECT_EQ(s.gpr[kRax], 2u);
  EXPECT_EQ(s.gpr[kR8], 1u);
}

TEST(moffs_and_xlat_use_the_segment_given) {
  TestMachine m;
  m.enter_real();
  m.put(TestMachine::kData + 0x1234, {0x5a});
  m.change([](CpuState& s) {
    s.segments[kDs] = {0, 0xffff, 0x93, 0};
    s.gpr[kRbx] = 0x1230;
  });
  EXPECT_EQ(m.execute({0x26, 0xa0, 0x34, 0x12}).gpr[kRax] & 0xff, 0x5au);
  m.change([](CpuState& s) { s.gpr[kRax] = 4; });
  EXPECT_EQ(m.execute({0x26, 0xd7}).gpr[kRax] & 0xff, 0x5au);
}

TEST(a_store_to_mmio_reaches_the_platform) {
  TestMachine m;
  m.enter_long64();
  m.platform().mmio[0x1000'0000] = 0x12345678;
  m.change([](CpuState& s) { s.gpr[kRsi] = 0x1000'0000; });
  EXPECT_EQ(m.execute({0x8b, 0x06}).gpr[kRax], 0x12345678u);  // MOV EAX, [RSI]
  m.execute({0x83, 0x06, 0x01});                              // ADD DWORD [RSI], 1
  EXPECT_EQ(m.platform().mmio_writes.size(), 1u);
  EXPECT_EQ(m.platform().mmio_writes[0].value & 0xffffffff, 0x12345679u);
  EXPECT_EQ(m.platform().mmio_writes[0].size, 4u);
}

}  // namespace hv::softcpu

TEST_MAIN()

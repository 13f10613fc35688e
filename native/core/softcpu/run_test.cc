// The run loop as the guest sees it: code that changes itself, page boundaries, signals,
// repetition that can be interrupted, and exact counts.
#include <chrono>
#include <thread>

#include "softcpu/test_machine.h"
#include "softcpu/translator/translator.h"

namespace hv::softcpu {

namespace {

constexpr std::uint64_t kPage = TestMachine::kCode + 0x1000;

// Runs until the CPU halts or `milliseconds` are over.
Exit run_with_kick(TestMachine& m, int milliseconds) {
  std::thread kicker{[&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    m.signals().raise(Signal::kExit);
  }};
  const Exit exit = m.run_until_halt();
  kicker.join();
  return exit;
}

}  // namespace

TEST(counts_every_instruction) {
  TestMachine m;
  m.enter_long64();
  // MOV ECX, 100; DEC ECX; JNZ -4; HLT
  const CpuState s = m.execute({0xb9, 100, 0, 0, 0, 0xff, 0xc9, 0x75, 0xfc});
  EXPECT_EQ(s.instructions, 1u + 200 + 1);
  EXPECT_EQ(m.cpu().counters().instructions, s.instructions);
}

TEST(a_block_left_in_the_middle_counts_what_retired) {
  TestMachine m;
  m.enter_long64();
  // NOP; NOP; UD2: two retire, then the stub's HLT.
  const CpuState s = m.execute({0x90, 0x90, 0x0f, 0x0b});
  EXPECT_EQ(m.vector(), 6);
  EXPECT_EQ(s.instructions, 3u);
  EXPECT_EQ(m.stack_top(0), TestMachine::kCode + 2);
}

TEST(a_store_into_the_running_block_takes_effect_at_once) {
  TestMachine m;
  m.enter_long64();
  // MOV BYTE [RIP + 5], 0x43 changes the immediate of MOV EAX two instructions on; NOP; MOV EAX, 1
  const std::vector<std::uint8_t> code = {0xc6, 0x05, 0x02, 0, 0, 0, 0x43, 0x90, 0xb8, 1, 0, 0, 0};
  const CpuState s = m.execute(code);
  EXPECT_EQ(s.gpr[kRax], 0x43u);
  EXPECT_EQ(s.instructions, 4u);
}

TEST(a_store_is_seen_through_every_mapping_of_the_code) {
  TestMachine m;
  m.enter_long64();
  constexpr std::uint64_t kFunction = TestMachine::kCode + 0x800;
  m.put64(TestMachine::kPml4 + 8, m.get64(TestMachine::kPml4));  // 512 GiB up, all once more
  m.put(kFunction, {0xb8, 0x11, 0, 0, 0, 0xc3});                 // MOV EAX, 0x11; RET
  const auto byte = [](unsigned n) { return static_cast<std::uint8_t>(kFunction >> (8 * n)); };
  // MOV RBX, the other mapping; CALL RBX; MOV BYTE [kFunction + 1], 0x42; MOV ECX, kFunction;
  // CALL RCX; CALL RBX
  const CpuState s = m.execute({0x48, 0xbb, byte(0), byte(1), byte(2), 0, 0x80, 0, 0, 0, 0xff, 0xd3,
                                0xc6, 0x04, 0x25, byte(0) | 1, byte(1), byte(2), 0, 0x42,
                                0xb9, byte(0), byte(1), byte(2), 0, 0xff, 0xd1, 0xff, 0xd3});
  EXPECT_EQ(m.vector(), -1);
  EXPECT_EQ(s.gpr[kRax], 0x42u);
}

TEST(a_loop_that_rewrites_itself) {
  TestMachine m;
  m.enter_long64();
  // XOR EAX, EAX; MOV ECX, 50; loop: ADD EAX, 0; INC BYTE [immediate]; DEC ECX; JNZ loop
  // The immediate is 0, 1, 2 … 49 when it is added.
  const CpuState s = m.execute({0x31, 0xc0, 0xb9, 50, 0, 0, 0, 0x83, 0xc0, 0x00,
                                0xfe, 0x05, 0xf9, 0xff, 0xff, 0xff, 0xff, 0xc9, 0x75, 0xf3});
  EXPECT_EQ(s.gpr[kRax], 49u * 50 / 2);
  EXPECT_EQ(s.instructions, 2u + 50 * 4 + 1);
}

TEST(code_written_by_others_is_seen) {
  TestMachine m;
  m.enter_long64();
  EXPECT_EQ(m.execute({0xb8, 1, 0, 0, 0}).gpr[kRax], 1u);
  EXPECT_EQ(m.execute({0xb8, 2, 0, 0, 0}).gpr[kRax], 2u);
  // The same bytes again: nothing to decode.
  const auto decoded = m.cpu().counters().blocks_decoded;
  EXPECT_EQ(m.execute({0xb8, 2, 0, 0, 0}).gpr[kRax], 2u);
  EXPECT_EQ(m.cpu().counters().blocks_decoded, decoded);
}

// What a disk's read does (io/pool.h) while the guest waits: straight to its page, then written().
TEST(code_that_a_device_loads_over_code_that_has_just_run) {
  TestMachine m;
  m.enter_long64();
  m.cpu().choose_translator(TranslatorOptions::parse("eager"));
  constexpr std::uint64_t kFunction = TestMachine::kCode + 0x2000;
  // MOV ECX, 1000; ADD EAX, n; DEC ECX; JNZ -7; RET
  const auto load = [&m](std::uint8_t n) {
    const std::uint8_t bytes[] = {0xb9, 0xe8, 3, 0, 0, 0x83, 0xc0, n, 0xff, 0xc9, 0x75, 0xf9, 0xc3};
    std::memcpy(m.memory().host(Gpa{kFunction}), bytes, sizeof bytes);
    m.memory().written(Gpa{kFunction}, sizeof bytes);
  };
  load(1);
  m.platform().on_out = [&load](std::uint16_t) { load(2); };
  // CALL kFunction; OUT 1, AL; CALL kFunction
  m.change([](CpuState& s) { s.gpr[kRax] = 0; });
  const CpuState s = m.execute({0xe8, 0xfb, 0x1f, 0, 0, 0xe6, 1, 0xe8, 0xf4, 0x1f, 0, 0});
  EXPECT_EQ(s.gpr[kRax], 1000u + 2000u);
  if (m.cpu().get_translator() != nullptr) EXPECT(m.cpu().counters().blocks_translated >= 2);
}

TEST(an_instruction_across_two_pages) {
  TestMachine m;
  m.enter_long64();
  const std::vector<std::uint8_t> mov = {0xb8, 0x78, 0x56, 0x34, 0x12, 0xf4};
  for (std::uint64_t before = 1; before < 5; ++before) {
    m.put(kPage - before, mov);
    m.code({}, kPage - before);
    m.run_until_halt();
    EXPECT_EQ(m.state().gpr[kRax], 0x12345678u);
    // Either half may change.
    m.put(kPage - before + 4, {0x99});
    m.code({}, kPage - before);
    m.run_until_halt();
    EXPECT_EQ(m.state().gpr[kRax], 0x99345678u);
    m.put(kPage - before, {0xb9});
    m.code({}, kPage - before);
    m.run_until_halt();
    EXPECT_EQ(m.state().gpr[kRcx], 0x99345678u);
  }
}

TEST(a_fetch_fault_on_the_second_page) {
  TestMachine m;
  m.enter_long64();
  // Pages of 4 KiB for the first 2 MiB, the one after kPage's missing.
  constexpr std::uint64_t kTable = 0x4000;
  for (std::uint64_t i = 0; i < 512; ++i) m.put64(kTable + 8 * i, i << 12 | 7);
  m.put64(kTable + 8 * (kPage >> 12), 0);
  m.put64(TestMachine::kPd, kTable | 7);
  m.put(kPage - 2, {0xb8, 0x01});
  m.code({}, kPage - 2);
  m.run_until_halt();
  EXPECT_EQ(m.vector(), 14);
  EXPECT_EQ(m.state().cr2, kPage);
  EXPECT_EQ(m.stack_top(1), kPage - 2);  // the pushed RIP
}

TEST(an_interrupt_reaches_a_one_instruction_loop) {
  TestMachine m;
  m.enter_long64();
  m.code({0xeb, 0xfe});
  m.change([](CpuState& s) { s.rflags |= 0x200; });
  std::thread device{[&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    m.platform().interrupt = 0x55;
    m.signals().raise(Signal::kInterrupt);
  }};
  EXPECT_EQ(m.run_until_halt(), Exit::kHalted);
  device.join();
  EXPECT_EQ(m.vector(), 0x55);
  EXPECT_EQ(m.stack_top(0), TestMachine::kCode);
}

TEST(a_kick_ends_run_at_an_instruction_boundary) {
  TestMachine m;
  m.enter_long64();
  m.code({0x48, 0xff, 0xc0, 0xeb, 0xfb});  // INC RAX; JMP -5
  EXPECT_EQ(run_with_kick(m, 5), Exit::kKicked);
  const CpuState s = m.state();
  EXPECT(s.gpr[kRax] > 0);
  EXPECT_EQ(s.instructions / 2, s.gpr[kRax]);
  EXPECT(s.rip >= TestMachine::kCode && s.rip < TestMachine::kCode + 5);
  EXPECT(!m.signals().has(Signal::kExit));
}

TEST(masked_interrupts_wait) {
  TestMachine m;
  m.enter_long64();
  m.platform().interrupt = 0x55;
  m.signals().raise(Signal::kInterrupt);
  m.execute({0x90});
  EXPECT_EQ(m.vector(), -1);
  EXPECT(m.platform().interrupt.has_value());
}

TEST(halt_wakes_for_an_interrupt) {
  TestMachine m;
  m.enter_long64();
  m.code({0xf4, 0x90});
  m.change([](CpuState& s) { s.rflags |= 0x200; });
  EXPECT_EQ(m.run_until_halt(), Exit::kHalted);
  EXPECT_EQ(m.run_until_halt(), Exit::kHalted);  // still
  EXPECT(m.state().activity == Activity::kHalted);
  m.platform().interrupt = 0x21;
  m.signals().raise(Signal::kInterrupt);
  EXPECT_EQ(m.run_until_halt(), Exit::kHalted);
  EXPECT_EQ(m.vector(), 0x21);
  EXPECT_EQ(m.stack_top(0), TestMachine::kCode + 1);
}

TEST(init_is_reported_before_anything_runs) {
  TestMachine m;
  m.enter_long64();
  m.code({0xeb, 0xfe});
  m.signals().raise(Signal::kInit);
  EXPECT_EQ(m.run_until_halt(), Exit::kInit);
  EXPECT_EQ(m.state().instructions, 0u);
}

TEST(a_repetition_can_be_interrupted_and_goes_on) {
  TestMachine m;
  m.enter_long64();
  m.code({0xf3, 0xaa, 0xf4});  // REP STOSB
  m.change([](CpuState& s) {
    s.rflags |= 0x200;
    s.gpr[kRax] = 0x5a;
    s.gpr[kRcx] = 0x100000;
    s.gpr[kRdi] = 0x100000;
  });
  m.put(TestMachine::kStubs + 0x55 * 16, {0x48, 0xcf});  // IRETQ
  m.platform().interrupt = 0x55;
  m.signals().raise(Signal::kInterrupt);
  EXPECT_EQ(m.run_until_halt(), Exit::kHalted);
  const CpuState s = m.state();
  EXPECT_EQ(s.gpr[kRcx], 0u);
  EXPECT_EQ(s.gpr[kRdi], 0x200000u);
  EXPECT_EQ(m.get(0x1fffff, 1), 0x5au);
  EXPECT_EQ(m.get(0x100000, 1), 0x5au);
  EXPECT_EQ(m.get(0x200000, 1), 0u);
  EXPECT_EQ(s.instructions, 3u);  // IRETQ, the whole STOSB, HLT
}

TEST(code_past_the_segment_limit_faults) {
  TestMachine m;
  m.enter_flat32();
  m.put(TestMachine::kCode, {0x90, 0x90, 0x90, 0xb8, 1, 0, 0, 0, 0xf4});
  const auto run_with_limit = [&](std::uint32_t limit) {
    m.code({});
    m.change([&](CpuState& s) {
      s.segments[kCs].limit = limit;
      s.gpr[kRax] = 0;
    });
    m.run_until_halt();
  };
  // The stubs lie below kCode, within the limit; delivery reloads CS with a flat one.
  run_with_limit(TestMachine::kCode + 7);  // MOV is the last that fits
  EXPECT_EQ(m.vector(), 13);
  EXPECT_EQ(m.state().gpr[kRax], 1u);
  EXPECT_EQ(m.stack_top(1), TestMachine::kCode + 8);
  run_with_limit(TestMachine::kCode + 6);  // its last byte does not
  EXPECT_EQ(m.vector(), 13);
  EXPECT_EQ(m.state().gpr[kRax], 0u);
  EXPECT_EQ(m.stack_top(1), TestMachine::kCode + 3);
}

TEST(overlong_instructions_are_general_protection_faults) {
  TestMachine m;
  m.enter_long64();
  std::vector<std::uint8_t> flood(15, 0x66);
  m.execute(flood);
  EXPECT_EQ(m.vector(), 13);
  EXPECT_EQ(m.error_code(), 0u);
  m.enter_long64();
  m.execute({0x0f, 0x04});
  EXPECT_EQ(m.vector(), 6);
}

TEST(a_triple_fault_shuts_down) {
  TestMachine m;
  m.enter_long64();
  m.change([](CpuState& s) { s.idtr.limit = 0; });
  m.code({0x0f, 0x0b});
  EXPECT_EQ(m.run_until_halt(), Exit::kTripleFault);
  EXPECT(m.state().activity == Activity::kShutdown);
}

TEST(code_outside_ram_is_fetched_byte_by_byte) {
  TestMachine m;
  m.enter_long64();
  constexpr std::uint64_t kRom = 0x800000;  // past the RAM, mapped
  const std::uint8_t code[] = {0xb8, 0x11, 0x22, 0x33, 0x44, 0xf4};
  for (std::uint64_t i = 0; i < sizeof code; ++i) m.platform().mmio[kRom + i] = code[i];
  m.change([](CpuState& s) { s.rip = kRom; });
  EXPECT_EQ(m.run_until_halt(), Exit::kHalted);
  EXPECT_EQ(m.state().gpr[kRax], 0x44332211u);
  EXPECT_EQ(m.state().rip, kRom + 6);
}

TEST(one_physical_page_in_two_code_sizes) {
  TestMachine m;
  // 40 is INC EAX in 32-bit code and a REX prefix in 64-bit code.
  const std::vector<std::uint8_t> code = {0x40, 0x90};
  m.enter_flat32();
  m.change([](CpuState& s) { s.gpr[kRax] = 7; });
  EXPECT_EQ(m.execute(code).gpr[kRax], 8u);
  m.enter_long64();
  m.change([](CpuState& s) { s.gpr[kRax] = 7; });
  EXPECT_EQ(m.execute(code).gpr[kRax], 7u);
}

TEST(single_steps_trap_after_each_instruction) {
  TestMachine m;
  m.enter_long64();
  // The #DB handler counts in R8 and goes back; TF off ends it.
  m.put(TestMachine::kStubs + 16, {0x49, 0xff, 0xc0, 0x48, 0xcf});  // INC R8; IRETQ
  m.code({0x90, 0x48, 0xff, 0xc0, 0xeb, 0x00, 0x90, 0x9d, 0xf4});   // … POPFQ; HLT
  m.change([](CpuState& s) {
    s.gpr[kR8] = 0;
    s.rflags |= 0x100;
    s.gpr[kRsp] -= 8;
  });
  m.put64(TestMachine::kStack - 8, 2);
  EXPECT_EQ(m.run_until_halt(), Exit::kHalted);
  // NOP, INC, JMP, NOP and POPFQ, which began with TF set.
  EXPECT_EQ(m.state().gpr[kR8], 5u);
}

TEST(state_survives_its_own_round_trip) {
  TestMachine m;
  m.enter_long64();
  m.execute({0x48, 0xc7, 0xc0, 0xff, 0xff, 0xff, 0xff, 0x48, 0x83, 0xc0, 0x01});
  const CpuState before = m.state();
  m.set(before);
  const CpuState after = m.state();
  EXPECT_EQ(after.rflags, before.rflags);
  EXPECT_EQ(after.rflags & 0x8d5, 0x55u);
  EXPECT_EQ(after.instructions, before.instructions);
  EXPECT_EQ(after.rip, before.rip);
}

}  // namespace hv::softcpu

TEST_MAIN()

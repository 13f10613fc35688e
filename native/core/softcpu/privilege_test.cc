// Gates, returns, task switches, virtual-8086 mode and segment checks as the guest sees them.
// Constants are those of SDM Vol. 3, chapters 3 to 7.
#include "softcpu/test_machine.h"

using namespace hv;
using namespace hv::softcpu;

namespace {

using M = TestMachine;
constexpr std::uint64_t kUserStack = 0x38000, kUserCode = 0x12000, kSecondTss = 0xc000,
                        kThirdTss = 0xc800;
constexpr std::uint16_t kFree = 0x58;  // the first selector past TestMachine's GDT

std::uint64_t descriptor(std::uint64_t base, std::uint64_t limit, std::uint64_t access) {
  return (limit & 0xffff) | (base & 0xff'ffff) << 16 | (access & 0xff) << 40 |
         (limit & 0xf'0000) << 32 | (access & 0xf000) << 40 | (base >> 24) << 56;
}
std::uint64_t gate(std::uint64_t selector, std::uint64_t offset, std::uint64_t access,
                   std::uint64_t parameters = 0) {
  return (offset & 0xffff) | selector << 16 | parameters << 32 | access << 40 |
         (offset >> 16 & 0xffff) << 48;
}

void widen_gdt(M& m) {
  m.change([](CpuState& s) { s.gdtr.limit = 0xff; });
  for (std::uint64_t at = kFree; at < 0x100; at += 8) m.put64(M::kGdt + at, 0);
}

// Ring 3, at kUserCode.
void to_user(M& m, bool is64) {
  m.change([is64](CpuState& s) {
    s.segments[kCs] = {0, 0xffff'ffff, is64 ? 0xa0fbu : 0xc0fbu, is64 ? M::kUserCode64 : M::kUserCode32};
    for (const unsigned i : {kSs, kDs, kEs}) s.segments[i] = {0, 0xffff'ffff, 0xc0f3, M::kUserData};
    s.gpr[kRsp] = kUserStack;
  });
}

std::vector<std::uint8_t> far_jump(std::uint16_t selector, std::uint32_t offset, std::uint8_t op = 0xea) {
  return {op, static_cast<std::uint8_t>(offset), static_cast<std::uint8_t>(offset >> 8),
          static_cast<std::uint8_t>(offset >> 16), static_cast<std::uint8_t>(offset >> 24),
          static_cast<std::uint8_t>(selector), static_cast<std::uint8_t>(selector >> 8)};
}

// mov ax,selector; mov ds,ax
std::vector<std::uint8_t> load_ds(std::uint16_t selector) {
  return {0x66, 0xb8, static_cast<std::uint8_t>(selector), static_cast<std::uint8_t>(selector >> 8),
          0x8e, 0xd8};
}

}  // namespace

TEST(real_mode_interrupts_push_three_words) {
  M m;
  m.enter_real();
  m.change([](CpuState& s) { s.rflags |= 0x200; });
  const CpuState s = m.execute({0xcd, 0x21});
  EXPECT_EQ(m.vector(), 0x21);
  EXPECT_EQ(s.segments[kCs].selector, 0);
  EXPECT_EQ(s.rip, M::kStubs + 0x21 * 16 + 1);
  EXPECT_EQ(s.gpr[kRsp], 0xfff0 - 6);
  EXPECT_EQ(m.stack_top(0), 2);                  // IP after INT
  EXPECT_EQ(m.stack_top(1), M::kCode >> 4);
  EXPECT_EQ(m.stack_top(2) & 0x200, 0x200);
  EXPECT_EQ(s.rflags & 0x200, 0);
}

TEST(real_mode_limit_is_a_fault) {
  M m;
  m.enter_real();
  m.change([](CpuState& s) { s.gpr[kRbx] = 0xffff; });
  const CpuState s = m.execute({0x8b, 0x07});  // mov ax,[bx]
  EXPECT_EQ(s.rip, M::kStubs + 13 * 16 + 1);
  EXPECT_EQ(m.stack_top(0), 0);
}

TEST(interrupt_from_user_to_kernel_32) {
  M m;
  m.enter_flat32();
  to_user(m, false);
  m.code({0xcd, 0x80}, kUserCode);
  m.run_until_halt();
  const CpuState s = m.state();
  EXPECT_EQ(m.vector(), 0x80);
  EXPECT_EQ(s.segments[kCs].selector, M::kCode32);
  EXPECT_EQ(s.segments[kSs].selector, M::kDataSel);
  EXPECT_EQ(s.gpr[kRsp], M::kStack - 0x1000 - 20);
  EXPECT_EQ(m.stack_top(0), kUserCode + 2);
  EXPECT_EQ(m.stack_top(1), M::kUserCode32);
  EXPECT_EQ(m.stack_top(3), kUserStack);
  EXPECT_EQ(m.stack_top(4), M::kUserData);
}

TEST(interrupt_from_user_to_kernel_64_and_ist) {
  M m;
  m.enter_long64();
  to_user(m, true);
  m.code({0xcd, 0x80}, kUserCode);
  m.run_until_halt();
  EXPECT_EQ(m.vector(), 0x80);
  EXPECT_EQ(m.state().segments[kSs].selector, 0);
  EXPECT_EQ(m.state().gpr[kRsp], M::kStack - 0x1000 - 40);
  EXPECT_EQ(m.stack_top(4), M::kUserData);
  EXPECT_EQ(m.stack_top(3), kUserStack);
  // IST 2 lies at offset 0x2c of the TSS; the stack is aligned to 16.
  m.put64(M::kTss + 0x2c, 0x3abc8);
  m.put64(M::kIdt + 0x80 * 16, m.get64(M::kIdt + 0x80 * 16) | 2ull << 32);
  m.code({0xcd, 0x80});
  m.run_until_halt();
  EXPECT_EQ(m.state().gpr[kRsp], 0x3abc0 - 40);
}

TEST(gate_privilege_and_presence) {
  M m;
  m.enter_flat32();
  to_user(m, false);
  const std::uint64_t at = M::kIdt + 0x81 * 8;
  m.put64(at, m.get64(at) & ~(3ull << 45));  // DPL 0
  m.code({0xcd, 0x81}, kUserCode);
  m.run_until_halt();
  EXPECT_EQ(m.vector(), 13);
  EXPECT_EQ(m.error_code(), 0x81 * 8 + 2);
  to_user(m, false);
  m.put64(at, gate(M::kCode32, M::kStubs, 0x6e));  // not present
  m.code({0xcd, 0x81}, kUserCode);
  m.run_until_halt();
  EXPECT_EQ(m.vector(), 11);
  EXPECT_EQ(m.error_code(), 0x81 * 8 + 2);
}

TEST(faults_in_delivery_become_double_and_triple_faults) {
  M m;
  m.enter_flat32();
  m.put64(M::kIdt + 13 * 8, 0);  // #GP's gate is not present: #GP, then #NP-like #GP: #DF
  m.code({0xb8, 0xff, 0xff, 0x00, 0x00, 0x8e, 0xd8, 0xf4});  // mov ds,0xffff
  m.run_until_halt();
  EXPECT_EQ(m.vector(), 8);
  EXPECT_EQ(m.error_code(), 0);
  m.enter_flat32();
  m.put64(M::kIdt + 13 * 8, 0);
  m.put64(M::kIdt + 8 * 8, 0);
  m.code({0xb8, 0xff, 0xff, 0x00, 0x00, 0x8e, 0xd8, 0xf4});
  EXPECT_EQ(m.run_until_halt(), Exit::kTripleFault);
}

TEST(external_interrupts_set_ext_in_error_codes) {
  M m;
  m.enter_flat32();
  m.put64(M::kIdt + 0x40 * 8, 0);
  m.change([](CpuState& s) { s.rflags |= 0x200; });
  m.platform().interrupt = 0x40;
  m.signals().raise(Signal::kInterrupt);
  m.execute({0x90});
  EXPECT_EQ(m.vector(), 13);
  EXPECT_EQ(m.error_code(), 0x40 * 8 + 3);
}

TEST(segment_loads) {
  M m;
  m.enter_flat32();
  widen_gdt(m);
  struct Case {
    std::uint64_t descriptor;
    std::uint16_t rpl;
    int vector;
  };
  const Case cases[] = {
      {descriptor(0, 0xfffff, 0xc093), 0, -1}, {descriptor(0, 0xfffff, 0xc013), 0, 11},
      {descriptor(0, 0xfffff, 0xc099), 0, 13},  // execute-only
      {descriptor(0, 0xfffff, 0xc09b), 0, -1}, {descriptor(0, 0x67, 0x0089), 0, 13},  // a TSS
      {descriptor(0, 0xfffff, 0xc093), 3, 13},  // RPL 3, DPL 0
      {descriptor(0, 0xfffff, 0xc09f), 3, -1},  // conforming code
  };
  for (const Case& c : cases) {
    m.put64(M::kGdt + kFree, c.descriptor);
    m.change([](CpuState& s) { s.gpr[kRsp] = M::kStack; });
    m.execute(load_ds(kFree | c.rpl));
    EXPECT_EQ(m.vector(), c.vector);
    if (c.vector >= 0) EXPECT_EQ(m.error_code(), kFree);
    m.change([](CpuState& s) { s.segments[kCs] = {0, 0xffff'ffff, 0xc09b, M::kCode32}; });
  }
  // The accessed bit is set in the table.
  m.put64(M::kGdt + kFree, descriptor(0, 0xfffff, 0xc092));
  m.execute(load_ds(kFree));
  EXPECT_EQ(m.get64(M::kGdt + kFree) >> 40 & 0xff, 0x93);
}

TEST(segment_limits) {
  M m;
  m.enter_flat32();
  widen_gdt(m);
  m.put64(M::kGdt + kFree, descriptor(M::kData, 0xff, 0x4093));
  const auto try_read = [&](std::uint32_t at) {
    std::vector<std::uint8_t> bytes = load_ds(kFree);
    m.change([at](CpuState& s) { s.gpr[kRbx] = at, s.gpr[kRsp] = M::kStack; });
    bytes.insert(bytes.end(), {0x8b, 0x03});  // mov eax,[ebx]
    m.execute(bytes);
    return m.vector();
  };
  EXPECT_EQ(try_read(0xfc), -1);
  EXPECT_EQ(try_read(0xfd), 13);
  EXPECT_EQ(try_read(0xffffffff), 13);
  m.put64(M::kGdt + kFree, descriptor(M::kData, 0xff, 0x4097));  // expands down
  EXPECT_EQ(try_read(0xff), 13);
  EXPECT_EQ(try_read(0x100), -1);
}

TEST(null_selector_faults_at_use) {
  M m;
  m.enter_flat32();
  std::vector<std::uint8_t> bytes = load_ds(0);
  bytes.insert(bytes.end(), {0x8b, 0x03});
  m.execute(bytes);
  EXPECT_EQ(m.vector(), 13);
  EXPECT_EQ(m.error_code(), 0);
}

TEST(call_gate_to_inner_privilege_copies_parameters) {
  M m;
  m.enter_flat32();
  widen_gdt(m);
  m.put64(M::kGdt + kFree, gate(M::kCode32, 0x13000, 0xec, 2));
  m.put(0x13000, {0xf4});
  to_user(m, false);
  m.put32(kUserStack, 0x11);
  m.put32(kUserStack + 4, 0x22);
  m.code(far_jump(kFree | 3, 0, 0x9a), kUserCode);
  m.run_until_halt();
  const CpuState s = m.state();
  EXPECT_EQ(s.rip, 0x13001);
  EXPECT_EQ(s.segments[kCs].selector, M::kCode32);
  EXPECT_EQ(m.stack_top(0), kUserCode + 7);
  EXPECT_EQ(m.stack_top(1), M::kUserCode32);
  EXPECT_EQ(m.stack_top(2), 0x11);
  EXPECT_EQ(m.stack_top(3), 0x22);
  EXPECT_EQ(m.stack_top(4), kUserStack);
  EXPECT_EQ(m.stack_top(5), M::kUserData);
  // … and RETF 8 goes back, releasing them on both stacks.
  m.put(0x13000, {0xca, 0x08, 0x00});
  to_user(m, false);
  std::vector<std::uint8_t> bytes = far_jump(kFree | 3, 0, 0x9a);
  bytes.push_back(0xf4);
  m.code(bytes, kUserCode);
  m.run_until_halt();
  EXPECT_EQ(m.vector(), 13);  // HLT at CPL 3
  EXPECT_EQ(m.stack_top(1), kUserCode + 7);
  EXPECT_EQ(m.stack_top(4), kUserStack + 8);
}

TEST(far_jump_checks) {
  M m;
  m.enter_flat32();
  widen_gdt(m);
  m.put64(M::kGdt + kFree, descriptor(0, 0xfffff, 0xc0fb));
  m.execute(far_jump(kFree, 0x13000));  // DPL 3 from CPL 0
  EXPECT_EQ(m.vector(), 13);
  EXPECT_EQ(m.error_code(), kFree);
  m.enter_flat32();
  widen_gdt(m);
  m.put64(M::kGdt + kFree, descriptor(0, 0xff, 0x409b));
  m.execute(far_jump(kFree, 0x13000));  // past the limit
  EXPECT_EQ(m.vector(), 13);
  EXPECT_EQ(m.error_code(), 0);
}

TEST(iret_64_to_user_and_back) {
  M m;
  m.enter_long64();
  m.change([](CpuState& s) { s.gpr[kRsp] = M::kStack - 40; });
  const std::uint64_t frame[5] = {kUserCode, M::kUserCode64, 0x10202, kUserStack, M::kUserData};
  for (unsigned i = 0; i < 5; ++i) m.put64(M::kStack - 40 + 8 * i, frame[i]);
  m.put(kUserCode, {0x0f, 0x0b});  // ud2
  m.execute({0x48, 0xcf});
  EXPECT_EQ(m.vector(), 6);
  EXPECT_EQ(m.stack_top(0), kUserCode);
  EXPECT_EQ(m.stack_top(1), M::kUserCode64);
  EXPECT_EQ(m.stack_top(2) & 0x200, 0x200);
  EXPECT_EQ(m.stack_top(3), kUserStack);
  // To compatibility mode the same way, and an interrupt back to 64 bits.
  m.change([](CpuState& s) { s.gpr[kRsp] = M::kStack - 40; });
  m.put64(M::kStack - 40 + 8, M::kUserCode32);
  for (unsigned i = 0; i < 5; ++i)
    if (i != 1) m.put64(M::kStack - 40 + 8 * i, frame[i]);
  m.put(kUserCode, {0x40, 0xcd, 0x80});  // inc eax here, a REX prefix in 64-bit code
  m.change([](CpuState& s) { s.gpr[kRax] = 0x1ffffffff; });
  m.execute({0x48, 0xcf});
  EXPECT_EQ(m.vector(), 0x80);
  EXPECT_EQ(m.state().gpr[kRax], 0);
  EXPECT_EQ(m.stack_top(1), M::kUserCode32);
}

TEST(iret_refuses_inner_privilege_and_bad_rip) {
  M m;
  m.enter_long64();
  to_user(m, true);
  const std::uint64_t frame[5] = {kUserCode, M::kCode64, 2, kUserStack, M::kDataSel};
  for (unsigned i = 0; i < 5; ++i) m.put64(kUserStack + 8 * i, frame[i]);
  m.code({0x48, 0xcf}, kUserCode);
  m.run_until_halt();
  EXPECT_EQ(m.vector(), 13);
  EXPECT_EQ(m.error_code(), M::kCode64);
  m.enter_long64();
  m.change([](CpuState& s) { s.gpr[kRsp] = kUserStack; });
  m.put64(kUserStack, 0x8000'0000'0000);
  m.execute({0x48, 0xcf});
  EXPECT_EQ(m.vector(), 13);
  EXPECT_EQ(m.error_code(), 0);
}

TEST(virtual_8086) {
  M m;
  m.enter_flat32();
  m.change([](CpuState& s) { s.gpr[kRsp] = M::kStack - 36; });
  // EIP CS EFLAGS ESP SS ES DS FS GS; EFLAGS has VM, IOPL 0
  const std::uint32_t frame[9] = {0x10, 0x1200, 0x20002, 0x100, 0x3800, 1, 2, 3, 4};
  for (unsigned i = 0; i < 9; ++i) m.put32(M::kStack - 36 + 4 * i, frame[i]);
  m.put(0x12010, {0x8c, 0xd8, 0xcc});  // mov ax,ds; int3
  CpuState s = m.execute({0xcf});
  EXPECT_EQ(m.vector(), 3);  // INT3 does not ask for IOPL
  EXPECT_EQ(s.gpr[kRax] & 0xffff, 2);
  EXPECT_EQ(s.rflags & 0x20000, 0);
  EXPECT_EQ(s.segments[kDs].selector, 0);
  EXPECT_EQ(s.gpr[kRsp], M::kStack - 0x1000 - 36);
  EXPECT_EQ(m.stack_top(0), 0x13);
  EXPECT_EQ(m.stack_top(1), 0x1200);
  EXPECT_EQ(m.stack_top(2) & 0x20000, 0x20000);
  EXPECT_EQ(m.stack_top(4), 0x3800);
  for (unsigned i = 5; i < 9; ++i) EXPECT_EQ(m.stack_top(i), i - 4);

  for (const std::vector<std::uint8_t>& sensitive :
       {std::vector<std::uint8_t>{0xcd, 0x21}, {0xfa}, {0xfb}, {0x9c}, {0x9d}, {0xcf}}) {
    m.enter_flat32();
    m.change([](CpuState& state) { state.gpr[kRsp] = M::kStack - 36; });
    for (unsigned i = 0; i < 9; ++i) m.put32(M::kStack - 36 + 4 * i, frame[i]);
    m.put(0x12010, sensitive);
    m.execute({0xcf});
    EXPECT_EQ(m.vector(), 13);
    EXPECT_EQ(m.stack_top(1), 0x10);
  }
}

TEST(task_switch_by_jump_and_nested_call) {
  M m;
  m.enter_flat32();
  widen_gdt(m);
  m.put64(M::kGdt + kFree, descriptor(kSecondTss, 0x67, 0x89));
  const auto tss = [&](std::uint64_t at, std::uint32_t eip) {
    for (unsigned i = 0; i < 0x68; i += 4) m.put32(at + i, 0);
    m.put32(at + 32, eip);
    m.put32(at + 36, 2);
    m.put32(at + 40, 0x1234);  // EAX
    m.put32(at + 56, kUserStack);
    const std::uint16_t selectors[6] = {M::kDataSel, M::kCode32, M::kDataSel, M::kDataSel, 0, 0};
    for (unsigned i = 0; i < 6; ++i) m.put32(at + 72 + 4 * i, selectors[i]);
  };
  tss(kSecondTss, 0x13000);
  m.put(0x13000, {0xf4});
  m.change([](CpuState& s) { s.gpr[kRbx] = 0x77; });
  m.code(far_jump(kFree, 0));
  m.run_until_halt();
  CpuState s = m.state();
  EXPECT_EQ(s.rip, 0x13001);
  EXPECT_EQ(s.gpr[kRax], 0x1234);
  EXPECT_EQ(s.gpr[kRsp], kUserStack);
  EXPECT_EQ(s.tr.selector, kFree);
  EXPECT_EQ(s.cr0 & 8, 8);
  EXPECT_EQ(m.get(M::kTss + 32, 4), M::kCode + 7);
  EXPECT_EQ(m.get(M::kTss + 52, 4), 0x77);
  EXPECT_EQ(m.get64(M::kGdt + kFree) >> 40 & 0xff, 0x8b);
  EXPECT_EQ(m.get64(M::kGdt + M::kTssSel) >> 40 & 0xff, 0x89);

  // CALL nests: back link, NT, both busy; IRET goes back.
  M n;
  n.enter_flat32();
  widen_gdt(n);
  n.put64(M::kGdt + M::kTssSel, n.get64(M::kGdt + M::kTssSel) | 2ull << 40);
  n.put64(M::kGdt + kFree, descriptor(kThirdTss, 0x67, 0x89));
  for (unsigned i = 0; i < 0x68; i += 4) n.put32(kThirdTss + i, 0);
  n.put32(kThirdTss + 32, 0x13000);
  n.put32(kThirdTss + 36, 2);
  n.put32(kThirdTss + 56, kUserStack);
  const std::uint16_t selectors[4] = {M::kDataSel, M::kCode32, M::kDataSel, M::kDataSel};
  for (unsigned i = 0; i < 4; ++i) n.put32(kThirdTss + 72 + 4 * i, selectors[i]);
  n.put(0x13000, {0x9c, 0x58, 0xa3, 0x00, 0x00, 0x02, 0x00, 0xcf});  // pushf; pop eax; mov [kData],eax; iret
  std::vector<std::uint8_t> bytes = far_jump(kFree, 0, 0x9a);
  s = n.execute(bytes);
  EXPECT_EQ(s.rip, M::kCode + 8);
  EXPECT_EQ(s.tr.selector, M::kTssSel);
  EXPECT_EQ(n.get(M::kData, 4) & 0x4000, 0x4000);
  EXPECT_EQ(n.get(kThirdTss, 2), M::kTssSel);
  EXPECT_EQ(s.rflags & 0x4000, 0);
  EXPECT_EQ(n.get64(M::kGdt + kFree) >> 40 & 0xff, 0x89);
  EXPECT_EQ(n.get(kThirdTss + 36, 4) & 0x4000, 0);
}

TEST(port_bitmap) {
  M m;
  m.enter_flat32();
  m.change([](CpuState& s) { s.tr.limit = 0x67 + 0x20 + 1; });
  m.put16(M::kTss + 0x66, 0x68);
  for (unsigned i = 0; i < 0x21; ++i) m.put(M::kTss + 0x68 + i, {0xff});
  m.put(M::kTss + 0x68 + 0x80 / 8, {0xfd});  // port 0x81 is allowed
  m.platform().ports[0x81] = 0x5a;
  const auto try_in = [&](std::uint8_t op, std::uint8_t port) {
    to_user(m, false);
    m.code({op, port, 0x0f, 0x0b}, kUserCode);
    m.run_until_halt();
    return m.vector();
  };
  EXPECT_EQ(try_in(0xe4, 0x81), 6);  // reached UD2
  EXPECT_EQ(m.state().gpr[kRax] & 0xff, 0x5a);
  EXPECT_EQ(try_in(0xe4, 0x80), 13);
  EXPECT_EQ(try_in(0xe5, 0x81), 13);  // four ports, of which one is allowed
}

TEST(syscall_and_sysret) {
  M m;
  m.enter_long64();
  to_user(m, true);
  m.change([](CpuState& s) {
    s.star = 0x0033'0008'0000'0000 - 0x10'0000'0000'0000 - 0x3'0000'0000'0000;
    s.lstar = 0x13000;
    s.fmask = 0x200;
    s.rflags |= 0x200;
  });
  m.put(0x13000, {0xf4});
  m.code({0x0f, 0x05}, kUserCode);
  m.run_until_halt();
  CpuState s = m.state();
  EXPECT_EQ(s.rip, 0x13001);
  EXPECT_EQ(s.gpr[kRcx], kUserCode + 2);
  EXPECT_EQ(s.gpr[kR11] & 0x200, 0x200);
  EXPECT_EQ(s.rflags & 0x200, 0);
  EXPECT_EQ(s.segments[kCs].selector, 8);
  EXPECT_EQ(s.segments[kSs].selector, 0x10);
  EXPECT_EQ(s.gpr[kRsp], kUserStack);
  m.put(0x13000, {0x48, 0x0f, 0x07});
  to_user(m, true);
  m.code({0x0f, 0x05, 0x0f, 0x0b}, kUserCode);
  m.run_until_halt();
  EXPECT_EQ(m.vector(), 6);
  EXPECT_EQ(m.stack_top(0), kUserCode + 2);
  EXPECT_EQ(m.stack_top(1), 0x33);
}

TEST(single_step_and_breakpoints) {
  M m;
  m.enter_flat32();
  m.change([](CpuState& s) { s.rflags |= 0x100; });
  m.execute({0x40, 0x40});
  EXPECT_EQ(m.vector(), 1);
  EXPECT_EQ(m.state().dr6 & 0x4000, 0x4000);
  EXPECT_EQ(m.state().gpr[kRax], 1);
  EXPECT_EQ(m.stack_top(0), M::kCode + 1);

  m.enter_flat32();
  m.change([](CpuState& s) { s.dr[1] = M::kCode + 1, s.dr7 = 0x404, s.gpr[kRax] = 0; });
  m.execute({0x40, 0x40});
  EXPECT_EQ(m.vector(), 1);
  EXPECT_EQ(m.state().dr6 & 0xf, 2);
  EXPECT_EQ(m.stack_top(0), M::kCode + 1);
  EXPECT_EQ(m.stack_top(2) & 0x10000, 0);

  m.enter_flat32();  // a write of four bytes at DR0
  m.change([](CpuState& s) { s.dr[0] = M::kData + 4, s.dr7 = 0xd0402, s.gpr[kRbx] = M::kData; });
  m.execute({0x8b, 0x43, 0x04, 0x89, 0x43, 0x06, 0x90});  // read [ebx+4]; write [ebx+6]
  EXPECT_EQ(m.vector(), 1);
  EXPECT_EQ(m.state().dr6 & 0xf, 1);
  EXPECT_EQ(m.stack_top(0), M::kCode + 6);
}

TEST(alignment_check) {
  M m;
  m.enter_flat32();
  m.change([](CpuState& s) {
    s.cr0 |= 1u << 18;
    s.rflags |= 1u << 18;
    s.gpr[kRbx] = M::kData + 2;
  });
  m.execute({0x8b, 0x03});
  EXPECT_EQ(m.vector(), -1);  // not at CPL 0
  to_user(m, false);
  m.code({0x8b, 0x03, 0xf4}, kUserCode);
  m.run_until_halt();
  EXPECT_EQ(m.vector(), 17);
  EXPECT_EQ(m.error_code(), 0);
}

TEST(control_register_rules) {
  M m;
  const auto faults = [&](std::vector<std::uint8_t> bytes, std::uint64_t rax) {
    m.enter_long64();
    m.change([rax](CpuState& s) { s.gpr[kRax] = rax; });
    m.execute(std::move(bytes));
    return m.vector() == 13;
  };
  EXPECT(faults({0x0f, 0x22, 0xc0}, 0x80000000));   // PG without PE
  EXPECT(faults({0x0f, 0x22, 0xc0}, 0xa0000011));   // NW without CD
  EXPECT(faults({0x0f, 0x22, 0xc0}, 0x11));         // PG off in 64-bit code
  EXPECT(faults({0x0f, 0x22, 0xe0}, 0x600));        // PAE off in long mode
  EXPECT(faults({0x0f, 0x22, 0xe0}, 1u << 12 | 0x620));  // LA57
  EXPECT(faults({0x0f, 0x22, 0xe0}, 1u << 18 | 0x620));  // OSXSAVE
  EXPECT(faults({0x0f, 0x22, 0xd8}, 1ull << 60));   // CR3
  EXPECT(!faults({0x0f, 0x22, 0xe0}, 0x20620));     // PCIDE
  EXPECT_EQ(m.state().cr4, 0x20620);
  EXPECT(faults({0x44, 0x0f, 0x22, 0xc0}, 16));     // CR8
  EXPECT(!faults({0x44, 0x0f, 0x22, 0xc0}, 15));
  EXPECT_EQ(m.platform().task_priority, 15);
}

TEST(msrs) {
  M m;
  const auto access = [&](bool write, std::uint32_t index, std::uint64_t value) {
    m.enter_long64();
    m.change([&](CpuState& s) {
      s.gpr[kRcx] = index;
      s.gpr[kRax] = value & 0xffff'ffff;
      s.gpr[kRdx] = value >> 32;
    });
    m.execute({0x0f, static_cast<std::uint8_t>(write ? 0x30 : 0x32)});
    return m.vector();
  };
  EXPECT_EQ(access(false, 0x12345, 0), 13);
  EXPECT_EQ(access(true, 0x277, 0x0707070707070702), 13);  // no such memory type
  EXPECT_EQ(access(true, 0x277, 0x0007010600070106), -1);
  EXPECT_EQ(m.state().pat, 0x0007010600070106);
  EXPECT_EQ(access(true, 0xc0000080, 0x400d00), 13);
  EXPECT_EQ(access(true, 0xc0000082, 0x8000'0000'0000), 13);
  EXPECT_EQ(access(true, 0x200, 2), 13);
  EXPECT_EQ(access(false, 0x1b, 0), -1);
  EXPECT_EQ(m.state().gpr[kRax], 0xfee00900);
  EXPECT_EQ(access(false, 0x10a, 0), -1);
  EXPECT_EQ(m.state().gpr[kRax] & 0x3b, 0x3b);
}

TEST(cpuid_states_the_frequencies) {
  M m;
  m.enter_flat32();
  m.change([](CpuState& s) { s.gpr[kRax] = 0x15; });
  const CpuState s = m.execute({0x0f, 0xa2});
  EXPECT_EQ(s.gpr[kRcx] * s.gpr[kRbx] / s.gpr[kRax], 1'000'000'000);
  m.change([](CpuState& state) { state.gpr[kRax] = 0; });
  EXPECT_EQ(m.execute({0x0f, 0xa2}).gpr[kRbx], 0x756e6547);
}

TEST(umip_and_stac) {
  M m;
  m.enter_long64();
  m.change([](CpuState& s) { s.cr4 |= 1u << 11; });
  to_user(m, true);
  m.change([](CpuState& s) { s.gpr[kRbx] = M::kData; });
  m.code({0x0f, 0x01, 0x03}, kUserCode);  // sgdt [rbx]
  m.run_until_halt();
  EXPECT_EQ(m.vector(), 13);
  m.enter_long64();
  EXPECT_EQ(m.execute({0x0f, 0x01, 0xcb}).rflags & 1u << 18, 1u << 18);
}

TEST(enter_protected_mode_from_real_mode) {
  M m;
  m.enter_real();
  // lgdt [bx]; mov eax,cr0; or al,1; mov cr0,eax; jmp far 0x18:0x13000 (32-bit)
  m.put16(M::kData, 0x57);
  m.put32(M::kData + 2, M::kGdt);
  m.put(0x13000, {0x66, 0xb8, 0x10, 0x00, 0x8e, 0xd8, 0x8e, 0xd0, 0xf4});  // mov ds/ss,0x10
  const CpuState s = m.execute({0x0f, 0x01, 0x17, 0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0, 0x66,
                                0xea, 0x00, 0x30, 0x01, 0x00, 0x18, 0x00});
  EXPECT_EQ(s.rip, 0x13009);
  EXPECT_EQ(s.segments[kSs].limit, 0xffff'ffff);
  EXPECT_EQ(s.cr0 & 1, 1);
}

TEST_MAIN()

// A machine for tests of the software CPU: a few MiB of RAM, one CPU, a platform that records.
//
//   TestMachine m;
//   m.enter_long64();                      // or enter_flat32(), enter_real()
//   m.code({0x48, 0xff, 0xc0, 0xf4});      // at kCode; RIP is put there
//   EXPECT_EQ(m.run_until_halt(), Exit::kHalted);
//   EXPECT_EQ(m.state().gpr[kRax], 1);
//
// Every exception of every mode halts in a stub of its own: vector() says which it was, and
// error_code() reads what was pushed. All memory is mapped one to one.
#pragma once
#include <functional>
#include <initializer_list>
#include <map>
#include <string>
#include <vector>

#include "base/test.h"
#include "softcpu/cpu.h"

namespace hv::softcpu {

class FakePlatform : public Platform {
 public:
  struct Access {
    std::uint64_t at;
    unsigned size;
    std::uint64_t value;
  };
  std::uint32_t in(VcpuIndex, std::uint16_t port, unsigned size) override {
    port_reads.push_back({port, size, 0});
    const auto found = ports.find(port);
    return found == ports.end() ? ~0u : found->second;
  }
  void out(VcpuIndex, std::uint16_t port, unsigned size, std::uint32_t value) override {
    port_writes.push_back({port, size, value});
    if (on_out) on_out(port);
  }
  std::uint64_t read(VcpuIndex, Gpa at, unsigned size) override {
    mmio_reads.push_back({raw(at), size, 0});
    const auto found = mmio.find(raw(at));
    return found == mmio.end() ? ~0ull : found->second;
  }
  void write(VcpuIndex, Gpa at, unsigned size, std::uint64_t value) override {
    mmio_writes.push_back({raw(at), size, value});
  }
  std::optional<std::uint64_t> read_apic_msr(VcpuIndex, std::uint32_t number) override {
    const auto found = apic_msrs.find(number);
    if (found == apic_msrs.end()) return std::nullopt;
    return found->second;
  }
  bool write_apic_msr(VcpuIndex, std::uint32_t number, std::uint64_t value) override {
    if (!apic_msrs.contains(number)) return false;
    apic_msrs[number] = value;
    return true;
  }
  std::uint8_t cr8(VcpuIndex) override { return task_priority; }
  void set_cr8(VcpuIndex, std::uint8_t value) override { task_priority = value; }
  std::optional<std::uint8_t> acknowledge_interrupt(VcpuIndex) override {
    const auto taken = interrupt;
    interrupt.reset();
    if (signals != nullptr) signals->clear(Signal::kInterrupt);
    return taken;
  }
  std::uint64_t tsc() override { return ++time; }
  std::uint64_t tsc_frequency() const override { return 1'000'000'000; }
  std::uint64_t a20_mask() const override { return a20; }
  void spin_hint(VcpuIndex) override {
    ++spins;
    if (on_spin) on_spin();
  }

  std::function<void(std::uint16_t port)> on_out;  // what else OUT and PAUSE do
  std::function<void()> on_spin;
  std::map<std::uint16_t, std::uint32_t> ports;
  std::map<std::uint64_t, std::uint64_t> mmio;  // by exact address
  std::map<std::uint32_t, std::uint64_t> apic_msrs = {{0x1b, 0xfee00900}};
  std::vector<Access> port_reads, port_writes, mmio_reads, mmio_writes;
  std::optional<std::uint8_t> interrupt;
  std::uint8_t task_priority = 0;
  std::uint64_t time = 0, a20 = ~0ull, spins = 0;
  VcpuSignals* signals = nullptr;
};

class TestMachine {
 public:
  // The memory map. All of it below 1 MiB, so that every mode reaches it.
  static constexpr std::uint64_t kPml4 = 0x1000, kPdpt = 0x2000, kPd = 0x3000, kGdt = 0x7000,
                                 kIdt = 0x8000, kStubs = 0xa000, kTss = 0xb000, kCode = 0x10000,
                                 kData = 0x20000, kStack = 0x40000, kSize = 4u << 20;
  // Selectors of the GDT.
  static constexpr std::uint16_t kCode64 = 0x08, kDataSel = 0x10, kCode32 = 0x18, kCode16 = 0x20,
                                 kData16 = 0x28, kUserCode64 = 0x33, kUserData = 0x3b,
                                 kUserCode32 = 0x43, kTssSel = 0x48;

  explicit TestMachine(std::uint64_t size = kSize)
      : memory_(make_memory(size)), cpu_(wiring(), *memory_) {
    platform_.signals = &signals_;
    build_gdt();
    for (unsigned vector = 0; vector < 256; ++vector) put(kStubs + vector * 16u, {0xf4});
    for (unsigned vector = 0; vector < 256; ++vector)
      put16(vector * 4u, static_cast<std::uint16_t>(kStubs + vector * 16u));
  }

  void enter_long64() {
    put64(kPml4, kPdpt | 7);
    put64(kPdpt, kPd | 7);
    for (std::uint64_t i = 0; i < 512; ++i) put64(kPd + 8 * i, i << 21 | 0x87);
    build_idt(true, kCode64);
    put16(kTss + 8, 0);  // RSP0's high half
    CpuState s = flat(kCode64, 0xa09b);
    s.cr0 = 0x8000'0033;
    s.cr3 = kPml4;
    s.cr4 = 0x620;  // PAE, OSFXSR, OSXMMEXCPT
    s.efer = 0xd01;  // SCE, LME, LMA, NXE
    set(s);
  }
  void enter_flat32() {
    build_idt(false, kCode32);
    put16(kTss + 8, kDataSel);  // SS0
    CpuState s = flat(kCode32, 0xc09b);
    s.cr0 = 0x33;
    s.cr4 = 0x600;
    set(s);
  }
  // CS, DS, ES and SS at kCode, kData, kData and 0: offsets below 64 KiB reach code, data, stack.
  void enter_real() {
    CpuState s = reset_state(true);
    s.cr0 = 0x30;
    s.cr4 = 0x600;
    const auto segment = [](std::uint64_t base, std::uint32_t access) {
      return Segment{base, 0xffff, access, static_cast<std::uint16_t>(base >> 4)};
    };
    s.segments.fill(segment(kData, 0x93));
    s.segments[kCs] = segment(kCode, 0x9b);
    s.segments[kSs] = segment(kStack - 0x10000, 0x93);
    s.idtr = {0, 0x3ff};
    s.gpr[kRsp] = 0xfff0;
    s.gpr[kRdx] = 0;
    s.rip = 0;
    s.fpu = FpuState{};
    set(s);
    real_ = true;
  }

  // Bytes to `at`, and RIP there (in real mode `at` lies in CS's segment).
  void code(const std::vector<std::uint8_t>& bytes, std::uint64_t at = kCode) {
    put(at, bytes);
    CpuState s = cpu_.state();
    s.rip = at - (real_ ? kCode : 0);
    s.activity = Activity::kRunning;
    set(s);
  }
  Exit run_until_halt() { return cpu_.run(); }
  // Sets the code, runs it to its HLT (appended here), and returns the state after.
  CpuState execute(std::vector<std::uint8_t> bytes) {
    bytes.push_back(0xf4);
    code(bytes);
    run_until_halt();
    return cpu_.state();
  }

  CpuState state() const { return cpu_.state(); }
  void set(const CpuState& s) { cpu_.set_state(s); }
  template <class F>
  void change(F&& f) {
    CpuState s = cpu_.state();
    f(s);
    set(s);
  }
  // The vector whose stub halted the CPU, or -1.
  int vector() const {
    const std::uint64_t at = cpu_.state().rip - 1;
    const bool in_stub = at >= kStubs && at < kStubs + 256 * 16 && (at & 15) == 0;
    return in_stub ? static_cast<int>((at - kStubs) / 16) : -1;
  }
  // What lies at the stack's top.
  std::uint64_t stack_top(unsigned index = 0) const {
    const CpuState s = cpu_.state();
    const unsigned width = (s.efer & 0x400) != 0 ? 8 : real_ ? 2 : 4;
    return get(s.segments[kSs].base + s.gpr[kRsp] + index * width, width);
  }
  std::uint64_t error_code() const { return stack_top(0); }

  void put(std::uint64_t at, const std::vector<std::uint8_t>& bytes) {
    for (std::size_t i = 0; i < bytes.size(); ++i) *memory_->host(Gpa{at + i}) = bytes[i];
    if (!bytes.empty()) memory_->written(Gpa{at}, bytes.size());
  }
  void put_number(std::uint64_t at, std::uint64_t value, unsigned size) {
    std::vector<std::uint8_t> bytes;
    for (unsigned i = 0; i < size; ++i) bytes.push_back(static_cast<std::uint8_t>(value >> 8 * i));
    put(at, bytes);
  }
  void put16(std::uint64_t at, std::uint16_t value) { put_number(at, value, 2); }
  void put32(std::uint64_t at, std::uint32_t value) { put_number(at, value, 4); }
  void put64(std::uint64_t at, std::uint64_t value) { put_number(at, value, 8); }
  std::uint64_t get(std::uint64_t at, unsigned size) const {
    std::uint64_t value = 0;
    for (unsigned i = 0; i < size; ++i)
      value |= std::uint64_t{*memory_->host(Gpa{at + i})} << 8 * i;
    return value;
  }
  std::uint64_t get64(std::uint64_t at) const { return get(at, 8); }

  Cpu& cpu() { return cpu_; }
  FakePlatform& platform() { return platform_; }
  VcpuSignals& signals() { return signals_; }
  GuestMemory& memory() { return *memory_; }

 private:
  static std::unique_ptr<GuestMemory> make_memory(std::uint64_t size) {
    std::string error;
    return GuestMemory::create(size, error);
  }
  VcpuWiring wiring() { return {0, 1, platform_, signals_, list_}; }

  void build_gdt() {
    put64(kGdt + 0x00, 0);
    put64(kGdt + 0x08, 0x00af'9b00'0000'ffff);  // 64-bit code
    put64(kGdt + 0x10, 0x00cf'9300'0000'ffff);  // flat data
    put64(kGdt + 0x18, 0x00cf'9b00'0000'ffff);  // flat 32-bit code
    put64(kGdt + 0x20, 0x0000'9b00'0000'ffff);  // 16-bit code
    put64(kGdt + 0x28, 0x0000'9300'0000'ffff);  // 16-bit data
    put64(kGdt + 0x30, 0x00af'fb00'0000'ffff);  // user's 64-bit code
    put64(kGdt + 0x38, 0x00cf'f300'0000'ffff);  // user's data
    put64(kGdt + 0x40, 0x00cf'fb00'0000'ffff);  // user's 32-bit code
    put64(kGdt + 0x48, 0x0000'8900'0000'0067 | kTss << 16);  // TSS
    put64(kGdt + 0x50, 0);
    put64(kTss + 4, kStack - 0x1000);  // RSP0 (ESP0)
  }
  // Interrupt gates to the stubs, callable from ring 3.
  void build_idt(bool long64, std::uint16_t code) {
    for (unsigned v = 0; v < 256; ++v) {
      const std::uint64_t stub = kStubs + v * 16u;
      const std::uint64_t gate = (stub & 0xffff) | std::uint64_t{code} << 16 | 0xee00ull << 32 |
                                 (stub >> 16) << 48;
      put64(kIdt + v * (long64 ? 16u : 8u), gate);
      if (long64) put64(kIdt + v * 16u + 8, 0);
    }
  }
  CpuState flat(std::uint16_t code, std::uint32_t code_access) {
    real_ = false;
    CpuState s = reset_state(true);
    const auto segment = [](std::uint16_t selector, std::uint32_t access) {
      return Segment{0, 0xffff'ffff, access, selector};
    };
    s.segments.fill(segment(kDataSel, 0xc093));
    s.segments[kCs] = segment(code, code_access);
    s.gdtr = {kGdt, 0x57};
    s.idtr = {kIdt, 0xfff};
    s.tr = Segment{kTss, 0x67, 0x8b, kTssSel};
    s.ldtr = Segment{0, 0, 0x10000, 0};
    s.gpr[kRsp] = kStack;
    s.gpr[kRdx] = 0;
    s.rip = kCode;
    s.fpu = FpuState{};
    return s;
  }

  FakePlatform platform_;
  VcpuSignals signals_;
  VcpuSignals* list_[1] = {&signals_};
  std::unique_ptr<GuestMemory> memory_;
  bool real_ = false;
  Cpu cpu_;
};

}  // namespace hv::softcpu

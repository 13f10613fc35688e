// What the conformance suite runs its guests in: one vCPU of any accelerator with flat memory, page
// tables and tables of the processor's, and a platform that records. Every exception halts in a
// stub of its own, unless the test put a handler there.
#pragma once
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "accel/accelerator.h"
#include "base/test.h"
#include "softcpu/cpu.h"

namespace hv::conformance {

#include "../../test/conformance/guests.inc"

struct Access {
  std::uint64_t at;
  unsigned size;
  std::uint64_t value;
  friend bool operator==(const Access&, const Access&) = default;
};

// A device with 64 bytes of memory at kDevice, ports that answer a running number, and one port
// that raises signals.
class RecordingPlatform : public Platform {
 public:
  static constexpr std::uint64_t kDevice = 0xd000'0000;

  std::uint32_t in(VcpuIndex, std::uint16_t port, unsigned size) override {
    const std::uint32_t value = 0x8070'6050u + ++reads_;
    inputs.push_back({port, size, value});
    return value;
  }
  void out(VcpuIndex, std::uint16_t port, unsigned size, std::uint32_t value) override {
    outputs.push_back({port, size, value});
    if (on_out) on_out(port, value);
  }
  std::uint64_t read(VcpuIndex, Gpa at, unsigned size) override {
    std::uint64_t value = ~0ull;
    if (raw(at) - kDevice + size <= device.size())
      std::memcpy(&value, device.data() + (raw(at) - kDevice), size);
    memory_reads.push_back({raw(at), size, value});
    return value;
  }
  void write(VcpuIndex, Gpa at, unsigned size, std::uint64_t value) override {
    if (raw(at) - kDevice + size <= device.size())
      std::memcpy(device.data() + (raw(at) - kDevice), &value, size);
    memory_writes.push_back({raw(at), size, value});
  }
  std::optional<std::uint64_t> read_apic_msr(VcpuIndex, std::uint32_t index) override {
    const auto found = apic_msrs.find(index);
    if (found == apic_msrs.end()) return std::nullopt;
    return found->second;
  }
  bool write_apic_msr(VcpuIndex, std::uint32_t index, std::uint64_t value) override {
    const auto found = apic_msrs.find(index);
    if (found == apic_msrs.end()) return false;
    found->second = value;
    return true;
  }
  std::uint8_t cr8(VcpuIndex) override { return priority; }
  void set_cr8(VcpuIndex, std::uint8_t value) override { priority = value; }
  std::optional<std::uint8_t> acknowledge_interrupt(VcpuIndex) override {
    if (vectors.empty()) return std::nullopt;
    const std::uint8_t vector = vectors.front();
    vectors.erase(vectors.begin());
    if (vectors.empty()) signals->clear(Signal::kInterrupt);
    return vector;
  }
  std::uint64_t tsc() override { return time += 1000; }
  std::uint64_t tsc_frequency() const override { return 1'000'000'000; }
  std::uint64_t a20_mask() const override { return ~0ull; }
  void spin_hint(VcpuIndex) override {}

  void interrupt(std::uint8_t vector) {
    vectors.push_back(vector);
    signals->raise(Signal::kInterrupt);
  }

  std::vector<Access> inputs, outputs, memory_reads, memory_writes;
  std::array<std::uint8_t, 64> device{};
  std::map<std::uint32_t, std::uint64_t> apic_msrs = {
      {0x1b, 0xfee0'0900}, {0x6e0, 0}, {0x802, 0}, {0x808, 0x20}};
  std::vector<std::uint8_t> vectors;
  std::uint8_t priority = 0;
  std::uint64_t time = 0;
  std::function<void(std::uint16_t, std::uint32_t)> on_out;
  VcpuSignals* signals = nullptr;

 private:
  std::uint32_t reads_ = 0;
};

class Rig {
 public:
  static constexpr std::uint64_t kPml4 = 0x1000, kPdpt = 0x2000, kPd = 0x3000, kGdt = 0x8000,
                                 kIdt = 0xc000, kStubs = 0xa000, kTss = 0xb000, kCode = 0x10000,
                                 kHandlers = 0x18000, kData = 0x20000, kStack = 0x40000,
                                 kSize = 4u << 20;
  static constexpr std::uint16_t kCode64 = 0x08, kFlatData = 0x10, kTssSelector = 0x18;

  explicit Rig(const Accelerator& accelerator) {
    std::string error;
    memory = GuestMemory::create(kSize, error);
    platform.signals = &signals;
    machine_ = accelerator.create_machine(*memory);
    vcpu = machine_->create_vcpu({0, 1, platform, signals, list_});
    for (unsigned v = 0; v < 256; ++v) *at(kStubs + 16 * v) = 0xf4;
    build_tables();
    set_long64();
  }

  std::uint8_t* at(std::uint64_t gpa) { return memory->host(Gpa{gpa}); }
  template <class T = std::uint64_t>
  T get(std::uint64_t gpa) {
    T value;
    std::memcpy(&value, at(gpa), sizeof value);
    return value;
  }
  template <class T>
  void put(std::uint64_t gpa, T value) {
    std::memcpy(at(gpa), &value, sizeof value);
    memory->written(Gpa{gpa}, sizeof value);
  }
  void load(std::span<const std::uint8_t> code, std::uint64_t where = kCode) {
    std::memcpy(at(where), code.data(), code.size());
    memory->written(Gpa{where}, code.size());
  }
  // Vector `v` runs `code`, which is put in room of its own.
  void handler(unsigned v, std::span<const std::uint8_t> code) {
    const std::uint64_t where = kHandlers + 256 * handlers_++;
    load(code, where);
    gate(v, where);
  }

  void change(const std::function<void(CpuState&)>& f) {
    CpuState s = vcpu->state();
    f(s);
    vcpu->set_state(s);
  }
  // From the start of `code` to a HLT that nothing wakes (or a triple fault).
  Exit run(std::span<const std::uint8_t> code) {
    load(code);
    change([](CpuState& s) {
      s.rip = kCode;
      s.activity = Activity::kRunning;
    });
    return vcpu->run();
  }
  CpuState state() const { return vcpu->state(); }
  std::uint64_t reg(unsigned number) const { return vcpu->state().gpr[number]; }
  // Whose stub halted the vCPU, or -1.
  int vector() const {
    const std::uint64_t rip = vcpu->state().rip - 1;
    const bool stub = rip >= kStubs && rip < kStubs + 4096 && (rip & 15) == 0;
    return stub ? static_cast<int>((rip - kStubs) / 16) : -1;
  }

  void set_long64() {
    CpuState s = reset_state(true);
    s.segments.fill({0, 0xffff'ffff, 0xc093, kFlatData});
    s.segments[kCs] = {0, 0xffff'ffff, 0xa09b, kCode64};
    s.gdtr = {kGdt, 0x2f};
    s.idtr = {kIdt, 0xfff};
    s.tr = {kTss, 0x67, 0x8b, kTssSelector};
    s.ldtr = {0, 0, 0x10000, 0};
    s.cr0 = 0x8000'0033;
    s.cr3 = kPml4;
    s.cr4 = 0x620;  // PAE, OSFXSR, OSXMMEXCPT
    s.efer = 0xd01;
    s.gpr = {};
    s.gpr[4] = kStack;
    s.rip = kCode;
    s.fpu = FpuState{};
    vcpu->set_state(s);
  }

  Machine& machine() { return *machine_; }

  std::unique_ptr<GuestMemory> memory;
  RecordingPlatform platform;
  VcpuSignals signals;

 private:
  void gate(unsigned v, std::uint64_t to) {
    put(kIdt + 16 * v, (to & 0xffff) | std::uint64_t{kCode64} << 16 | 0x8e00ull << 32 |
                           (to >> 16) << 48);
    put(kIdt + 16 * v + 8, std::uint64_t{0});
  }
  void build_tables() {
    put(kGdt + 0x08, std::uint64_t{0x00af'9b00'0000'ffff});
    put(kGdt + 0x10, std::uint64_t{0x00cf'9300'0000'ffff});
    put(kGdt + 0x18, std::uint64_t{0x0000'8b00'0000'0067} | kTss << 16);
    put(kTss + 4, kStack - 0x1000);
    put(kPml4, kPdpt | 7);
    for (std::uint64_t gib = 0; gib < 4; ++gib) {
      put(kPdpt + 8 * gib, (kPd + 0x1000 * gib) | 7);
      for (std::uint64_t i = 0; i < 512; ++i)
        put(kPd + 0x1000 * gib + 8 * i, gib << 30 | i << 21 | 0x87);
    }
    for (unsigned v = 0; v < 256; ++v) gate(v, kStubs + 16 * v);
  }

  VcpuSignals* list_[1] = {&signals};
  std::unique_ptr<Machine> machine_;
  std::uint64_t handlers_ = 0;

 public:
  std::unique_ptr<Vcpu> vcpu;  // last: ends before what it runs in
};

// One engine of the software CPU: its interpreter for everything, or its translator from the first
// run of a block on.
class SoftEngine final : public Accelerator {
 public:
  SoftEngine(std::string_view name, const char* options)
      : name_{name}, options_{softcpu::TranslatorOptions::parse(options)} {}

  std::string_view name() const override { return name_; }
  std::optional<std::string> unavailable() const override {
    if (options_.enabled || name_ == "soft interpreter") return std::nullopt;
    return "soft translator: not for this host's architecture";
  }
  std::unique_ptr<Machine> create_machine(GuestMemory& memory) const override {
    return std::make_unique<EngineMachine>(memory, options_);
  }

 private:
  class EngineMachine final : public Machine {
   public:
    EngineMachine(GuestMemory& memory, const softcpu::TranslatorOptions& options)
        : Machine{memory}, options_{options} {}
    std::unique_ptr<Vcpu> create_vcpu(const VcpuWiring& wiring) override {
      auto cpu = std::make_unique<softcpu::Cpu>(wiring, memory());
      cpu->choose_translator(options_);
      return cpu;
    }

   private:
    const softcpu::TranslatorOptions& options_;
  };

  const std::string_view name_;
  const softcpu::TranslatorOptions options_;
};

inline bool in_software(const Accelerator& accelerator) {
  return accelerator.name().starts_with("soft");
}

inline bool keeps_apics(const Accelerator& accelerator) {
  std::string error;
  const auto memory = GuestMemory::create(1u << 20, error);
  const auto machine = memory == nullptr ? nullptr : accelerator.create_machine(*memory);
  return machine != nullptr && machine->use_kernel_apics() != nullptr;
}

// KVM with the local APICs where `words` say (docs/kvm.md, XHYVED_KVM): another machine only where
// there are interrupt controllers around the vCPUs.
class KvmForm final : public Accelerator {
 public:
  KvmForm(const Accelerator& kvm, std::string_view name, const char* words)
      : kvm_{kvm}, name_{name}, words_{words} {}

  std::string_view name() const override { return name_; }
  std::optional<std::string> unavailable() const override {
    if (const auto why = kvm_.unavailable()) return why;
    const bool wanted = std::string_view{words_} == "split-irqchip";
    if (keeps_apics(*this) == wanted) return std::nullopt;
    return std::string{name_} + ": this host's kernel lacks some of what it needs";
  }
  std::unique_ptr<Machine> create_machine(GuestMemory& memory) const override {
    ::setenv("XHYVED_KVM", words_, 1);
    auto machine = kvm_.create_machine(memory);
    ::unsetenv("XHYVED_KVM");
    return machine;
  }

 private:
  const Accelerator& kvm_;
  const std::string_view name_;
  const char* const words_;
};

// Accelerators of this test program beside the host's: a simulated Mac's (native/sim).
inline std::vector<const Accelerator*>& others() {
  static std::vector<const Accelerator*> list;
  return list;
}

// Every accelerator that this host can use, the software CPU by its engines; one that it cannot is
// skipped aloud, once.
inline const std::vector<const Accelerator*>& usable() {
  static const SoftEngine interpreter{"soft interpreter", "interpreter"};
  static const SoftEngine translator{"soft translator", "eager"};
  static const std::vector<const Accelerator*> list = [] {
    std::vector<const Accelerator*> all = {&interpreter, &translator};
    for (const Accelerator* one : accelerators())
      if (!in_software(*one)) all.push_back(one);
    all.insert(all.end(), others().begin(), others().end());
    std::vector<const Accelerator*> out;
    for (const Accelerator* one : all) {
      if (const auto why = one->unavailable())
        std::printf("skipped: %s\n", why->c_str());
      else
        out.push_back(one);
    }
    return out;
  }();
  return list;
}

// Whether a VM on each of the two can be there at once; says so where not.
inline bool together(const Accelerator& one, const Accelerator& other) {
  if (&one != &other || !one.one_vm_a_process()) return true;
  std::printf("skipped on %s: a process has one VM of it, and this test needs two\n",
              std::string{one.name()}.c_str());
  return false;
}

}  // namespace hv::conformance

// A test that runs once on each usable accelerator, as `accelerator`.
#define CONFORMANCE(what)                                                            \
  static void conform_##what(const hv::Accelerator& accelerator);                    \
  TEST(what) {                                                                       \
    for (const hv::Accelerator* one : hv::conformance::usable()) {                   \
      const int before = hv::test::failures;                                         \
      conform_##what(*one);                                                          \
      if (hv::test::failures != before)                                              \
        std::fprintf(stderr, "… on %s\n", std::string{one->name()}.c_str());         \
    }                                                                                \
  }                                                                                  \
  static void conform_##what(const hv::Accelerator& accelerator)

// What a guest's interrupts cost on KVM with local APICs of ours and with the kernel's, in a whole
// VM: CPU time of the process for a turn, medians. `make kvm-apics`; docs/kvm.md has the figures.
#include <algorithm>
#include <cstdio>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "accel/conformance_rig.h"
#include "cpu_time.h"
#include "irq/kernel_apics.h"
#include "vm/test_owner.h"
#include "vm/vm.h"

using namespace hv;
using namespace hv::conformance;

namespace {

constexpr std::uint64_t kCode = 0x10000, kData = 0x20000, kIdt = 0xc000, kGdt = 0x9000,
                        kHandler = 0xe000;
constexpr std::uint64_t kTurns = 4000;
constexpr int kRounds = 7;

// RBX: the local APIC's page; R8: turns. Each halts for good in the end.
constexpr std::uint8_t kNothing[] = {0x90, 0x49, 0xff, 0xc8, 0x75, 0xfa, 0xfa, 0xf4};
// 1: mov dword [rbx + 0xb0], 0; dec r8; jnz 1b; cli; hlt
constexpr std::uint8_t kEois[] = {0xc7, 0x83, 0xb0, 0, 0, 0, 0, 0, 0, 0, 0x49, 0xff, 0xc8,
                                  0x75, 0xf1, 0xfa, 0xf4};
// sti; 1: mov dword [rbx + 0x300], 0x44040 (to itself, vector 0x40); dec r8; jnz 1b; cli; hlt
constexpr std::uint8_t kIpis[] = {0xfb, 0xc7, 0x83, 0, 3, 0, 0, 0x40, 0x40, 4, 0, 0x49, 0xff, 0xc8,
                                  0x75, 0xf1, 0xfa, 0xf4};
// 1: mov dword [rbx + 0x380], 25 (1 us); sti; hlt; cli; dec r8; jnz 1b; hlt
constexpr std::uint8_t kShots[] = {0xc7, 0x83, 0x80, 3, 0, 0, 25, 0, 0, 0, 0xfb, 0xf4, 0xfa,
                                   0x49, 0xff, 0xc8, 0x75, 0xee, 0xf4};
// 1: sti; hlt; cli; cmp [rsi], r8; jb 1b; hlt
constexpr std::uint8_t kMessages[] = {0xfb, 0xf4, 0xfa, 0x4c, 0x39, 0x06, 0x72, 0xf8, 0xf4};

struct Machines {
  explicit Machines(const Accelerator& accelerator) {
    VmConfig config;
    config.memory = 4u << 20;
    std::string error;
    vm = Vm::create(config, accelerator, owner, error);
    put64(kGdt + 8, 0x00af'9b00'0000'ffff);
    put64(0x1000, 0x2000 | 3);
    for (std::uint64_t gib = 0; gib < 4; ++gib) put64(0x2000 + 8 * gib, (0x3000 + 0x1000 * gib) | 3);
    for (std::uint64_t i = 0; i < 2048; ++i) put64(0x3000 + 8 * i, i << 21 | 0x83);
    put64(kIdt + 16 * 0x40, kHandler | std::uint64_t{8} << 16 | 0x8e00ull << 32);
    std::copy(std::begin(k_count_eoi), std::end(k_count_eoi), vm->memory().host(Gpa{kHandler}));
  }
  void put64(std::uint64_t at, std::uint64_t value) {
    std::memcpy(vm->memory().host(Gpa{at}), &value, sizeof value);
  }
  void start(std::span<const std::uint8_t> code) {
    std::copy(code.begin(), code.end(), vm->memory().host(Gpa{kCode}));
    put64(kData + 8, 0);
    CpuState s = reset_state(true);
    s.segments.fill({0, 0xffff'ffff, 0xc093, 0});
    s.segments[kCs] = {0, 0xffff'ffff, 0xa09b, 8};
    s.gdtr = {kGdt, 0xf};
    s.idtr = {kIdt, 0xfff};
    s.cr0 = 0x8000'0033;
    s.cr3 = 0x1000;
    s.cr4 = 0x620;
    s.efer = 0xd01;
    s.gpr[3] = Lapic::kAddress;
    s.gpr[4] = 0x40000;
    s.gpr[6] = kData + 8;
    s.gpr[8] = kTurns;
    s.rip = kCode;
    (void)vm->set_cpu(0, s);
    Lapic& lapic = vm->board().fabric.lapic(0);
    lapic.write(0xf0, 4, 0x1ff);
    lapic.write(0x3e0, 4, 0xb);
    lapic.write(0x320, 4, 0x40);
  }
  void finish() {
    owner.await(VmEvent::kHalted);
    vm->park();
    owner.await(VmEvent::kParked);
  }
  std::uint64_t counted() {
    return __atomic_load_n(reinterpret_cast<std::uint64_t*>(vm->memory().host(Gpa{kData + 8})),
                           __ATOMIC_RELAXED);
  }

  TestOwner owner;
  std::unique_ptr<Vm> vm;
};

double median(std::vector<double> of) {
  std::nth_element(of.begin(), of.begin() + kRounds / 2, of.end());
  return of[kRounds / 2];
}

double loop(const Accelerator& accelerator, std::span<const std::uint8_t> code) {
  Machines machine{accelerator};
  std::vector<double> took;
  for (int round = 0; round < kRounds; ++round) {
    machine.start(code);
    const double before = cpu_nanoseconds();
    (void)machine.vm->run();
    machine.finish();
    took.push_back((cpu_nanoseconds() - before) / static_cast<double>(kTurns));
  }
  return median(took);
}

double thread_nanoseconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

// What the sender of a message to a halted vCPU pays.
double messages(const Accelerator& accelerator) {
  constexpr std::uint64_t kMost = 500;
  Machines machine{accelerator};
  std::vector<double> took;
  for (int round = 0; round < kRounds; ++round) {
    machine.start(kMessages);
    CpuState s = *machine.vm->cpu(0);
    s.gpr[8] = kMost;
    (void)machine.vm->set_cpu(0, s);
    (void)machine.vm->run();
    double sum = 0;
    for (std::uint64_t i = 1; i <= kMost; ++i) {
      const double before = thread_nanoseconds();
      (void)machine.vm->board().fabric.msi(0xfee0'0000, 0x40);
      sum += thread_nanoseconds() - before;
      while (machine.counted() < i) std::this_thread::yield();
    }
    machine.finish();
    took.push_back(sum / static_cast<double>(kMost));
  }
  return median(took);
}

}  // namespace

int main() {
  const Accelerator* kvm = nullptr;
  for (const Accelerator* one : accelerators())
    if (one->name() == "kvm") kvm = one;
  if (kvm == nullptr) return std::printf("this host has no kvm\n"), 0;
  if (const auto why = kvm->unavailable()) return std::printf("%s\n", why->c_str()), 0;
  const KvmForm own{*kvm, "ours", "own-apics"}, split{*kvm, "the kernel's", "split-irqchip"};
  std::printf("%-36s %10s %14s\n", "nanoseconds", "ours", "the kernel's");
  const auto row = [&](const char* name, auto&& measure) {
    std::printf("%-36s %10.0f %14.0f\n", name, measure(own), measure(split));
  };
  row("a turn of nothing", [](const Accelerator& a) { return loop(a, kNothing); });
  row("EOI", [](const Accelerator& a) { return loop(a, kEois); });
  row("IPI to itself, taken and ended", [](const Accelerator& a) { return loop(a, kIpis); });
  row("timer shot that wakes from HLT", [](const Accelerator& a) { return loop(a, kShots); });
  row("message to a halted vCPU, its sender", messages);
  return 0;
}

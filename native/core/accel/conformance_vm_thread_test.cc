// The conformance suite with the machine around the vCPUs: its own interrupt controllers and
// timers, a thread for each vCPU, parking, reset, and state moved between accelerators.
#include <atomic>
#include <chrono>
#include <cmath>
#include <ctime>
#include <thread>

#include "accel/conformance_rig.h"
#include "accel/frequencies.h"
#include "base/json.h"
#include "bus/consumer.h"
#include "irq/kernel_apics.h"
#include "vm/test_owner.h"
#include "vm/vm.h"

using namespace hv;
using namespace hv::conformance;

namespace {

// No test waits for less than what another machine's load may take.
constexpr std::chrono::seconds kPatience{60};

constexpr std::uint64_t kCode = 0x10000, kData = 0x20000, kIdt = 0xc000, kGdt = 0x9000,
                        kHandler = 0xe000, kSecond = 0x8000, kSecondHandler = 0x8100;

// With machines around them, KVM's vCPUs come in two forms: beside the one that it chooses here, the
// other.
const bool both_forms = [] {
  for (const Accelerator* one : accelerators()) {
    if (one->name() != "kvm" || one->unavailable()) continue;
    static const KvmForm split{*one, "kvm with a split irqchip", "split-irqchip"};
    static const KvmForm own{*one, "kvm with our local APICs", "own-apics"};
    others().push_back(keeps_apics(*one) ? &own : &split);
  }
  return true;
}();

// A VM that starts in 64-bit code with flat memory.
struct Machines {
  Machines(const Accelerator& accelerator, VcpuIndex cpus) {
    VmConfig config;
    config.cpus = cpus;
    config.memory = 4u << 20;
    std::string error;
    vm = Vm::create(config, accelerator, owner, error);
    EXPECT_EQ(error, "");
    put64(kGdt + 8, 0x00af'9b00'0000'ffff);
    put64(0x1000, 0x2000 | 3);
    for (std::uint64_t gib = 0; gib < 4; ++gib) {
      put64(0x2000 + 8 * gib, (0x3000 + 0x1000 * gib) | 3);
      for (std::uint64_t i = 0; i < 512; ++i)
        put64(0x3000 + 0x1000 * gib + 8 * i, gib << 30 | i << 21 | 0x83);
    }
  }
  void put(std::uint64_t at, std::span<const std::uint8_t> bytes) {
    std::copy(bytes.begin(), bytes.end(), vm->memory().host(Gpa{at}));
    vm->memory().written(Gpa{at}, bytes.size());
  }
  void put64(std::uint64_t at, std::uint64_t value) {
    std::uint8_t bytes[8];
    std::memcpy(bytes, &value, 8);
    put(at, bytes);
  }
  template <class T = std::uint64_t>
  T get(std::uint64_t at) {
    T value;
    std::memcpy(&value, vm->memory().host(Gpa{at}), sizeof value);
    return value;
  }
  void start(std::span<const std::uint8_t> code) {
    put(kCode, code);
    put64(kIdt + 16 * 0x40, kHandler | std::uint64_t{8} << 16 | 0x8e00ull << 32);
    put(kHandler, k_count_eoi);
    CpuState s = *vm->cpu(0);
    s.segments.fill({0, 0xffff'ffff, 0xc093, 0});
    s.segments[kCs] = {0, 0xffff'ffff, 0xa09b, 8};
    s.gdtr = {kGdt, 0xf};
    s.idtr = {kIdt, 0xfff};
    s.cr0 = 0x8000'0033;
    s.cr3 = 0x1000;
    s.cr4 = 0x620;
    s.efer = 0xd01;
    s.gpr[4] = 0x40000;
    s.rip = kCode;
    EXPECT(vm->set_cpu(0, s));
  }
  // Lets it go until the number at kData has grown, and parks it.
  bool run_until_counted() {
    const auto counted = [this] {
      return __atomic_load_n(reinterpret_cast<std::uint64_t*>(vm->memory().host(Gpa{kData})),
                             __ATOMIC_RELAXED);
    };
    const std::uint64_t before = counted();
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    EXPECT(vm->run());
    while (counted() == before && std::chrono::steady_clock::now() < deadline)
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
    park();
    return counted() > before;
  }
  // Until the number at `at` is at least `count`, as the running guest writes it.
  bool await(std::uint64_t at, std::uint64_t count) {
    const auto* const number = reinterpret_cast<std::uint64_t*>(vm->memory().host(Gpa{at}));
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (__atomic_load_n(number, __ATOMIC_RELAXED) < count) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
    return true;
  }
  // A moment at a time, until `reached` holds while it is parked.
  template <class Reached>
  bool run_until(Reached reached) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (!reached()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      EXPECT(vm->run());
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
      park();
    }
    return true;
  }
  bool halted(VcpuIndex vcpu) { return vm->cpu(vcpu)->activity == Activity::kHalted; }
  bool run_to_halt() {
    EXPECT(vm->run());
    const bool halted = owner.await(VmEvent::kHalted).has_value();
    park();
    return halted;
  }
  void park() {
    vm->park();
    owner.await(VmEvent::kParked);
  }
  std::uint64_t reg(unsigned number) { return vm->cpu(0)->gpr[number]; }

  TestOwner owner;
  std::unique_ptr<Vm> vm;
};

}  // namespace

CONFORMANCE(a_second_vcpu_starts_by_init_and_sipi) {
  Machines machine{accelerator, 2};
  machine.put(kSecond, k_second);
  machine.put(kSecondHandler, k_second_handler);
  machine.start(k_start_second);
  // The second vCPU waits with interrupts on, so that the VM is never dead.
  EXPECT(machine.run_until([&] { return machine.halted(0) && machine.halted(1); }));
  EXPECT_EQ(machine.get<std::uint16_t>(kData), 0x600du);
  EXPECT_EQ(machine.get<std::uint16_t>(kData + 4), 1u);
  EXPECT_EQ(machine.vm->cpu(1)->segments[kCs].base, 0x8000u);
}

CONFORMANCE(the_local_timer_wakes_a_halted_vcpu) {
  Machines machine{accelerator, 1};
  machine.start(k_timers);
  EXPECT(machine.run_to_halt());
  EXPECT_EQ(machine.get(kData + 16), 1u);  // the one shot
  EXPECT_EQ(machine.get(kData + 8), 2u);   // and the deadline
  // Not before the deadline that the guest named, in the guest's own counter.
  EXPECT(machine.reg(10) >= machine.reg(9));
  EXPECT(machine.reg(9) > machine.reg(8));
  // 25000 crystal ticks are a millisecond, 5 million of the counter about two.
  EXPECT(machine.vm->board().clock.now() >= 2'500'000u);
}

namespace {

// STI; HLT; over again.
constexpr std::uint8_t kWait[] = {0xfb, 0xf4, 0xeb, 0xfc};
constexpr unsigned kPin = 20;
constexpr IrqSource kSource = 3;

std::string flaw_of_apics(const Accelerator& accelerator) {
  std::string error;
  const auto memory = GuestMemory::create(1u << 20, error);
  const auto machine = accelerator.create_machine(*memory);
  KernelApics* const apics = machine == nullptr ? nullptr : machine->use_kernel_apics();
  return apics == nullptr ? std::string{} : apics->flaw();
}

}  // namespace

// Each delivery of a line that stays asserted needs the EOI of the one before it.
CONFORMANCE(a_level_line_comes_again_after_its_eoi) {
  if (const std::string why = flaw_of_apics(accelerator); !why.empty()) {
    std::printf("skipped on %s: %s\n", std::string{accelerator.name()}.c_str(), why.c_str());
    return;
  }
  Machines machine{accelerator, 1};
  machine.start(kWait);
  InterruptFabric& fabric = machine.vm->board().fabric;
  fabric.ioapic().write(0, 4, 0x10 + 2 * kPin);
  fabric.ioapic().write(0x10, 4, 0x8040);  // level-triggered, vector 0x40, to APIC 0
  EXPECT(machine.vm->run());
  fabric.set_ioapic_pin(kPin, kSource, true);
  EXPECT(machine.await(kData + 8, 5));
  machine.park();
  fabric.set_ioapic_pin(kPin, kSource, false);
  const std::uint64_t counted = machine.get(kData + 8);
  EXPECT(machine.vm->run());
  std::this_thread::sleep_for(std::chrono::milliseconds{20});
  machine.park();
  EXPECT(machine.get(kData + 8) <= counted + 1);  // the one under way
  EXPECT(machine.vm->run());
  fabric.set_ioapic_pin(kPin, kSource, true);
  EXPECT(machine.await(kData + 8, counted + 5));
  machine.park();
}

// The 8259 pair's INT, through LINT0 as firmware leaves it.
CONFORMANCE(the_8259_pair_wakes_a_halted_vcpu) {
  Machines machine{accelerator, 1};
  machine.start(kWait);
  machine.put64(kIdt + 16 * 0x33, (kHandler + 0x100) | std::uint64_t{8} << 16 | 0x8e00ull << 32);
  machine.put(kHandler + 0x100, k_count_0);
  InterruptFabric& fabric = machine.vm->board().fabric;
  // ICW1 to ICW4 of the master: edges, vectors from 0x30 on, a slave at 2, automatic EOI.
  fabric.pic().write(0x20, 1, 0x11);
  for (const std::uint32_t word : {0x30u, 4u, 3u, 0xf7u}) fabric.pic().write(0x21, 1, word);
  for (std::uint64_t i = 1; i <= 20; ++i) {
    EXPECT(machine.vm->run());
    fabric.set_isa(3, kSource, true);
    if (!EXPECT(machine.await(kData, i))) break;
    fabric.set_isa(3, kSource, false);
    machine.park();
  }
  EXPECT_EQ(machine.get(kData), 20u);
}

CONFORMANCE(the_counter_stands_while_the_vm_is_paused) {
  Machines machine{accelerator, 1};
  machine.start(k_counter);
  std::uint64_t last = 0;
  const auto began = std::chrono::steady_clock::now();
  for (int i = 0; i < 4; ++i) {
    EXPECT(machine.run_until_counted());
    last = machine.get(kData);
    std::this_thread::sleep_for(std::chrono::milliseconds{60});
  }
  // It ran for less time than passed: what the pauses took (240 ms) is not in it. No x86 counts
  // slower than 1 GHz.
  const auto passed = std::chrono::steady_clock::now() - began;
  const auto ran = std::chrono::nanoseconds{machine.vm->board().clock.now()};
  EXPECT(ran + std::chrono::milliseconds{200} < passed);
  const bool stood = last < static_cast<std::uint64_t>(ran.count()) * 6;
  if (in_software(accelerator)) EXPECT(stood);
  if (!stood)
    std::printf("skipped on %s: guests read the host's own counter, which does not stand still\n",
                std::string{accelerator.name()}.c_str());
}

CONFORMANCE(each_pause_finds_what_was_written_since_the_last) {
  Machines machine{accelerator, 1};
  machine.start(k_forever);
  EXPECT(machine.run_until_counted());
  EXPECT(machine.vm->log_writes(true));
  for (int i = 0; i < 5; ++i) {
    EXPECT(machine.run_until_counted());
    // It counts at DATA, and nothing else is written.
    const auto written = machine.vm->take_written();
    REQUIRE(written.has_value());
    REQUIRE(written->size() == 1);
    EXPECT_EQ(written->front(), kData / kPageSize);
  }
  EXPECT(machine.vm->run());
  EXPECT(!machine.vm->log_writes(false));
  EXPECT(!machine.vm->take_written().has_value());
  machine.park();
  EXPECT(machine.vm->log_writes(false));
}

CONFORMANCE(a_triple_fault_parks_and_reset_starts_again) {
  Machines machine{accelerator, 1};
  for (int i = 0; i < 2; ++i) {
    machine.start(k_triple_fault);
    EXPECT(machine.vm->run());
    machine.owner.await(VmEvent::kTripleFault);
    machine.owner.await(VmEvent::kParked);
    EXPECT(machine.vm->cpu(0)->activity == Activity::kShutdown);
    EXPECT(machine.vm->reset());
    EXPECT_EQ(machine.vm->cpu(0)->rip, 0xfff0u);
  }
  machine.start(k_timers);
  EXPECT(machine.run_to_halt());
}

CONFORMANCE(kick_storms_lose_and_repeat_nothing) {
  Machines machine{accelerator, 1};
  machine.start(k_spin_sum);
  constexpr std::uint64_t kTurns = 30'000;
  CpuState s = *machine.vm->cpu(0);
  s.gpr[8] = kTurns;
  EXPECT(machine.vm->set_cpu(0, s));
  std::uint64_t expected = 0;
  for (std::uint64_t i = kTurns; i != 0; --i) expected = expected * 31 + i;
  unsigned parkings = 0;
  EXPECT(machine.vm->run());
  for (; parkings < 4000; ++parkings) {
    if (parkings % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds{200});
    machine.park();
    if (machine.vm->cpu(0)->activity == Activity::kHalted) break;
    if (parkings % 2 == 0) EXPECT(machine.vm->set_cpu(0, *machine.vm->cpu(0)));
    EXPECT(machine.vm->run());
  }
  EXPECT_EQ(machine.reg(0), expected);
}

CONFORMANCE(interrupts_and_nmis_in_a_storm_all_arrive) {
  Machines machine{accelerator, 1};
  machine.put64(kIdt + 16 * 2, (kHandler + 0x100) | std::uint64_t{8} << 16 | 0x8e00ull << 32);
  machine.put(kHandler + 0x100, k_count_0);
  // STI; JMP to itself.
  constexpr std::uint8_t kIdle[] = {0xfb, 0xeb, 0xfe};
  machine.start(kIdle);
  CpuState s = *machine.vm->cpu(0);
  EXPECT(machine.vm->set_cpu(0, s));
  EXPECT(machine.vm->board().fabric.lapic(0).write_msr(0x1b, 0xfee0'0900));
  machine.vm->board().fabric.lapic(0).write(0xf0, 4, 0x1ff);
  constexpr unsigned kRounds = 300;
  for (unsigned i = 0; i < kRounds; ++i) {
    EXPECT(machine.vm->run());
    EXPECT(machine.vm->board().fabric.msi(0xfee0'0000, 0x40));
    machine.vm->nmi();
    if (i % 4 == 0) std::this_thread::sleep_for(std::chrono::microseconds{300});
    machine.park();
    // Each is taken before the next is sent: both would merge into one otherwise.
    const auto done = [&] { return machine.get(kData + 8) == i + 1 && machine.get(kData) == i + 1; };
    for (unsigned wait = 0; wait < 2000 && !done(); ++wait) {
      EXPECT(machine.vm->run());
      std::this_thread::sleep_for(std::chrono::microseconds{100});
      machine.park();
    }
    if (!EXPECT(done())) break;
  }
  EXPECT_EQ(machine.get(kData + 8), kRounds);
  EXPECT_EQ(machine.get(kData), kRounds);
}

namespace {

constexpr std::uint64_t kBar = 0xd000'0000, kMovedBar = 0xd100'0000, kDone = kData + 8;

// Counts at RSI, writes the count to R9 and rings the doorbell at RBX, R8 times; then it says so at
// RSI + 8 and halts.
constexpr std::uint8_t kRing[] = {
    0x48, 0xff, 0x06,                          // 1: inc qword [rsi]
    0x8b, 0x06,                                // mov eax, [rsi]
    0x41, 0x89, 0x01,                          // mov [r9], eax
    0x66, 0x89, 0x03,                          // mov [rbx], ax
    0x49, 0xff, 0xc8,                          // dec r8
    0x75, 0xf0,                                // jnz 1b
    0xc7, 0x46, 0x08, 0x01, 0x00, 0x00, 0x00,  // mov dword [rsi + 8], 1
    0xf4};                                     // hlt

// A device with a doorbell at 0 and a posted register at 4, and a consumer that writes down what the
// guest had counted at the last bell, and what it had been sent before.
struct DoorbellMachine : Machines {
  static constexpr std::uint32_t kRings = 0xb311;

  explicit DoorbellMachine(const Accelerator& accelerator) : Machines{accelerator, 1} {
    RangeSpec spec;
    spec.name = "bell";
    spec.space = Space::kMemory;
    spec.base = kBar;
    spec.length = 8;
    spec.ways = {{0, 4, ReadWay::kDirect, WriteWay::kDoorbell},
                 {4, 4, ReadWay::kDirect, WriteWay::kPosted}};
    spec.ways[0].rings = kRings;
    EXPECT_EQ(vm->bus().map().add(std::move(spec), range), "");
  }
  void set_turns(std::uint64_t turns, std::uint64_t bell, std::uint64_t sends) {
    start(kRing);
    put64(kDone, 0);
    CpuState s = *vm->cpu(0);
    s.activity = Activity::kRunning;
    s.gpr[3] = bell;
    s.gpr[6] = kData;
    s.gpr[8] = turns;
    s.gpr[9] = sends;
    EXPECT(vm->set_cpu(0, s));
  }
  std::uint64_t counted() { return *running(kData); }
  bool done() { return *running(kDone) != 0; }
  void serve() {
    vm->bus().collect();
    consumer.serve();
  }
  // Lets it go until it is done or has counted further by `more`, and parks it.
  void run(std::uint64_t more = ~0ull) {
    const std::uint64_t began = counted();
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    EXPECT(vm->run());
    while (!done() && counted() - began < more &&
           std::chrono::steady_clock::now() < deadline)
      serve();
    park();
  }
  // What a vCPU may be writing.
  const std::atomic<std::uint64_t>* running(std::uint64_t at) {
    return reinterpret_cast<const std::atomic<std::uint64_t>*>(vm->memory().host(Gpa{at}));
  }
  void take(const Served& served) {
    if (served.kind == wire::Kind::kWrite) {
      sent = served.value;
      return;
    }
    EXPECT_EQ(served.offset, 0u);
    EXPECT_EQ(served.value, kRings);
    ++bells;
    at_last_bell = counted();
    sent_at_last_bell = sent;
  }

  Range* range = nullptr;
  unsigned bells = 0;
  std::uint64_t sent = 0, at_last_bell = 0, sent_at_last_bell = 0;
  Consumer consumer{vm->bus(), [this](const Served& served) {
                      take(served);
                      return 0u;
                    }};
};

}  // namespace

// Whatever a guest prepared or posted before it rang, the device finds when the bell reaches it; and
// no bell is lost, however many there are.
CONFORMANCE(a_doorbell_comes_after_what_was_posted_before_it) {
  DoorbellMachine machine{accelerator};
  constexpr std::uint64_t kTurns = 1500;
  machine.set_turns(kTurns, kBar, kBar + 4);
  machine.run();
  machine.serve();
  EXPECT(machine.bells >= 1 && machine.bells <= kTurns);
  EXPECT_EQ(machine.at_last_bell, kTurns);
  EXPECT_EQ(machine.sent_at_last_bell, kTurns);
  EXPECT(!machine.vm->bus().channel().outstanding());
  EXPECT_EQ(machine.range->counts.doorbell.load(), kTurns);
  EXPECT_EQ(machine.range->counts.posted.load(), kTurns);
  if (accelerator.name() != "kvm" || machine.vm->bus().bells() == nullptr) return;
  // The kernel took them: only what was posted left the guest.
  const json::Value told{machine.vm->statistics()};
  const json::Value& vcpu = told.find("vcpus")->array()->front();
  EXPECT_EQ(vcpu.find("mmioAccesses")->integer().value_or(0), kTurns);
}

CONFORMANCE(pauses_and_moves_lose_no_doorbell) {
  DoorbellMachine machine{accelerator};
  constexpr std::uint64_t kTurns = 3000, kScratch = kData + 0x100;
  machine.set_turns(kTurns, kBar, kScratch);
  for (int i = 0; i < 40 && !machine.done(); ++i) {
    machine.run(20);
    // Where a BAR was when a bell in it rang does not matter to the bell.
    const std::uint64_t to = i % 2 == 0 ? kMovedBar : kBar;
    EXPECT_EQ(machine.vm->bus().map().move(machine.range->id, to), "");
    CpuState s = *machine.vm->cpu(0);
    s.gpr[3] = to;
    EXPECT(machine.vm->set_cpu(0, s));
    machine.serve();
    // The last count may not have been rung yet.
    EXPECT(machine.at_last_bell + 1 >= machine.counted());
  }
  machine.run();
  machine.serve();
  EXPECT_EQ(machine.at_last_bell, kTurns);
  EXPECT_EQ(machine.range->counts.doorbell.load(), kTurns);
}

CONFORMANCE(a_doorbell_that_is_not_decoded_rings_nothing) {
  DoorbellMachine machine{accelerator};
  BusMap& map = machine.vm->bus().map();
  const auto ring = [&machine](std::uint64_t at) {
    machine.set_turns(3, at, kData + 0x100);
    machine.run();
    machine.serve();
    return machine.range->counts.doorbell.load();
  };
  EXPECT_EQ(ring(kBar), 3u);
  EXPECT_EQ(map.enable(machine.range->id, false), "");
  EXPECT_EQ(ring(kBar), 3u);
  EXPECT_EQ(map.move(machine.range->id, kMovedBar), "");
  EXPECT_EQ(map.enable(machine.range->id, true), "");
  EXPECT_EQ(ring(kBar), 3u);
  EXPECT_EQ(ring(kMovedBar), 6u);
  EXPECT_EQ(map.remove(machine.range->id), "");
  EXPECT_EQ(ring(kMovedBar), 6u);
}

CONFORMANCE(a_paused_vm_resumes_on_any_other) {
  for (const Accelerator* other : usable()) {
    if (!together(accelerator, *other)) continue;
    Machines from{accelerator, 1}, to{*other, 1};
    from.start(k_spin_sum);
    constexpr std::uint64_t kTurns = 20'000;
    CpuState s = *from.vm->cpu(0);
    s.gpr[8] = kTurns;
    EXPECT(from.vm->set_cpu(0, s));
    EXPECT(from.vm->run());
    std::this_thread::sleep_for(std::chrono::microseconds{50});
    from.park();
    const json::Value saved{from.vm->save()};
    std::memcpy(to.vm->memory().host(Gpa{0}), from.vm->memory().host(Gpa{0}), 4u << 20);
    to.vm->memory().written(Gpa{0}, 4u << 20);
    EXPECT_EQ(to.vm->restore(saved), "");
    std::uint64_t expected = 0;
    for (std::uint64_t i = kTurns; i != 0; --i) expected = expected * 31 + i;
    EXPECT(to.run_to_halt());
    EXPECT_EQ(to.reg(0), expected);
  }
}

namespace {

// Paused in the middle of k_spin_sum.
json::Value pause_in_sum(Machines& machine, std::uint64_t turns) {
  machine.start(k_spin_sum);
  CpuState s = *machine.vm->cpu(0);
  s.gpr[8] = turns;
  EXPECT(machine.vm->set_cpu(0, s));
  EXPECT(machine.vm->run());
  std::this_thread::sleep_for(std::chrono::microseconds{50});
  machine.park();
  return json::Value{machine.vm->save()};
}

}  // namespace

// A guest goes on only with the CPU that it has seen; which that was is in its state.
CONFORMANCE(a_state_of_the_hosts_cpu_is_refused_where_the_cpu_is_another) {
  const Accelerator* const with_host_cpu = accelerator.with_host_cpu();
  if (with_host_cpu == nullptr) return;
  Machines from{*with_host_cpu, 1}, same{*with_host_cpu, 1}, stable{accelerator, 1};
  const json::Value saved = pause_in_sum(from, 20'000);
  REQUIRE(saved.find("cpuid") != nullptr);
  EXPECT_EQ(stable.vm->restore(saved),
            "cpuid: the state ran with its host's CPU, and this machine has the stable model");
  EXPECT_EQ(same.vm->restore(json::Value{stable.vm->save()}),
            "cpuid: the state ran with the stable model, and this machine has its host's CPU");

  std::string other = saved.print();
  const std::string field = "\"leaf\":1,";
  const auto leaf = other.find(field);
  REQUIRE(leaf != std::string::npos);
  other.replace(leaf, field.size(), "\"leaf\":99,");
  EXPECT_EQ(same.vm->restore(*json::parse(other)), "cpuid: leaf 0x63 is none of this host's");
  EXPECT_EQ(same.vm->cpu(0)->rip, 0xfff0u);

  std::memcpy(same.vm->memory().host(Gpa{0}), from.vm->memory().host(Gpa{0}), 4u << 20);
  EXPECT_EQ(same.vm->restore(saved), "");
  EXPECT(same.run_to_halt());
  std::uint64_t expected = 0;
  for (std::uint64_t i = 20'000; i != 0; --i) expected = expected * 31 + i;
  EXPECT_EQ(same.reg(0), expected);
}

namespace {

// A guest of k_kvm_clock's on the accelerator with the host's CPU.
struct ClockMachine : Machines {
  explicit ClockMachine(const Accelerator& with_host_cpu) : Machines{with_host_cpu, 1} {
    std::vector<std::uint8_t> code{std::begin(k_kvm_clock), std::end(k_kvm_clock)};
    code.insert(code.end(), std::begin(k_kvm_clock_read), std::end(k_kvm_clock_read));
    start(code);
  }
  // In nanoseconds, as the guest read it last.
  std::uint64_t time() { return get(kData + 8); }
};

std::uint64_t nanoseconds_since(std::chrono::steady_clock::time_point then) {
  return static_cast<std::uint64_t>(
      std::chrono::nanoseconds{std::chrono::steady_clock::now() - then}.count());
}

// The machine with KVM's clock, or nullptr where this accelerator or this KVM has none.
const Accelerator* with_kvm_clock(const Accelerator& accelerator) {
  const Accelerator* const with_host_cpu = accelerator.with_host_cpu();
  if (with_host_cpu == nullptr) return nullptr;
  std::string error;
  const auto memory = GuestMemory::create(1u << 20, error);
  const auto machine = with_host_cpu->create_machine(*memory);
  if (machine->clock() != nullptr) return with_host_cpu;
  std::printf("skipped on %s: this KVM has no clock for guests\n",
              std::string{accelerator.name()}.c_str());
  return nullptr;
}

}  // namespace

// What it says between two readings is what the counter says; it stands while the VM is paused.
CONFORMANCE(kvms_clock_counts_as_the_counter_and_stands_while_paused) {
  const Accelerator* const with_clock = with_kvm_clock(accelerator);
  if (with_clock == nullptr) return;
  ClockMachine machine{*with_clock};
  const auto began = std::chrono::steady_clock::now();
  REQUIRE(machine.run_until_counted());
  const auto ticks = static_cast<double>(machine.get(kData + 0x50) - machine.get(kData + 0x40));
  const auto passed = static_cast<double>(machine.get(kData + 0x58) - machine.get(kData + 0x48));
  // The page's own factor, 2^32 / (multiplier * 2^shift), is what the kernel takes the rate to be.
  const double factor = std::ldexp(machine.get<std::uint32_t>(kData + 0x1018) / 4294967296.0,
                                   machine.get<std::int8_t>(kData + 0x101c));
  EXPECT(passed > 0 && std::fabs(ticks * factor / passed - 1) < 0.01);
  EXPECT(factor > 0.1 && factor < 2);  // nanoseconds a tick: 500 MHz to 10 GHz

  const std::uint64_t before = machine.time();
  std::this_thread::sleep_for(std::chrono::seconds{1});
  EXPECT(machine.run_until_counted());
  EXPECT(machine.time() > before);
  EXPECT(machine.time() < nanoseconds_since(began) - 990'000'000);
}

CONFORMANCE(kvms_wall_clock_is_the_hosts) {
  const Accelerator* const with_clock = with_kvm_clock(accelerator);
  if (with_clock == nullptr) return;
  ClockMachine machine{*with_clock};
  const std::time_t before = std::time(nullptr);
  REQUIRE(machine.run_until_counted());
  const std::time_t after = std::time(nullptr);
  EXPECT_EQ(machine.get<std::uint32_t>(kData + 0x1100) & 1, 0u);
  const auto seconds = std::time_t{machine.get<std::uint32_t>(kData + 0x1104)};  // at time 0
  EXPECT(seconds >= before - 1 && seconds <= after);
  EXPECT(machine.get<std::uint32_t>(kData + 0x1108) < 1'000'000'000u);
}

// Its time and the guest's pages go along, and on from there; only to where there is such a clock.
CONFORMANCE(kvms_clock_goes_on_from_a_saved_state) {
  const Accelerator* const with_clock = with_kvm_clock(accelerator);
  if (with_clock == nullptr) return;
  ClockMachine from{*with_clock};
  REQUIRE(from.run_until_counted());
  json::Object saved = from.vm->save();
  const std::uint64_t stood =
      saved["kvmClock"].find("state")->find("nanoseconds")->integer().value_or(0);
  // It ran a little on after the guest's last look; the kernel and the page agree to less than this.
  EXPECT(stood + 1'000'000 >= from.time());
  const auto then = std::chrono::steady_clock::now();
  EXPECT_EQ(from.vm->cpu(0)->kvm_system_time, kData + 0x1001);

  Machines to{*with_clock, 1}, stable{accelerator, 1};
  std::memcpy(to.vm->memory().host(Gpa{0}), from.vm->memory().host(Gpa{0}), 4u << 20);
  EXPECT_EQ(to.vm->restore(json::Value{saved}), "");
  std::this_thread::sleep_for(std::chrono::milliseconds{300});
  EXPECT(to.run_until_counted());
  EXPECT(to.get(kData + 8) > stood);
  EXPECT(to.get(kData + 8) < stood + nanoseconds_since(then) - 290'000'000);

  json::Object without = saved;
  without.erase("kvmClock");
  EXPECT_EQ(to.vm->restore(json::Value{without}), "kvmClock: the component is missing");
  without.erase("cpuid");
  EXPECT(stable.vm->restore(json::Value{without}).starts_with("cpu0: kvmSystemTime: "));
  EXPECT_EQ(stable.vm->cpu(0)->rip, 0xfff0u);
}

CONFORMANCE(kvms_clock_is_gone_after_a_reset) {
  const Accelerator* const with_clock = with_kvm_clock(accelerator);
  if (with_clock == nullptr) return;
  ClockMachine machine{*with_clock};
  REQUIRE(machine.run_until_counted());
  EXPECT(machine.vm->reset());
  EXPECT_EQ(machine.vm->cpu(0)->kvm_system_time, 0u);
  machine.start(k_spin_sum);
  std::memset(machine.vm->memory().host(Gpa{kData + 0x1000}), 0x5a, 32);
  CpuState s = *machine.vm->cpu(0);
  s.gpr[8] = 1000;
  EXPECT(machine.vm->set_cpu(0, s));
  EXPECT(machine.run_to_halt());
  for (unsigned i = 0; i < 32; ++i) EXPECT_EQ(machine.get<std::uint8_t>(kData + 0x1000 + i), 0x5a);
}

namespace {

constexpr std::uint64_t kBefore = kData + 0x1000, kAfter = kData + 0x2000;

// What k_everything loads beside itself: descriptors of a stack, a TSS and an LDT, and a second
// handler.
void prepare_everything(Machines& machine) {
  std::vector<std::uint8_t> code{std::begin(k_everything), std::end(k_everything)};
  code.insert(code.end(), std::begin(k_everything_gdt), std::end(k_everything_gdt));
  code.insert(code.end(), std::begin(k_everything_dump), std::end(k_everything_dump));
  machine.start(code);
  machine.put64(kGdt + 0x10, 0x00cf'9300'0000'ffff);
  machine.put64(kGdt + 0x18, 0x0000'8900'b000'0067);
  machine.put64(kGdt + 0x28, 0x0000'8200'd000'00ff);
  machine.put64(kIdt + 16 * 0x41, kHandler | std::uint64_t{8} << 16 | 0x8e00ull << 32);
}

void move_memory(Machines& from, Machines& to) {
  constexpr std::uint64_t kSize = 4u << 20;
  std::memcpy(to.vm->memory().host(Gpa{0}), from.vm->memory().host(Gpa{0}), kSize);
  to.vm->memory().written(Gpa{0}, kSize);
}

}  // namespace

// Paused with all that a CPU holds, an interrupt pending and a timer running: nothing of it is
// another after the move, as the guest itself sees it, and both interrupts come.
CONFORMANCE(a_paused_vm_takes_everything_along) {
  for (const Accelerator* other : usable()) {
    if (!together(accelerator, *other)) continue;
    Machines from{accelerator, 1}, to{*other, 1};
    prepare_everything(from);
    REQUIRE(from.run_until_counted());
    const json::Value saved{from.vm->save()};
    move_memory(from, to);
    EXPECT_EQ(to.vm->restore(saved), "");
    to.put64(kData + 0x10, 1);
    EXPECT(to.run_to_halt());
    EXPECT_EQ(to.get(kData + 8), 2u);
    const std::uint8_t* const before = to.vm->memory().host(Gpa{kBefore});
    const std::uint8_t* const after = to.vm->memory().host(Gpa{kAfter});
    for (unsigned at = 0; at < 0x600; ++at)
      if (before[at] != after[at]) {
        std::fprintf(stderr, "byte 0x%x of what it wrote down: 0x%02x, then 0x%02x\n", at,
                     before[at], after[at]);
        EXPECT(!"the state is whole");
        break;
      }
    EXPECT_EQ(to.get(kBefore + 16), 0x1234'5678u);  // CR2: it did write
  }
}

// Halted between the ticks of the local APIC's timer: they go on where it goes on.
CONFORMANCE(a_halted_vm_takes_its_timer_along) {
  for (const Accelerator* other : usable()) {
    if (!together(accelerator, *other)) continue;
    Machines from{accelerator, 1}, to{*other, 1};
    from.start(kWait);
    Lapic& lapic = from.vm->board().fabric.lapic(0);
    lapic.write(0xf0, 4, 0x1ff);
    lapic.write(0x3e0, 4, 0xb);
    lapic.write(0x320, 4, 0x2'0040);  // periodic
    lapic.write(0x380, 4, 50'000);    // 2 ms
    EXPECT(from.vm->run());
    EXPECT(from.await(kData + 8, 3));
    from.park();
    const json::Value saved{from.vm->save()};
    move_memory(from, to);
    EXPECT_EQ(to.vm->restore(saved), "");
    const LapicState before = from.vm->board().fabric.lapic(0).state();
    EXPECT_EQ(to.vm->board().fabric.lapic(0).read(0x380, 4), 50'000u);
    EXPECT_EQ(before.lvt[kLvtTimer], 0x2'0040u);
    const std::uint64_t counted = to.get(kData + 8);
    EXPECT(to.vm->run());
    EXPECT(to.await(kData + 8, counted + 3));
    to.park();
  }
}

// One vCPU started and halted with its APIC in x2APIC mode, the other about to wake it from xAPIC.
CONFORMANCE(two_vcpus_move_with_what_is_between_them) {
  for (const Accelerator* other : usable()) {
    if (!together(accelerator, *other)) continue;
    Machines from{accelerator, 2}, to{*other, 2};
    from.put(kSecond, k_second);
    from.put(kSecondHandler, k_second_handler);
    from.start(k_start_second);
    EXPECT(from.run_until([&] { return from.get<std::uint16_t>(kData) == 0x600du; }));
    const json::Value saved{from.vm->save()};
    move_memory(from, to);
    EXPECT_EQ(to.vm->restore(saved), "");
    EXPECT(to.run_until([&] { return to.halted(0) && to.halted(1); }));
    EXPECT_EQ(to.get<std::uint16_t>(kData + 4), 1u);
  }
}

// What a host cannot run it refuses before anything has changed; what it does not refuse, it runs.
CONFORMANCE(a_state_is_refused_by_the_name_of_its_field_or_runs) {
  constexpr struct {
    std::uint64_t bit;
    const char* flag;
  } kFlags[] = {{1u << 7, "PGE"},   {1u << 11, "UMIP"},  {1u << 16, "FSGSBASE"},
                {1u << 17, "PCIDE"}, {1u << 20, "SMEP"}, {1u << 21, "SMAP"}};
  for (const auto& [bit, flag] : kFlags) {
    const Accelerator& soft = *usable().front();
    Machines from{soft, 1}, to{accelerator, 1};
    from.start(k_spin_sum);
    CpuState s = *from.vm->cpu(0);
    s.gpr[8] = 1000;
    s.cr4 |= bit;
    EXPECT(from.vm->set_cpu(0, s));
    const json::Value saved{from.vm->save()};
    move_memory(from, to);
    const std::string refused = to.vm->restore(saved);
    if (refused.empty()) {
      EXPECT(to.run_to_halt());
      EXPECT_EQ(to.vm->cpu(0)->cr4 & bit, bit);
      continue;
    }
    EXPECT(!in_software(accelerator));
    EXPECT(refused.starts_with("cpu0: cr4: " + std::string{flag} + " (bit "));
    EXPECT_EQ(to.vm->cpu(0)->rip, 0xfff0u);
  }
}

TEST_MAIN()

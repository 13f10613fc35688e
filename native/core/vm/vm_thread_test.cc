// The VM around scripted vCPUs: lifecycle, halting, parking, INIT and SIPI, state as a whole.
#include "vm/vm.h"

#include <chrono>
#include <thread>

#include "accel/scripted_vcpu.h"
#include "base/state.h"
#include "base/test.h"
#include "vm/test_owner.h"

using namespace hv;

namespace {

constexpr std::uint64_t kMiB = 1 << 20;

struct Rig {
  explicit Rig(std::vector<Script> scripts, VcpuIndex cpus = 1, bool strict = false)
      : accelerator{std::move(scripts)} {
    VmConfig config;
    config.cpus = cpus;
    config.memory = 4 * kMiB;
    config.strict_io = strict;
    std::string error;
    vm = Vm::create(config, accelerator, owner, error);
    EXPECT_EQ(error, "");
  }
  void park() {
    vm->park();
    owner.await(VmEvent::kParked);
  }

  ScriptedAccelerator accelerator;
  TestOwner owner;
  std::unique_ptr<Vm> vm;
};

ScriptStep halt_open() {
  return [](Platform&, VcpuIndex) { return std::optional{Exit::kHalted}; };
}
ScriptStep spin() {
  // A loop of one instruction, long enough for any test.
  return [](Platform& platform, VcpuIndex vcpu) -> std::optional<Exit> {
    platform.spin_hint(vcpu);
    return std::nullopt;
  };
}
Script forever(const ScriptStep& step) { return Script(2'000'000, step); }

}  // namespace

TEST(refuses_what_no_vm_can_be) {
  const ScriptedAccelerator accelerator{{}};
  TestOwner owner;
  for (const VcpuIndex cpus : {0u, 65u}) {
    VmConfig config;
    config.cpus = cpus;
    config.memory = kMiB;
    std::string error;
    EXPECT(Vm::create(config, accelerator, owner, error) == nullptr);
    EXPECT(!error.empty());
  }
  VmConfig config;
  config.memory = 1ull << 60;
  std::string error;
  EXPECT(Vm::create(config, accelerator, owner, error) == nullptr);
  EXPECT(!error.empty());
}

TEST(a_vm_that_never_ran_ends) { Rig rig{{}, 3}; }

TEST(all_vcpus_halted_with_interrupts_off_is_told) {
  Rig rig{{{}}, 2};  // vCPU 1 waits for its SIPI
  EXPECT(rig.vm->run());
  EXPECT(!rig.vm->run());
  rig.owner.await(VmEvent::kHalted);
  rig.vm->nmi();  // wakes it, and it halts again
  rig.owner.await(VmEvent::kHalted);
}

TEST(parks_running_and_halted_vcpus_and_stops_the_clock) {
  static std::atomic<int> turns;
  turns = 0;
  const ScriptStep turn = [](Platform& platform, VcpuIndex vcpu) -> std::optional<Exit> {
    ++turns;
    platform.spin_hint(vcpu);
    return std::nullopt;
  };
  Rig rig{{forever(turn), {}}, 2};
  EXPECT_EQ(rig.vm->board().clock.now(), 0u);
  for (int i = 0; i < 20; ++i) {
    const int before = turns;
    EXPECT(rig.vm->run());
    EXPECT(rig.vm->cpu(0) == nullptr);
    while (i % 2 == 0 && turns == before) std::this_thread::yield();  // else parked at once
    rig.park();
    const GuestNs now = rig.vm->board().clock.now();
    EXPECT_EQ(rig.vm->board().clock.now(), now);
    REQUIRE(rig.vm->cpu(0) != nullptr);
    EXPECT(rig.vm->cpu(1)->activity == Activity::kWaitForSipi);
  }
  EXPECT(rig.vm->cpu(0)->instructions > 0);
}

TEST(a_triple_fault_is_told_and_parks_the_vm) {
  Rig rig{{{[](Platform&, VcpuIndex) { return std::optional{Exit::kTripleFault}; }}}};
  EXPECT(rig.vm->run());
  EXPECT_EQ(rig.owner.await(VmEvent::kTripleFault).value().number, 0u);
  rig.owner.await(VmEvent::kParked);
  EXPECT(rig.vm->cpu(0)->activity == Activity::kShutdown);
  // Goes on nowhere until it is reset.
  EXPECT(rig.vm->run());
  rig.park();
  EXPECT(rig.vm->cpu(0)->activity == Activity::kShutdown);
  EXPECT(rig.vm->reset());
  EXPECT(rig.vm->cpu(0)->activity == Activity::kRunning);
}

TEST(strict_io_ends_at_what_nothing_decodes) {
  Rig rig{{{[](Platform& platform, VcpuIndex vcpu) -> std::optional<Exit> {
            EXPECT_EQ(platform.in(vcpu, 0x1234, 2), 0xffffu);
            return std::nullopt;
          }}},
          1, true};
  EXPECT(rig.vm->run());
  EXPECT_EQ(rig.owner.await(VmEvent::kUnhandledIo).value().text,
            "read of 2 bytes at port 0x1234 by vCPU 0");
  rig.owner.await(VmEvent::kParked);
}

TEST(init_and_sipi_start_an_application_processor) {
  // SDM Vol. 3, "Interrupt Command Register (ICR)": INIT 0x4500, start-up 0x4600 + vector, to all
  // but self (bits 19:18 = 3).
  const auto send = [](std::uint32_t icr) -> ScriptStep {
    return [icr](Platform& platform, VcpuIndex vcpu) -> std::optional<Exit> {
      platform.write(vcpu, Gpa{0xfee00300}, 4, icr);
      return std::nullopt;
    };
  };
  Rig rig{{{send(0xc4500), send(0xc4692), send(0xc4692)}}, 2};
  EXPECT(rig.vm->run());
  rig.owner.await(VmEvent::kHalted);
  rig.park();
  const CpuState& ap = *rig.vm->cpu(1);
  EXPECT(ap.activity == Activity::kHalted);  // ran its empty script
  EXPECT_EQ(ap.segments[kCs].base, 0x92000u);
  EXPECT_EQ(ap.segments[kCs].selector, 0x9200u);
}

TEST(an_interrupt_wakes_a_halted_vcpu) {
  // The local APIC's timer, one-shot at vector 0x40; HLT with interrupts on; then the vector.
  static std::atomic<int> vector;
  vector = -1;
  const auto reg = [](std::uint64_t at, std::uint32_t value) -> ScriptStep {
    return [at, value](Platform& platform, VcpuIndex vcpu) -> std::optional<Exit> {
      platform.write(vcpu, Gpa{0xfee00000 + at}, 4, value);
      return std::nullopt;
    };
  };
  const ScriptStep take = [](Platform& platform, VcpuIndex vcpu) -> std::optional<Exit> {
    vector = platform.acknowledge_interrupt(vcpu).value_or(0xff);
    return std::nullopt;
  };
  Rig rig{{{reg(0xf0, 0x1ff), reg(0x320, 0x40), reg(0x3e0, 0xb), reg(0x380, 100'000), halt_open(),
            take}}};
  CpuState state = *rig.vm->cpu(0);
  state.rflags = 0x202;
  EXPECT(rig.vm->set_cpu(0, state));
  EXPECT(rig.vm->run());
  rig.owner.await(VmEvent::kHalted);  // the end of the script
  EXPECT_EQ(vector.load(), 0x40);
}

TEST(state_goes_out_and_in_whole_or_not_at_all) {
  Rig rig{{forever(spin())}, 2};
  EXPECT(rig.vm->run());
  rig.park();
  CpuState state = *rig.vm->cpu(0);
  state.gpr[3] = 0xfedcba9876543210;
  EXPECT(rig.vm->set_cpu(0, state));
  const std::string saved = json::Value{rig.vm->save()}.print();

  Rig other{{forever(spin())}, 2};
  const auto parsed = json::parse(saved);
  REQUIRE(parsed.has_value());
  EXPECT_EQ(other.vm->restore(*parsed), "");
  EXPECT_EQ(json::Value{other.vm->save()}.print(), saved);
  EXPECT_EQ(other.vm->cpu(0)->gpr[3], 0xfedcba9876543210);

  const std::string before = json::Value{other.vm->save()}.print();
  for (const char* broken : {"cpu1", "lapic0", "clock", "a20", "signals1"}) {
    json::Object fewer = *parsed->object();
    fewer.erase(broken);
    EXPECT(other.vm->restore(json::Value{fewer}).find(broken) != std::string::npos);
    fewer[broken] = *json::parse("{\"version\":1,\"state\":{}}");
    EXPECT(other.vm->restore(json::Value{fewer}).find(broken) != std::string::npos);
    fewer[broken] = *json::parse("{\"version\":77,\"state\":{}}");
    EXPECT(other.vm->restore(json::Value{fewer}).find(broken) != std::string::npos);
  }
  json::Object more = *parsed->object();
  more["cpu2"] = more["cpu1"];
  EXPECT(other.vm->restore(json::Value{more}).find("cpu2") != std::string::npos);
  EXPECT_EQ(json::Value{other.vm->save()}.print(), before);
  EXPECT(other.vm->run());
}

TEST(the_a20_gate_masks_bit_20) {
  static std::atomic<std::uint64_t> seen;
  Rig rig{{{[](Platform& platform, VcpuIndex) -> std::optional<Exit> {
    seen = platform.a20_mask();
    return std::nullopt;
  }}}};
  rig.vm->set_a20(false);
  EXPECT(rig.vm->run());
  rig.owner.await(VmEvent::kHalted);
  EXPECT_EQ(seen.load(), ~0x100000ull);
  rig.park();
  EXPECT(rig.vm->reset());
  EXPECT(rig.vm->run());
  rig.owner.await(VmEvent::kHalted);
}

TEST(stops_while_a_vcpu_waits_for_javascript) {
  Rig rig{{{[](Platform& platform, VcpuIndex vcpu) -> std::optional<Exit> {
    EXPECT_EQ(platform.in(vcpu, 0x80, 1), 0xffu);
    return std::nullopt;
  }}}};
  RangeSpec spec;
  spec.name = "slow";
  spec.base = 0x80;
  spec.length = 1;
  Range* range = nullptr;
  EXPECT_EQ(rig.vm->bus().map().add(std::move(spec), range), "");
  EXPECT(rig.vm->run());
  while (!rig.vm->bus().channel().ready()) std::this_thread::yield();
  rig.vm->stop();
  rig.owner.await(VmEvent::kExited);
}

TEST_MAIN()

// What an exit costs that native code answers: a guest that reads a port in a loop, on each
// accelerator, beside a bare KVM_RUN loop over the same guest that answers nothing.
//
//   make -C native/test exits
#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>

#include "accel/conformance_rig.h"
#include "cpu_time.h"

using namespace hv;
using namespace hv::conformance;

namespace {

constexpr std::uint32_t kTurns = 4000;
constexpr int kRounds = 15;
// 1: in eax, dx; dec ecx; jnz 1b; hlt
constexpr std::uint8_t kWithExit[] = {0xed, 0xff, 0xc9, 0x75, 0xfb, 0xf4};
// The same without: 1: nop; dec ecx; jnz 1b; hlt
constexpr std::uint8_t kWithout[] = {0x90, 0xff, 0xc9, 0x75, 0xfb, 0xf4};

class QuietPlatform final : public RecordingPlatform {
 public:
  std::uint32_t in(VcpuIndex, std::uint16_t, unsigned) override { return 0; }
};

double nanoseconds_a_turn(const std::function<void()>& loop) {
  const double before = cpu_nanoseconds();
  loop();
  return (cpu_nanoseconds() - before) / kTurns;
}

// A vCPU at the loop, on an accelerator.
class OnAccelerator {
 public:
  explicit OnAccelerator(const Accelerator& accelerator) : rig_{accelerator} {
    machine_ = accelerator.create_machine(*rig_.memory);
    vcpu_ = machine_->create_vcpu({0, 1, platform_, signals_, list_});
  }
  double time(std::span<const std::uint8_t> code) {
    rig_.load(code);
    CpuState s = rig_.state();
    s.gpr[1] = kTurns;
    s.rip = Rig::kCode;
    s.activity = Activity::kRunning;
    vcpu_->set_state(s);
    return nanoseconds_a_turn([this] { (void)vcpu_->run(); });
  }

 private:
  Rig rig_;
  QuietPlatform platform_;
  VcpuSignals signals_;
  VcpuSignals* list_[1] = {&signals_};
  std::unique_ptr<Machine> machine_;
  std::unique_ptr<Vcpu> vcpu_;
};

struct Best {
  double with = 1e18, without = 1e18;
  double exit() const { return with - without; }
};

}  // namespace

// exits_bare.cc: the same loop under KVM_RUN and nothing else; 0 where there is no /dev/kvm.
double time_bare_exit(std::span<const std::uint8_t> code, std::uint32_t turns);

int main() {
  double kvm = 0;
  Best bare;
  for (const Accelerator* accelerator : usable()) {
    const std::string name{accelerator->name()};
    OnAccelerator machine{*accelerator};
    Best best;
    // In turns with the bare loop, so that both meet the same host.
    for (int round = 0; round < kRounds; ++round) {
      best.with = std::min(best.with, machine.time(kWithExit));
      best.without = std::min(best.without, machine.time(kWithout));
      if (name != "kvm") continue;
      bare.with = std::min(bare.with, time_bare_exit(kWithExit, kTurns));
      bare.without = std::min(bare.without, time_bare_exit(kWithout, kTurns));
    }
    std::printf("native exit on %s: %.0f ns\n", name.c_str(), best.exit());
    if (name == "kvm") kvm = best.exit();
  }
  if (kvm == 0) return 0;
  std::printf("bare KVM_RUN loop: %.0f ns; kvm takes %.2f times as long\n", bare.exit(),
              kvm / bare.exit());
  return 0;
}

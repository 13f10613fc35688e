// A vCPU for tests that runs a list of steps instead of guest code: what it meets outside itself,
// the signals, and the exits are the real ones.
#pragma once
#include <functional>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "accel/accelerator.h"

namespace hv {

// One instruction: may access the platform as long as it likes. What it returns leaves run().
using ScriptStep = std::function<std::optional<Exit>(Platform&, VcpuIndex)>;
using Script = std::vector<ScriptStep>;

class ScriptedVcpu final : public Vcpu {
 public:
  ScriptedVcpu(const VcpuWiring& wiring, const Script& script)
      : wiring_{wiring}, script_{script} {}

  // After the last step it halts with interrupts off.
  Exit run() override {
    for (;;) {
      if (const auto exit = signalled()) return *exit;
      if (state_.activity == Activity::kHalted && !wakes()) return Exit::kHalted;
      state_.activity = Activity::kRunning;
      if (state_.instructions >= script_.size()) {
        state_.rflags = 2;
        state_.activity = Activity::kHalted;
        return Exit::kHalted;
      }
      const ScriptStep& step = script_[static_cast<std::size_t>(state_.instructions++)];
      if (const auto exit = step(wiring_.platform, wiring_.index)) {
        if (*exit == Exit::kHalted) state_.activity = Activity::kHalted;
        return *exit;
      }
    }
  }
  CpuState state() const override { return state_; }
  // The next step is the number of instructions that have retired.
  void set_state(const CpuState& state) override { state_ = state; }
  VcpuCounters counters() const override { return {}; }

 private:
  std::optional<Exit> signalled() {
    VcpuSignals& signals = wiring_.signals;
    signals.clear(Signal::kFlushTlb);
    signals.clear(Signal::kProtectCode);
    if (signals.has(Signal::kInit)) return Exit::kInit;
    if (!signals.has(Signal::kExit)) return std::nullopt;
    signals.clear(Signal::kExit);
    return Exit::kKicked;
  }
  bool wakes() const {
    const bool open = (state_.rflags & 0x200) != 0;
    if (wiring_.signals.has(Signal::kNmi)) {
      wiring_.signals.clear(Signal::kNmi);
      return true;
    }
    return open && wiring_.signals.has(Signal::kInterrupt);
  }

  const VcpuWiring wiring_;
  const Script& script_;
  CpuState state_;
};

class ScriptedAccelerator final : public Accelerator {
 public:
  // One script for each vCPU; a vCPU past the end of the list has an empty one.
  explicit ScriptedAccelerator(std::vector<Script> scripts) : scripts_{std::move(scripts)} {}

  std::string_view name() const override { return "scripted"; }
  std::optional<std::string> unavailable() const override { return std::nullopt; }
  std::unique_ptr<Machine> create_machine(GuestMemory& memory) const override {
    return std::make_unique<ScriptedMachine>(memory, scripts_);
  }

 private:
  class ScriptedMachine final : public Machine {
   public:
    ScriptedMachine(GuestMemory& memory, const std::vector<Script>& scripts)
        : Machine{memory}, scripts_{scripts} {}
    std::unique_ptr<Vcpu> create_vcpu(const VcpuWiring& wiring) override {
      static const Script kNothing;
      const bool listed = wiring.index < scripts_.size();
      return std::make_unique<ScriptedVcpu>(wiring, listed ? scripts_[wiring.index] : kNothing);
    }

   private:
    const std::vector<Script>& scripts_;
  };

  const std::vector<Script> scripts_;
};

}  // namespace hv

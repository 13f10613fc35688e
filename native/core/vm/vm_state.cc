// The VM's state as a whole: every component by name, out and in.
#include "base/state.h"
#include "vm/vm.h"

namespace hv {
namespace {

// What lies between a vCPU and those who signal it.
struct SignalState {
  static constexpr std::string_view kName = "signals";
  static constexpr std::uint32_t kVersion = 1;
  bool nmi = false, init = false, sipi = false;
  std::uint8_t sipi_vector = 0;
  template <class Visit>
  void fields(Visit&& visit) {
    visit("nmi", nmi);
    visit("init", init);
    visit("sipi", sipi);
    visit("sipiVector", sipi_vector);
  }
};

struct GateState {
  static constexpr std::string_view kName = "a20";
  static constexpr std::uint32_t kVersion = 1;
  bool open = true;
  template <class Visit>
  void fields(Visit&& visit) {
    visit("open", open);
  }
};

// Only where the guest sees the host's CPU: the policy's is the same everywhere.
struct CpuidState {
  static constexpr std::string_view kName = "cpuid";
  static constexpr std::uint32_t kVersion = 1;
  std::vector<CpuidLeaf> leaves;
  template <class Visit>
  void fields(Visit&& visit) {
    visit("leaves", leaves);
  }
};

struct ClockState {
  static constexpr std::string_view kName = "kvmClock";
  static constexpr std::uint32_t kVersion = 1;
  std::uint64_t nanoseconds = 0;
  template <class Visit>
  void fields(Visit&& visit) {
    visit("nanoseconds", nanoseconds);
  }
};

SignalState signal_state(const VcpuSignals& signals) {
  return {signals.has(Signal::kNmi), signals.has(Signal::kInit), signals.has(Signal::kSipi),
          signals.sipi_vector.load(std::memory_order_acquire)};
}

void set_signal_state(VcpuSignals& signals, const SignalState& state) {
  const auto set = [&signals](Signal signal, bool on) {
    if (on)
      signals.raise(signal);
    else
      signals.clear(signal);
  };
  signals.sipi_vector.store(state.sipi_vector, std::memory_order_release);
  set(Signal::kNmi, state.nmi);
  set(Signal::kInit, state.init);
  set(Signal::kSipi, state.sipi);
}

std::string numbered(const char* name, VcpuIndex index) { return name + std::to_string(index); }

template <class State>
std::string read_component(const json::Value& components, const std::string& name, State& state) {
  const json::Value* const saved = components.find(name);
  if (saved == nullptr) return name + ": the component is missing";
  const std::string wrong = state::restore(*saved, state);
  return wrong.empty() ? wrong : name + ": " + wrong;
}

}  // namespace

// What another accelerator saved may be more than this host can run.
std::string Vm::refused(VcpuIndex vcpu, const CpuState& state) const {
  std::string why = machine_->refused_state(state);
  if (why.empty() && state.kvm_system_time != 0 && machine_->clock() == nullptr)
    why = "kvmSystemTime: the guest reads KVM's clock, and this machine has none";
  return why.empty() ? why : numbered("cpu", vcpu) + ": " + why;
}

// A guest goes on only with the CPU that it has seen: what it found there once it does not ask again.
std::string Vm::refused_cpuid(const json::Value& components) const {
  const std::vector<CpuidLeaf> here = machine_->own_cpuid(config_.cpus);
  const bool saved = components.find("cpuid") != nullptr;
  if (saved && here.empty())
    return "cpuid: the state ran with its host's CPU, and this machine has the stable model";
  if (!saved && !here.empty())
    return "cpuid: the state ran with the stable model, and this machine has its host's CPU";
  if (!saved) return {};
  CpuidState state;
  const std::string wrong = read_component(components, "cpuid", state);
  if (!wrong.empty()) return wrong;
  const std::string difference = cpuid_difference(state.leaves, here);
  return difference.empty() ? difference : "cpuid: " + difference;
}

json::Object Vm::save() {
  json::Object out;
  if (!parked()) return out;
  board_->timers.settle();
  board_->save(out);
  out["a20"] = state::save(GateState{a20_.load(std::memory_order_relaxed) == ~0ull});
  CpuidState cpuid{machine_->own_cpuid(config_.cpus)};
  if (!cpuid.leaves.empty()) out["cpuid"] = state::save(std::move(cpuid));
  if (const ParavirtualClock* const clock = machine_->clock())
    out["kvmClock"] = state::save(ClockState{clock->now()});
  for (VcpuIndex i = 0; i < config_.cpus; ++i) {
    out[numbered("cpu", i)] = state::save(vcpus_[i].shown);
    out[numbered("signals", i)] = state::save(signal_state(vcpus_[i].signals));
  }
  return out;
}

std::string Vm::restore(const json::Value& components) {
  if (!parked()) return "state can be restored only while the VM is paused";
  if (components.object() == nullptr) return "the state is no object of components";
  std::string error = refused_cpuid(components);
  if (!error.empty()) return error;
  board_->timers.settle();
  const json::Object known = save();
  for (const auto& [name, value] : *components.object())
    if (!known.contains(name)) return name + ": this machine has no such component";

  GateState gate;
  std::vector<CpuState> cpus(config_.cpus);
  std::vector<SignalState> signals(config_.cpus);
  ClockState clock;
  error = read_component(components, "a20", gate);
  if (error.empty() && machine_->clock() != nullptr)
    error = read_component(components, "kvmClock", clock);
  for (VcpuIndex i = 0; i < config_.cpus && error.empty(); ++i) {
    error = read_component(components, numbered("cpu", i), cpus[i]);
    if (error.empty()) error = read_component(components, numbered("signals", i), signals[i]);
    if (error.empty()) error = refused(i, cpus[i]);
  }
  if (!error.empty()) return error;
  const std::function<void()> apply_board = board_->prepare(components, error);
  if (!error.empty()) return error;

  for (VcpuIndex i = 0; i < config_.cpus; ++i) {
    (void)set_cpu(i, cpus[i]);
    set_signal_state(vcpus_[i].signals, signals[i]);
  }
  if (machine_->clock() != nullptr) machine_->clock()->set(clock.nanoseconds);
  set_a20(gate.open);
  apply_board();
  return {};
}

json::Object Vm::statistics() {
  json::Array vcpus;
  if (stopped()) return {};
  for (const VcpuThread& vcpu : vcpus_) {
    const VcpuCounters c = vcpu.counters();
    json::Object row;
    row["instructions"] = json::Value{c.instructions};
    row["blocksDecoded"] = json::Value{c.blocks_decoded};
    row["blocksTranslated"] = json::Value{c.blocks_translated};
    row["codeBytes"] = json::Value{c.code_bytes};
    row["blockBytes"] = json::Value{c.block_bytes};
    row["tlbMisses"] = json::Value{c.tlb_misses};
    row["pageFaults"] = json::Value{c.page_faults};
    row["exceptions"] = json::Value{c.exceptions};
    row["interrupts"] = json::Value{c.interrupts};
    row["portAccesses"] = json::Value{c.port_accesses};
    row["mmioAccesses"] = json::Value{c.mmio_accesses};
    row["halts"] = json::Value{c.halts};
    vcpus.emplace_back(std::move(row));
  }
  json::Object out;
  out["vcpus"] = json::Value{std::move(vcpus)};
  out["bus"] = json::Value{bus_->statistics()};
  return out;
}

}  // namespace hv

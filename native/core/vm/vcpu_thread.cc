#include "vm/vcpu_thread.h"

#include <string>

#include "base/thread.h"

namespace hv {
namespace {

constexpr std::uint64_t kInterruptFlag = 1u << 9;  // RFLAGS.IF
constexpr std::uint32_t bit(Signal signal) { return static_cast<std::uint32_t>(signal); }

}  // namespace

void VcpuThread::start(Machine& machine, const VcpuWiring& wiring) {
  thread_ = std::thread{[this, &machine, wiring] { main(machine, wiring); }};
}

void VcpuThread::join() {
  if (thread_.joinable()) thread_.join();
}

void VcpuThread::main(Machine& machine, const VcpuWiring& wiring) {
  host::name_this_thread(("vcpu" + std::to_string(index_)).c_str());
  host::block_all_signals();
  vcpu_ = machine.create_vcpu(wiring);
  vcpu_->set_state(shown);
  while (park()) run();
  vcpu_.reset();  // Hypervisor.framework: a vCPU ends on its own thread
}

bool VcpuThread::park() {
  host_.set_dead(index_, 0);
  shown = vcpu_->state();
  if (activity_ != Activity::kRunning) shown.activity = activity_;
  changed = false;
  if (!host_.park(index_)) return false;
  if (changed) vcpu_->set_state(shown);
  activity_ = shown.activity;
  return true;
}

void VcpuThread::refresh() {
  shown = vcpu_->state();
  if (activity_ == Activity::kShutdown) shown.activity = activity_;
}

void VcpuThread::put_changes() {
  if (changed) vcpu_->set_state(shown);
  changed = false;
}

// A vCPU that waits in the kernel waits here only for what the kernel knows nothing of: a reset, and
// a start-up IPI that was saved as a signal.
bool VcpuThread::waits_here() const {
  if (!host_.halts_in_kernel()) return activity_ != Activity::kRunning;
  return activity_ == Activity::kShutdown ||
         (activity_ == Activity::kWaitForSipi && signals.has(Signal::kSipi));
}

void VcpuThread::run() {
  while (!host_.parking()) {
    if (!waits_here()) {
      activity_ = Activity::kRunning;
      leave(vcpu_->run());
      continue;
    }
    switch (activity_) {
      case Activity::kRunning:
        break;
      case Activity::kHalted:
        halt();
        break;
      case Activity::kWaitForSipi:
      case Activity::kShutdown:
        wait_for_sipi();
        break;
    }
  }
}

void VcpuThread::leave(Exit exit) {
  switch (exit) {
    case Exit::kKicked:
      // Whoever kicks says why first (parking), then raises: nothing is lost by clearing here.
      signals.clear(Signal::kExit);
      break;
    case Exit::kHalted:
      activity_ = Activity::kHalted;
      break;
    case Exit::kInit:
      init();
      break;
    case Exit::kTripleFault:
      activity_ = Activity::kShutdown;
      host_.triple_fault(index_);
      break;
  }
}

bool VcpuThread::sleep_until(std::uint32_t wanted, bool dead) {
  for (;;) {
    const std::uint32_t pending = signals.pending();
    if ((pending & wanted) != 0) break;
    if ((pending & bit(Signal::kExit)) != 0) {
      signals.clear(Signal::kExit);
      return false;
    }
    if (host_.parking()) return false;
    host_.set_dead(index_, dead ? wanted : 0);
    signals.sleep(pending);
  }
  host_.set_dead(index_, 0);
  return true;
}

void VcpuThread::halt() {
  const CpuState state = vcpu_->state();
  const bool open = (state.rflags & kInterruptFlag) != 0;
  std::uint32_t wanted = bit(Signal::kInit);
  if (!state.nmi_blocked) wanted |= bit(Signal::kNmi);
  if (open) wanted |= bit(Signal::kInterrupt);
  // The vCPU sees the same signals and goes on behind the HLT.
  if (sleep_until(wanted, !open)) activity_ = Activity::kRunning;
}

void VcpuThread::wait_for_sipi() {
  // SDM Vol. 3, "Wait-for-SIPI": only a SIPI counts, or another INIT. In shutdown a SIPI does not.
  const bool sipi = activity_ == Activity::kWaitForSipi;
  if (!sleep_until(bit(Signal::kInit) | (sipi ? bit(Signal::kSipi) : 0), true)) return;
  if (signals.has(Signal::kInit)) return init();
  signals.clear(Signal::kSipi);
  CpuState state = vcpu_->state();
  apply_sipi(state, signals.sipi_vector.load(std::memory_order_acquire));
  vcpu_->set_state(state);
  activity_ = state.activity;
}

void VcpuThread::init() {
  signals.clear(Signal::kInit);
  CpuState state = vcpu_->state();
  apply_init(state, index_ == 0);
  vcpu_->set_state(state);
  activity_ = state.activity;
}

}  // namespace hv

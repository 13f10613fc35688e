// The gate at which vCPUs park, and how a VM is found to be dead.
#include <algorithm>
#include <utility>

#include "irq/kernel_apics.h"
#include "vm/vm.h"

namespace hv {
namespace {

constexpr std::uint64_t kInterruptFlag = 1u << 9;  // RFLAGS.IF

// Between two looks at a VM whose vCPUs halt in the host's kernel, from its start on: a guest that
// stops at once is found soon, and one that idles for hours costs a kick a vCPU in four seconds.
constexpr GuestNs kFirstLook = 50'000'000, kLastLook = 4'000'000'000;

}  // namespace

bool Vm::park(VcpuIndex) {
  std::unique_lock lock{mutex_};
  const std::uint64_t opening = openings_;
  if (++parked_ == config_.cpus && phase_ == Phase::kParking) all_parked();
  gate_.wait(lock, [&] { return openings_ != opening || phase_ == Phase::kStopped; });
  if (phase_ != Phase::kStopped) return true;
  if (++ended_ == config_.cpus) owner_.notice({VmEvent::kExited});
  return false;
}

// The clock stops after the local APICs' timers have stood still: none is early.
void Vm::all_parked() {
  if (kernel_apics_ != nullptr && rounds_ != 0) {
    refresh_cpus();
    if (looking_.exchange(false, std::memory_order_seq_cst)) return end_look();
    board_->fabric.take_back();
  }
  phase_ = Phase::kParked;
  if (ParavirtualClock* const clock = machine_->clock()) clock->stop();
  board_->clock.pause();
  if (rounds_ != 0) owner_.notice({VmEvent::kParked});  // the first time, create() waits
  gate_.notify_all();
}

void Vm::open_gate() {
  parking_.store(false, std::memory_order_seq_cst);
  phase_ = Phase::kRunning;
  parked_ = 0;
  ++openings_;
  gate_.notify_all();
}

void Vm::set_dead(VcpuIndex vcpu, std::uint32_t wakers) {
  const bool was = wakers_[vcpu] != 0, is = wakers != 0;
  if (wakers_[vcpu] == wakers) return;  // only this vCPU's thread changes it
  std::scoped_lock hold{mutex_};
  wakers_[vcpu] = wakers;
  if (was != is) dead_count_ += is ? 1u : ~0u;
  if (is && all_dead() && phase_ == Phase::kRunning) owner_.notice({VmEvent::kHalted});
}

// A vCPU to which the last one sent a SIPI before it halted is asleep still, but not for long: it
// comes back here should it die again.
bool Vm::all_dead() const {
  if (dead_count_ != config_.cpus) return false;
  for (VcpuIndex i = 0; i < config_.cpus; ++i)
    if ((signals_[i]->pending() & wakers_[i]) != 0) return false;
  return true;
}

void Vm::triple_fault(VcpuIndex vcpu) {
  owner_.notice({VmEvent::kTripleFault, vcpu});
  park();
}

// --- vCPUs that halt in the host's kernel -------------------------------------------------------

void Vm::lend_apics() {
  for (VcpuThread& vcpu : vcpus_) vcpu.put_changes();
  board_->fabric.lend();
  told_dead_ = false;
  look_again_ = kFirstLook;
  look_timer_->arm(board_->clock.now() + look_again_);
}

// What one vCPU sent another after that had parked has arrived in it since.
void Vm::refresh_cpus() {
  for (VcpuIndex i = 0; i < config_.cpus; ++i) {
    kernel_apics_->settle(i);
    vcpus_[i].refresh();
  }
}

void Vm::look_for_life() {
  {
    std::scoped_lock hold{mutex_};
    if (phase_ != Phase::kRunning) return;
    look_again_ = std::min(2 * look_again_, kLastLook);
    if (!quiet_since_last_look()) {
      told_dead_ = false;
      look_timer_->arm(board_->clock.now() + look_again_);
      return;
    }
    phase_ = Phase::kParking;
    looking_.store(true, std::memory_order_seq_cst);
    parking_.store(true, std::memory_order_seq_cst);
  }
  kick_all();
}

// Every vCPU is out of the guest: what is dead now cannot have been woken by another meanwhile.
void Vm::end_look() {
  bool dead = true;
  for (VcpuIndex i = 0; i < config_.cpus; ++i) dead = dead && lifeless(i);
  if (dead && !told_dead_) owner_.notice({VmEvent::kHalted});
  told_dead_ = dead;
  look_timer_->arm(board_->clock.now() + look_again_);
  open_gate();
}

// A vCPU that left the guest by itself was alive.
bool Vm::quiet_since_last_look() {
  std::uint64_t exits = 0;
  for (const VcpuThread& vcpu : vcpus_) {
    const VcpuCounters c = vcpu.counters();
    exits += c.interrupts + c.port_accesses + c.mmio_accesses;
  }
  return std::exchange(exits_at_last_look_, exits) == exits;
}

// As VcpuThread's sleeps tell set_dead() where we halt vCPUs ourselves.
bool Vm::lifeless(VcpuIndex vcpu) const {
  const CpuState& state = vcpus_[vcpu].shown;
  const VcpuSignals& signals = vcpus_[vcpu].signals;
  if (signals.has(Signal::kInit)) return false;
  switch (state.activity) {
    case Activity::kRunning: return false;
    case Activity::kHalted:
      return (state.rflags & kInterruptFlag) == 0 &&
             (state.nmi_blocked || !signals.has(Signal::kNmi));
    case Activity::kWaitForSipi: return !signals.has(Signal::kSipi);
    case Activity::kShutdown: return true;
  }
  return false;
}

}  // namespace hv

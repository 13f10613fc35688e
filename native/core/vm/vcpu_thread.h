// One vCPU and the host thread that is its own: made parked, runs between two parkings, and decides
// what the accelerator leaves open (halt, INIT and SIPI, shutdown).
//
//   parked ⇄ running guest code ⇄ asleep in HLT or waiting for a SIPI
//
// While parked, the architectural state lies in a copy that any thread may read and change under
// the gate's rules (vm/vm.h); the vCPU itself is touched by its own thread only.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>

#include "accel/accelerator.h"
#include "accel/cpu_state.h"
#include "accel/signals.h"

namespace hv {

// The vCPUs' common gate, and whom they tell. Implemented by Vm.
class VcpuHost {
 public:
  virtual ~VcpuHost() = default;
  // Parks the calling vCPU thread, which stands at an instruction boundary, until the VM runs.
  // False: the thread must end.
  virtual bool park(VcpuIndex vcpu) = 0;
  virtual bool parking() const noexcept = 0;
  // Whether Vcpu::run() itself waits for what ends HLT and wait-for-SIPI (Machine::use_kernel_apics()).
  virtual bool halts_in_kernel() const noexcept = 0;
  // This vCPU can be woken by these signals alone (NMI, INIT, SIPI: by another vCPU, and by nothing
  // where there is none awake). 0: it is not dead.
  virtual void set_dead(VcpuIndex vcpu, std::uint32_t wakers) = 0;
  virtual void triple_fault(VcpuIndex vcpu) = 0;
};

class VcpuThread {
 public:
  VcpuThread(VcpuHost& host, VcpuIndex index) : host_{host}, index_{index} {}
  ~VcpuThread() { join(); }
  VcpuThread(const VcpuThread&) = delete;
  VcpuThread& operator=(const VcpuThread&) = delete;

  void start(Machine& machine, const VcpuWiring& wiring);
  void join();

  VcpuSignals signals;
  // Only while parked. Whoever changes it sets `changed`.
  CpuState shown = {};
  bool changed = true;

  // While parked, any thread, where Vcpu::state() and set_state() may be called on any
  // (Machine::use_kernel_apics()): reads `shown` again, or puts it where it was changed.
  void refresh();
  void put_changes();

  // Any thread, between the vCPU's first parking and the VM's stop.
  VcpuCounters counters() const { return vcpu_->counters(); }

 private:
  void main(Machine& machine, const VcpuWiring& wiring);
  bool park();
  bool waits_here() const;
  void run();
  void leave(Exit exit);
  void halt();
  void wait_for_sipi();
  void init();
  // Sleeps until one of `wanted` is pending or the VM parks; true in the first case.
  bool sleep_until(std::uint32_t wanted, bool dead);

  VcpuHost& host_;
  const VcpuIndex index_;
  std::unique_ptr<Vcpu> vcpu_;
  Activity activity_ = Activity::kRunning;
  std::thread thread_;
};

}  // namespace hv

// One VM: guest memory, an accelerator, the board, the bus, and a thread for each vCPU.
//
// Lifecycle. Made parked at power-on reset. run() lets the vCPUs go; park() asks them to stop, and
// VmEvent::kParked tells when all have. State is read and set, and reset() called, only while
// parked. stop() ends the threads; VmEvent::kExited tells that destroying the VM will not wait.
// All of these are called by one thread, the owner's; none waits for a vCPU.
#pragma once
#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "accel/accelerator.h"
#include "accel/platform.h"
#include "base/json.h"
#include "bus/bus.h"
#include "memory/guest_memory.h"
#include "vm/board.h"
#include "vm/events.h"
#include "vm/vcpu_thread.h"

namespace hv {

struct VmConfig {
  VcpuIndex cpus = 1;
  std::uint64_t memory = 0;
  bool x2apic = false;
  bool strict_io = false;
  bool ignore_unknown_msrs = false;
  bool rtc_utc = true;
};

class Vm final : private VcpuHost, private Platform {
 public:
  // nullptr and a sentence where the host has no room or the configuration is none.
  static std::unique_ptr<Vm> create(const VmConfig& config, const Accelerator& accelerator,
                                    VmOwner& owner, std::string& error);
  ~Vm() override;

  GuestMemory& memory() { return *memory_; }
  std::shared_ptr<GuestMemory> shared_memory() { return memory_; }
  Bus& bus() { return *bus_; }
  Board& board() { return *board_; }
  const VmConfig& config() const { return config_; }

  // False where the VM is not parked (or already stopped).
  [[nodiscard]] bool run();
  void park();
  bool parked() const;
  bool stopped() const;
  [[nodiscard]] bool reset();
  void stop();

  void nmi();
  void set_a20(bool open);

  // Only while parked; nullptr then not.
  const CpuState* cpu(VcpuIndex index) const;
  [[nodiscard]] bool set_cpu(VcpuIndex index, const CpuState& state);
  json::Object save();
  // Empty, or what is wrong; nothing has changed then.
  [[nodiscard]] std::string restore(const json::Value& components);
  json::Object statistics();
  // The log of dirty pages (accel/accelerator.h, Machine). False, nullopt: not parked, or as there.
  [[nodiscard]] bool log_writes(bool on);
  std::optional<std::vector<std::uint64_t>> take_written();

 private:
  enum class Phase : std::uint8_t { kParked, kRunning, kParking, kStopped };

  Vm(const VmConfig& config, VmOwner& owner) : config_{config}, owner_{owner} {}
  std::string assemble(const Accelerator& accelerator);
  void start_threads();
  void reset_cpus();
  std::string refused(VcpuIndex vcpu, const CpuState& state) const;
  std::string refused_cpuid(const json::Value& components) const;
  void refuse_unclaimed(const Bus::Unclaimed& access);
  void kick_all();

  // VcpuHost
  bool park(VcpuIndex vcpu) override;
  bool parking() const noexcept override { return parking_.load(std::memory_order_seq_cst); }
  bool halts_in_kernel() const noexcept override { return kernel_apics_ != nullptr; }
  void set_dead(VcpuIndex vcpu, std::uint32_t wakers) override;
  bool all_dead() const;
  void triple_fault(VcpuIndex vcpu) override;

  // What the last vCPU to park does (vm_gate.cc). Under the mutex.
  void all_parked();
  void refresh_cpus();
  void open_gate();
  void lend_apics();
  void look_for_life();
  void end_look();
  bool quiet_since_last_look();
  bool lifeless(VcpuIndex vcpu) const;

  // Platform
  std::uint32_t in(VcpuIndex vcpu, std::uint16_t port, unsigned size) override;
  void out(VcpuIndex vcpu, std::uint16_t port, unsigned size, std::uint32_t value) override;
  std::uint64_t read(VcpuIndex vcpu, Gpa at, unsigned size) override;
  void write(VcpuIndex vcpu, Gpa at, unsigned size, std::uint64_t value) override;
  std::optional<std::uint64_t> read_apic_msr(VcpuIndex vcpu, std::uint32_t index) override;
  bool write_apic_msr(VcpuIndex vcpu, std::uint32_t index, std::uint64_t value) override;
  bool ignore_unknown_msrs() const override { return config_.ignore_unknown_msrs; }
  std::uint8_t cr8(VcpuIndex vcpu) override;
  void set_cr8(VcpuIndex vcpu, std::uint8_t value) override;
  std::optional<std::uint8_t> acknowledge_interrupt(VcpuIndex vcpu) override;
  void end_of_interrupt(VcpuIndex vcpu, std::uint8_t vector) override;
  std::uint64_t tsc() override;
  std::uint64_t tsc_frequency() const override;
  // Written only while every vCPU waits at the gate.
  std::uint64_t clock_rounds() const override { return rounds_; }
  std::uint64_t a20_mask() const override { return a20_.load(std::memory_order_relaxed); }
  void spin_hint(VcpuIndex vcpu) override;

  const VmConfig config_;
  VmOwner& owner_;
  bool crowded_ = false;  // more vCPUs than cores
  std::shared_ptr<GuestMemory> memory_;
  std::unique_ptr<Bus> bus_;
  std::deque<VcpuThread> vcpus_;
  std::vector<VcpuSignals*> signals_;
  std::unique_ptr<Board> board_;
  std::unique_ptr<Machine> machine_;
  std::atomic<std::uint64_t> a20_{~0ull};

  // The gate. `parking_` is written under the mutex and read without it by vCPUs, which look at
  // it again under the mutex in park().
  mutable std::mutex mutex_;
  std::condition_variable gate_;
  Phase phase_ = Phase::kParking;
  std::atomic<bool> parking_{true};
  VcpuIndex parked_ = 0;
  VcpuIndex ended_ = 0;
  std::uint64_t rounds_ = 0;  // how often the VM was let run
  std::uint64_t openings_ = 0;  // how often the gate opened
  std::array<std::uint32_t, kMaxVcpus> wakers_{};  // 0: not dead
  VcpuIndex dead_count_ = 0;

  // Where the vCPUs halt in the host's kernel, it tells nobody that nothing will wake them: at times
  // all are called out of the guest for a look (vm_gate.cc).
  KernelApics* kernel_apics_ = nullptr;
  std::atomic<bool> looking_{false};  // parking is for a look alone
  std::uint64_t exits_at_last_look_ = 0;
  GuestNs look_again_ = 0;
  bool told_dead_ = false;
  std::unique_ptr<Timer> look_timer_;
};

}  // namespace hv

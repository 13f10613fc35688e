// One interface, three implementations: Hypervisor.framework, KVM and the software CPU. Nothing
// outside accel/ and softcpu/ may name a backend. Port, MMIO, APIC and clock accesses of the guest
// are answered through Platform on the vCPU's thread, from inside run(), whichever backend runs
// it; what run() returns for is only what the vCPU loop has to decide.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "accel/cpu_state.h"
#include "accel/host_cpuid.h"
#include "accel/platform.h"
#include "accel/signals.h"
#include "base/types.h"
#include "memory/guest_memory.h"

namespace hv {

enum class Exit : std::uint8_t {
  kKicked,       // Signal::kExit was raised; the state is at an instruction boundary
  kHalted,       // HLT retired and nothing wakes it yet
  kInit,         // Signal::kInit is pending: the loop resets the vCPU
  kTripleFault,  // shutdown: the loop ends or resets the VM
};

// Counts since the vCPU was made, written by its own thread and read by any (relaxed).
struct VcpuCounters {
  std::uint64_t instructions = 0, blocks_decoded = 0, blocks_translated = 0, code_bytes = 0,
                block_bytes = 0,  // of decoded code and what is known of it beside its host code
                tlb_misses = 0, page_faults = 0,
                exceptions = 0, interrupts = 0, port_accesses = 0, mmio_accesses = 0, halts = 0;

  VcpuCounters snapshot() const {
    const auto read = [](const std::uint64_t& counter) {
      return __atomic_load_n(&counter, __ATOMIC_RELAXED);
    };
    VcpuCounters copy;
    copy.instructions = read(instructions);
    copy.blocks_decoded = read(blocks_decoded);
    copy.blocks_translated = read(blocks_translated);
    copy.code_bytes = read(code_bytes);
    copy.block_bytes = read(block_bytes);
    copy.tlb_misses = read(tlb_misses);
    copy.page_faults = read(page_faults);
    copy.exceptions = read(exceptions);
    copy.interrupts = read(interrupts);
    copy.port_accesses = read(port_accesses);
    copy.mmio_accesses = read(mmio_accesses);
    copy.halts = read(halts);
    return copy;
  }
};

class Vcpu {
 public:
  virtual ~Vcpu() = default;
  Vcpu(const Vcpu&) = delete;
  Vcpu& operator=(const Vcpu&) = delete;

  // Owner thread only: Hypervisor.framework binds a vCPU to the thread that made it. A kick is
  // Signal::kExit in the vCPU's signals, from any thread, any time; kicks do not count.
  virtual Exit run() = 0;
  // Not while run() runs.
  virtual CpuState state() const = 0;
  virtual void set_state(const CpuState& state) = 0;
  // Any thread.
  virtual VcpuCounters counters() const = 0;

 protected:
  Vcpu() = default;
};

struct VcpuWiring {
  VcpuIndex index;
  std::uint32_t count;  // vCPUs in the VM
  Platform& platform;
  VcpuSignals& signals;
  std::span<VcpuSignals* const> all_signals;  // of every vCPU, for Signal::kProtectCode
  bool ignore_unknown_msrs = false;  // they read 0 and swallow writes; else #GP(0)
};

class KernelApics;  // irq/kernel_apics.h
class KernelBells;  // bus/kernel_bells.h

// A clock that the accelerator itself shows to the guest, in nanoseconds, beside those of the machine:
// KVM's (Linux, Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW). It stands at 0 at first.
// All of this only while no vCPU is in run().
class ParavirtualClock {
 public:
  virtual ~ParavirtualClock() = default;
  // Goes on from where it stood.
  virtual void start() = 0;
  virtual void stop() = 0;
  // Where it stands, stopped.
  virtual std::uint64_t now() const = 0;
  virtual void set(std::uint64_t nanoseconds) = 0;
};

class Machine {
 public:
  virtual ~Machine() = default;
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  // Called on the thread that will run it.
  virtual std::unique_ptr<Vcpu> create_vcpu(const VcpuWiring& wiring) = 0;
  GuestMemory& memory() const { return memory_; }
  // Why none of its vCPUs can go on from `state`, a sentence that begins with the field; empty
  // where they can.
  virtual std::string refused_state(const CpuState&) const { return {}; }
  // What CPUID tells the first of `count` vCPUs where it is this host's own, without the counter's
  // frequency; empty where it is the policy's (accel/cpuid_policy.h).
  virtual std::vector<CpuidLeaf> own_cpuid(std::uint32_t /* count */) const { return {}; }

  // Doorbells that its vCPUs ring without leaving the guest; nullptr: none. Lives as long as it does.
  virtual KernelBells* bells() { return nullptr; }

  // nullptr: its guests have none. Lives as long as the machine does.
  virtual ParavirtualClock* clock() { return nullptr; }

  // Before the first vCPU is made: where the host's kernel can keep their local APICs better than we,
  // it does from now on, and every VM with one must lend them (irq/kernel_apics.h). A vCPU then stays
  // in run() while it is halted or waits for its SIPI. nullptr: they are ours.
  virtual KernelApics* use_kernel_apics() { return nullptr; }

  // The log of dirty pages (memory/dirty_log.h). Both only while no vCPU is in run().
  // False: the host refuses, and nothing has changed.
  bool log_writes(bool on);
  // The pages (GuestMemory::page_number()) that vCPUs, devices and everybody else wrote since the
  // log began or was taken; more than those never, but for a page that a store faulted on half-way.
  // nullopt: the host has lost the log, and every page may be among them.
  std::optional<std::vector<std::uint64_t>> take_written();

 protected:
  explicit Machine(GuestMemory& memory) : memory_{memory} {}

 private:
  // Where vCPUs write unseen by us: lets the hardware log it, and marks what it has logged since.
  virtual bool log_hardware_writes(bool) { return true; }
  virtual bool gather_hardware_writes() { return true; }

  GuestMemory& memory_;
};

class Accelerator {
 public:
  virtual ~Accelerator() = default;
  virtual std::string_view name() const = 0;
  // Why it cannot be used on this host, in words for the operator; nullopt when it can.
  virtual std::optional<std::string> unavailable() const = 0;
  // `memory` outlives the machine.
  virtual std::unique_ptr<Machine> create_machine(GuestMemory& memory) const = 0;
  // The same with guests that see this host's CPU (accel/host_cpuid.h) instead of the policy's;
  // nullptr where it has no such.
  virtual const Accelerator* with_host_cpu() const { return nullptr; }
  // Hypervisor.framework: the next machine can be made only when the last has ended.
  virtual bool one_vm_a_process() const { return false; }
};

// In order of preference; `soft` is always there.
std::span<const Accelerator* const> accelerators();

// The software CPU with options of its own (softcpu/translator/translator.h: "interpreter",
// "eager", …). The same words give the same object.
const Accelerator* soft_accelerator(std::string_view words);

}  // namespace hv

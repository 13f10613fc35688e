// What a vCPU leaves the guest for, and the answers. Exits that ask for nothing (a window that
// opened, a signal) let it go on.
#include <algorithm>
#include <cstring>
#include <iterator>

#include "accel/kvm/state.h"
#include "accel/kvm/vcpu.h"
#include "softcpu/cpu.h"

namespace hv::kvm {
namespace {

void add(std::uint64_t& counter, std::uint64_t by = 1) {
  __atomic_store_n(&counter, counter + by, __ATOMIC_RELAXED);
}

}  // namespace

std::optional<Exit> KvmVcpu::answer() {
  switch (run_->exit_reason) {
    case KVM_EXIT_IO: answer_port(); return std::nullopt;
    case KVM_EXIT_MMIO: answer_memory(); return std::nullopt;
    case KVM_EXIT_X86_RDMSR: answer_rdmsr(); return std::nullopt;
    case KVM_EXIT_X86_WRMSR: answer_wrmsr(); return std::nullopt;
    case KVM_EXIT_HLT:
      add(count_.halts);
      kept_.activity = Activity::kHalted;
      return std::nullopt;  // the look at the signals decides whether it sleeps
    case KVM_EXIT_SHUTDOWN:
    case KVM_EXIT_SYSTEM_EVENT:
      kept_.activity = Activity::kShutdown;
      return Exit::kTripleFault;
    case KVM_EXIT_IOAPIC_EOI:
      platform_.end_of_interrupt(wiring_.index, run_->eoi.vector);
      return std::nullopt;
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
    case KVM_EXIT_SET_TPR:
    case KVM_EXIT_DEBUG:
      return std::nullopt;
    // Emulation failed, entry failed, or an exit that nothing of ours asked for: what the
    // instruction does is the interpreter's to say.
    default: run_one_in_software(); return std::nullopt;
  }
}

void KvmVcpu::answer_port() {
  const auto io = run_->io;
  auto* data = reinterpret_cast<std::uint8_t*>(run_) + io.data_offset;
  add(count_.port_accesses, io.count);
  access_open_ = true;
  for (std::uint32_t i = 0; i < io.count; ++i, data += io.size) {
    std::uint32_t value = 0;
    if (io.direction == KVM_EXIT_IO_IN) {
      value = platform_.in(wiring_.index, io.port, io.size);
      std::memcpy(data, &value, io.size);
    } else {
      std::memcpy(&value, data, io.size);
      platform_.out(wiring_.index, io.port, io.size, value);
    }
  }
}

void KvmVcpu::answer_memory() {
  auto& access = run_->mmio;
  const unsigned size = std::min<unsigned>(access.len, 8);
  std::uint64_t value = 0;
  add(count_.mmio_accesses);
  access_open_ = true;
  if (access.is_write != 0) {
    std::memcpy(&value, access.data, size);
    platform_.write(wiring_.index, Gpa{access.phys_addr}, size, value);
  } else {
    value = platform_.read(wiring_.index, Gpa{access.phys_addr}, size);
    std::memcpy(access.data, &value, sizeof value);
  }
}

void KvmVcpu::answer_rdmsr() {
  access_open_ = true;
  const auto value = read_msr(run_->msr.index);
  run_->msr.error = value ? 0 : 1;
  run_->msr.data = value.value_or(0);
}

void KvmVcpu::answer_wrmsr() {
  access_open_ = true;
  run_->msr.error = write_msr(run_->msr.index, run_->msr.data) ? 0 : 1;
}

std::optional<std::uint64_t> KvmVcpu::read_msr(std::uint32_t index) {
  // Where the kernel has the APIC, only what it refuses comes here.
  if (is_apic_msr(index) && has_kernel_apic()) return std::nullopt;
  // The platform's deadline is in terms of its own counter; the guest's is of another frequency.
  if (index == kMsrTscDeadline) {
    const auto armed = platform_.read_apic_msr(wiring_.index, index);
    if (armed && *armed != 0 && *armed == platform_deadline_) return deadline_;
    return armed;
  }
  if (is_apic_msr(index)) return platform_.read_apic_msr(wiring_.index, index);
  if (index == kMsrTsc) return guest_tsc();
  if (index == kMsrTscAdjust) return kept_.tsc_adjust;
  if (machine_.clock() != nullptr && index == kMsrWallClock) return kept_.kvm_wall_clock;
  if (machine_.clock() != nullptr && index == kMsrSystemTime) return kept_.kvm_system_time;
  auto kept = read_kept_msr(kept_, index);
  // What the hardware is immune to, only it can say.
  if (kept && index == kMsrArchCapabilities) *kept &= host().arch_capabilities;
  if (!kept && machine_.amd_cpu()) kept = read_amd_msr(index);
  if (kept) return kept;
  if (platform_.ignore_unknown_msrs()) return 0;
  return std::nullopt;
}

bool KvmVcpu::write_msr(std::uint32_t index, std::uint64_t value) {
  if (is_apic_msr(index)) return write_apic_msr(index, value);
  if (index == kMsrTsc || index == kMsrTscAdjust) {
    kept_.tsc_adjust = index == kMsrTscAdjust ? value : value - (host_tsc() + tsc_offset_);
    tsc_round_ = ~0ull;
    sync_tsc();
    return true;
  }
  if (machine_.clock() != nullptr && (index == kMsrWallClock || index == kMsrSystemTime)) {
    write_clock_msr(index, value);
    return true;
  }
  const MsrWrite kept = write_kept_msr(kept_, index, value);
  if (kept == MsrWrite::kDone) pass_on(index, value);
  if (kept != MsrWrite::kUnknown) return kept == MsrWrite::kDone;
  if (machine_.amd_cpu() && read_amd_msr(index)) return true;
  return platform_.ignore_unknown_msrs();
}

// A register of the hardware's whose new value we had to look at.
void KvmVcpu::pass_on(std::uint32_t index, std::uint64_t value) {
  const auto is = [index](const HardwareMsr& msr) { return msr.index == index; };
  if (std::none_of(std::begin(kHardwareMsrs), std::end(kHardwareMsrs), is)) return;
  if (host().has_msr(index)) set_msr(index, value);
}

// The kernel writes the time into the page at once (the wall clock's), or whenever it changes and the
// vCPU enters (the system time's).
void KvmVcpu::write_clock_msr(std::uint32_t index, std::uint64_t value) {
  if (index == kMsrWallClock) {
    kept_.kvm_wall_clock = value;
    return set_msr(index, value);
  }
  kept_.kvm_system_time = value;
  set_system_time();
}

// A deadline of the guest's counter in terms of Platform's.
std::uint64_t KvmVcpu::to_platform(std::uint64_t deadline) {
  const std::uint64_t now = guest_tsc(), there = platform_.tsc();
  const auto ahead = static_cast<std::int64_t>(deadline - now);
  const std::uint64_t wait =
      ahead <= 0 ? 0 : scale(static_cast<std::uint64_t>(ahead), platform_.tsc_frequency(), tsc_hz_);
  // Never 0, which would disarm; past the end of the counter is never.
  return there + wait < there ? ~0ull : std::max<std::uint64_t>(there + wait, 1);
}

bool KvmVcpu::write_apic_msr(std::uint32_t index, std::uint64_t value) {
  if (has_kernel_apic()) return false;
  if (index == kMsrTscDeadline && value != 0) {
    deadline_ = value;
    value = platform_deadline_ = to_platform(value);
  }
  if (!platform_.write_apic_msr(wiring_.index, index, value)) return false;
  if (index == kMsrApicBase) {
    kvm_sregs system{};
    must(vcpu_.call(KVM_GET_SREGS, &system), "KVM_GET_SREGS");
    set_apic_base(system);
    must(vcpu_.call(KVM_SET_SREGS, &system), "KVM_SET_SREGS");
  }
  return true;
}

void KvmVcpu::run_one_in_software() {
  VcpuSignals nobodys;
  VcpuWiring wiring{wiring_.index, wiring_.count, platform_, nobodys, {}};
  wiring.ignore_unknown_msrs = wiring_.ignore_unknown_msrs;
  // A new one each time: code that the hardware changed since would be stale in a kept one.
  softcpu::Cpu cpu{wiring, machine_.memory()};
  cpu.set_state(state());
  cpu.run_one();
  set_state(cpu.state());
  add(count_.instructions);
}

}  // namespace hv::kvm

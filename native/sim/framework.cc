// Hypervisor.framework's functions for Intel Macs over simulated processors, and what else
// accel/hvf asks of macOS.
#include "framework.h"

#include <Hypervisor/hv.h>
#include <Hypervisor/hv_vmx.h>
#include <mach/mach_time.h>
#include <sys/sysctl.h>

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <thread>

#include "accel/host_counter.h"
#include "offer.h"
#include "softcpu/system_ops.h"
#include "virtual_cpu.h"

namespace hv::sim {
namespace {

constexpr unsigned kMostVcpus = 16;

// The process's VM. vCPUs are found without the lock: one is used by its own thread alone, but for
// interrupts and the clock, which hold it.
class Framework {
 public:
  Framework() {
    for (unsigned n = 0; n < kMostVcpus; ++n) list_[n] = &signals_[n];
  }

  hv_return_t create_vm() {
    std::scoped_lock hold{mutex_};
    if (exists_) return HV_BUSY;
    exists_ = true;
    if (attached_ != nullptr) space_.attach(*attached_);
    return HV_SUCCESS;
  }
  hv_return_t destroy_vm() {
    std::scoped_lock hold{mutex_};
    for (const auto& one : vcpus_)
      if (one != nullptr) return HV_BUSY;
    if (!exists_) return HV_ERROR;
    exists_ = false;
    space_.clear();
    return HV_SUCCESS;
  }
  void attach(GuestMemory& memory) {
    std::scoped_lock hold{mutex_};
    attached_ = &memory;
  }
  template <class Change>
  hv_return_t change_space(Change&& change) {
    std::scoped_lock hold{mutex_};
    if (!exists_) return HV_ERROR;
    return change(space_) ? HV_SUCCESS : HV_BAD_ARGUMENT;
  }

  hv_return_t create_vcpu(hv_vcpuid_t* id) {
    std::scoped_lock hold{mutex_};
    if (!exists_ || space_.memory() == nullptr) return HV_ERROR;
    for (unsigned n = 0; n < kMostVcpus; ++n) {
      if (vcpus_[n] != nullptr) continue;
      signals_[n].clear(Signal::kExit);
      vcpus_[n] = std::make_unique<VirtualCpu>(space_, n, list_);
      *id = n;
      return HV_SUCCESS;
    }
    return HV_NO_RESOURCES;
  }
  hv_return_t destroy_vcpu(hv_vcpuid_t id) {
    if (find(id) == nullptr) return HV_BAD_ARGUMENT;
    std::scoped_lock hold{mutex_};
    vcpus_[id].reset();
    return HV_SUCCESS;
  }
  // nullptr: there is none, or the calling thread is not its own.
  VirtualCpu* find(hv_vcpuid_t id) {
    VirtualCpu* const vcpu = id < kMostVcpus ? vcpus_[id].get() : nullptr;
    return vcpu != nullptr && vcpu->owned() ? vcpu : nullptr;
  }
  hv_return_t interrupt(hv_vcpuid_t id) {
    std::scoped_lock hold{mutex_};
    if (id >= kMostVcpus || vcpus_[id] == nullptr) return HV_BAD_ARGUMENT;
    vcpus_[id]->interrupt();
    return HV_SUCCESS;
  }

  // A thread looks at the deadlines while a vCPU that has one runs.
  void begin_deadline() {
    std::scoped_lock hold{mutex_};
    if (++deadlines_ > 1) return;
    if (!clock_.joinable()) clock_ = std::thread{[this] { watch(); }};
    changed_.notify_one();
  }
  void end_deadline() {
    std::scoped_lock hold{mutex_};
    --deadlines_;
  }
  ~Framework() {
    {
      std::scoped_lock hold{mutex_};
      ends_ = true;
      changed_.notify_one();
    }
    if (clock_.joinable()) clock_.join();
  }

 private:
  void watch() {
    std::unique_lock lock{mutex_};
    while (!ends_) {
      if (deadlines_ == 0) {
        changed_.wait(lock);
        continue;
      }
      const std::uint64_t now = mach_absolute_time();
      for (const auto& one : vcpus_)
        if (one != nullptr) one->tick(now);
      changed_.wait_for(lock, std::chrono::milliseconds{2});
    }
  }

  std::mutex mutex_;
  bool exists_ = false;
  GuestMemory* attached_ = nullptr;
  Space space_;
  std::array<VcpuSignals, kMostVcpus> signals_;
  std::array<VcpuSignals*, kMostVcpus> list_{};
  std::array<std::unique_ptr<VirtualCpu>, kMostVcpus> vcpus_;
  std::condition_variable changed_;
  std::thread clock_;
  unsigned deadlines_ = 0;
  bool ends_ = false;
};

Framework& framework() {
  static Framework only;
  return only;
}

template <class Use>
hv_return_t with(hv_vcpuid_t id, Use&& use) {
  VirtualCpu* const vcpu = framework().find(id);
  if (vcpu == nullptr) return HV_BAD_ARGUMENT;
  return use(*vcpu) ? HV_SUCCESS : HV_BAD_ARGUMENT;
}

hv_return_t run(hv_vcpuid_t id, std::uint64_t deadline) {
  VirtualCpu* const vcpu = framework().find(id);
  if (vcpu == nullptr) return HV_BAD_ARGUMENT;
  const bool timed = deadline != HV_DEADLINE_FOREVER;
  if (timed) framework().begin_deadline();
  const bool ran = vcpu->run(deadline);
  if (timed) framework().end_deadline();
  return ran ? HV_SUCCESS : HV_ERROR;
}

// ---- registers ----------------------------------------------------------------------------------

struct GeneralName {
  hv_x86_reg_t reg;
  unsigned number;
};
constexpr GeneralName kGeneral[] = {
    {HV_X86_RAX, 0}, {HV_X86_RCX, 1}, {HV_X86_RDX, 2},  {HV_X86_RBX, 3},  {HV_X86_RBP, 5},
    {HV_X86_RSI, 6}, {HV_X86_RDI, 7}, {HV_X86_R8, 8},   {HV_X86_R9, 9},   {HV_X86_R10, 10},
    {HV_X86_R11, 11}, {HV_X86_R12, 12}, {HV_X86_R13, 13}, {HV_X86_R14, 14}, {HV_X86_R15, 15}};

// Those that lie in the VMCS.
struct FieldName {
  hv_x86_reg_t reg;
  Field field;
};
constexpr FieldName kFields[] = {
    {HV_X86_RIP, Field::kGuestRip},       {HV_X86_RSP, Field::kGuestRsp},
    {HV_X86_RFLAGS, Field::kGuestRflags}, {HV_X86_CR0, Field::kGuestCr0},
    {HV_X86_CR3, Field::kGuestCr3},       {HV_X86_CR4, Field::kGuestCr4},
    {HV_X86_DR7, Field::kGuestDr7},
    {HV_X86_ES, nth(Field::kGuestSelector, kEs)}, {HV_X86_CS, nth(Field::kGuestSelector, kCs)},
    {HV_X86_SS, nth(Field::kGuestSelector, kSs)}, {HV_X86_DS, nth(Field::kGuestSelector, kDs)},
    {HV_X86_FS, nth(Field::kGuestSelector, kFs)}, {HV_X86_GS, nth(Field::kGuestSelector, kGs)},
    {HV_X86_IDT_BASE, Field::kGuestIdtrBase},     {HV_X86_IDT_LIMIT, Field::kGuestIdtrLimit},
    {HV_X86_GDT_BASE, Field::kGuestGdtrBase},     {HV_X86_GDT_LIMIT, Field::kGuestGdtrLimit},
    {HV_X86_LDTR, nth(Field::kGuestSelector, hvf::kLdtrNumber)},
    {HV_X86_LDT_BASE, nth(Field::kGuestBase, hvf::kLdtrNumber)},
    {HV_X86_LDT_LIMIT, nth(Field::kGuestLimit, hvf::kLdtrNumber)},
    {HV_X86_LDT_AR, nth(Field::kGuestAccess, hvf::kLdtrNumber)},
    {HV_X86_TR, nth(Field::kGuestSelector, hvf::kTrNumber)},
    {HV_X86_TSS_BASE, nth(Field::kGuestBase, hvf::kTrNumber)},
    {HV_X86_TSS_LIMIT, nth(Field::kGuestLimit, hvf::kTrNumber)},
    {HV_X86_TSS_AR, nth(Field::kGuestAccess, hvf::kTrNumber)}};

// Where a register lies that is not in the VMCS; nullptr where it is, or is none.
std::uint64_t* held(VirtualCpu& vcpu, hv_x86_reg_t reg) {
  for (const GeneralName& name : kGeneral)
    if (name.reg == reg) return &vcpu.cpu.gpr[name.number];
  if (reg >= HV_X86_DR0 && reg <= HV_X86_DR3) return &vcpu.cpu.dr[reg - HV_X86_DR0];
  if (reg == HV_X86_CR2) return &vcpu.cpu.cr2;
  if (reg == HV_X86_DR6) return &vcpu.cpu.dr6;
  return reg == HV_X86_XCR0 ? &vcpu.cpu.xcr0 : nullptr;
}

const Field* in_vmcs(hv_x86_reg_t reg) {
  for (const FieldName& name : kFields)
    if (name.reg == reg) return &name.field;
  return nullptr;
}

bool read_register(VirtualCpu& vcpu, hv_x86_reg_t reg, std::uint64_t& value) {
  if (const std::uint64_t* at = held(vcpu, reg)) {
    value = *at;
    return true;
  }
  const Field* const field = in_vmcs(reg);
  if (field != nullptr) value = vcpu.vmcs.get(*field);
  return field != nullptr;
}

bool write_register(VirtualCpu& vcpu, hv_x86_reg_t reg, std::uint64_t value) {
  if (std::uint64_t* at = held(vcpu, reg)) {
    const bool changed = *at != value;
    *at = value;
    if (changed && reg >= HV_X86_DR0 && reg <= HV_X86_DR3) vcpu.invalidate_tlb();
    return true;
  }
  const Field* const field = in_vmcs(reg);
  if (field != nullptr) vcpu.vmcs.put(*field, value);
  return field != nullptr;
}

// ---- the host's facts ---------------------------------------------------------------------------

// One instant by the clock and by the counter: the closest of some readings, since this thread may
// lose its core between two of them.
struct Instant {
  std::int64_t nanoseconds = 0;
  std::uint64_t ticks = 0;
};
Instant now() {
  const auto clock = [] {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
  };
  Instant best;
  std::int64_t least = INT64_MAX;
  for (int i = 0; i < 50; ++i) {
    const std::int64_t before = clock();
    const std::uint64_t ticks = host_tsc();
    const std::int64_t after = clock();
    if (after - before >= least) continue;
    least = after - before;
    best = {before + least / 2, ticks};
  }
  return best;
}

std::uint64_t measure_tsc() {
  const Instant from = now();
  std::this_thread::sleep_for(std::chrono::milliseconds{50});
  const Instant to = now();
  return scale(to.ticks - from.ticks, 1'000'000'000,
               static_cast<std::uint64_t>(to.nanoseconds - from.nanoseconds));
}

template <class T>
int give(T value, void* to, std::size_t* size) {
  if (to == nullptr || size == nullptr || *size < sizeof value) return -1;
  std::memcpy(to, &value, sizeof value);
  *size = sizeof value;
  return 0;
}

}  // namespace

void attach(GuestMemory& memory) { framework().attach(memory); }

}  // namespace hv::sim

using hv::Gpa;
using hv::XsaveArea;
using hv::sim::framework;
using hv::sim::VirtualCpu;
using hv::sim::with;

extern "C" {

hv_return_t hv_vm_create(hv_vm_options_t flags) {
  return flags == HV_VM_DEFAULT ? framework().create_vm() : HV_BAD_ARGUMENT;
}
hv_return_t hv_vm_destroy(void) { return framework().destroy_vm(); }
hv_return_t hv_vm_map(hv_uvaddr_t uva, hv_gpaddr_t gpa, size_t size, hv_memory_flags_t flags) {
  return framework().change_space([&](hv::sim::Space& space) {
    return space.map(uva, Gpa{gpa}, size, static_cast<unsigned>(flags & 7));
  });
}
hv_return_t hv_vm_unmap(hv_gpaddr_t gpa, size_t size) {
  return framework().change_space(
      [&](hv::sim::Space& space) { return space.protect(Gpa{gpa}, size, 0); });
}
hv_return_t hv_vm_protect(hv_gpaddr_t gpa, size_t size, hv_memory_flags_t flags) {
  return framework().change_space([&](hv::sim::Space& space) {
    return space.protect(Gpa{gpa}, size, static_cast<unsigned>(flags & 7));
  });
}

hv_return_t hv_vcpu_create(hv_vcpuid_t* vcpu, hv_vcpu_options_t flags) {
  return flags == HV_VCPU_DEFAULT ? framework().create_vcpu(vcpu) : HV_BAD_ARGUMENT;
}
hv_return_t hv_vcpu_destroy(hv_vcpuid_t vcpu) { return framework().destroy_vcpu(vcpu); }
hv_return_t hv_vcpu_read_register(hv_vcpuid_t vcpu, hv_x86_reg_t reg, uint64_t* value) {
  return with(vcpu, [&](VirtualCpu& v) { return hv::sim::read_register(v, reg, *value); });
}
hv_return_t hv_vcpu_write_register(hv_vcpuid_t vcpu, hv_x86_reg_t reg, uint64_t value) {
  return with(vcpu, [&](VirtualCpu& v) { return hv::sim::write_register(v, reg, value); });
}
hv_return_t hv_vcpu_read_fpstate(hv_vcpuid_t vcpu, void* buffer, size_t size) {
  XsaveArea area;
  if (size > sizeof area.bytes || size < 576) return HV_BAD_ARGUMENT;
  const hv_return_t result = with(vcpu, [&](VirtualCpu& v) {
    v.read_fpu(area);
    return true;
  });
  if (result == HV_SUCCESS) std::memcpy(buffer, area.bytes.data(), size);
  return result;
}
hv_return_t hv_vcpu_write_fpstate(hv_vcpuid_t vcpu, const void* buffer, size_t size) {
  XsaveArea area;
  if (size > sizeof area.bytes || size < 576) return HV_BAD_ARGUMENT;
  std::memcpy(area.bytes.data(), buffer, size);
  return with(vcpu, [&](VirtualCpu& v) {
    v.write_fpu(area);
    return true;
  });
}
hv_return_t hv_vcpu_enable_native_msr(hv_vcpuid_t vcpu, uint32_t msr, bool enable) {
  return with(vcpu, [&](VirtualCpu& v) { return v.give_msr(msr, enable); });
}
hv_return_t hv_vcpu_read_msr(hv_vcpuid_t vcpu, uint32_t msr, uint64_t* value) {
  return with(vcpu, [&](VirtualCpu& v) { return v.read_msr(msr, *value); });
}
hv_return_t hv_vcpu_write_msr(hv_vcpuid_t vcpu, uint32_t msr, uint64_t value) {
  return with(vcpu, [&](VirtualCpu& v) { return v.write_msr(msr, value); });
}
hv_return_t hv_vcpu_flush(hv_vcpuid_t vcpu) {
  return with(vcpu, [](VirtualCpu&) { return true; });
}
hv_return_t hv_vcpu_invalidate_tlb(hv_vcpuid_t vcpu) {
  return with(vcpu, [](VirtualCpu& v) {
    v.invalidate_tlb();
    return true;
  });
}
hv_return_t hv_vcpu_run(hv_vcpuid_t vcpu) { return hv::sim::run(vcpu, HV_DEADLINE_FOREVER); }
hv_return_t hv_vcpu_run_until(hv_vcpuid_t vcpu, uint64_t deadline) {
  return hv::sim::run(vcpu, deadline);
}
hv_return_t hv_vcpu_interrupt(hv_vcpuid_t* vcpus, unsigned int count) {
  hv_return_t result = HV_SUCCESS;
  for (unsigned n = 0; n < count; ++n)
    if (const hv_return_t one = framework().interrupt(vcpus[n]); one != HV_SUCCESS) result = one;
  return result;
}

hv_return_t hv_vmx_read_capability(hv_vmx_capability_t field, uint64_t* value) {
  const hv::sim::Capabilities& offer = hv::sim::offer();
  switch (field) {
    case HV_VMX_CAP_PINBASED: *value = offer.pin; return HV_SUCCESS;
    case HV_VMX_CAP_PROCBASED: *value = offer.primary; return HV_SUCCESS;
    case HV_VMX_CAP_PROCBASED2: *value = offer.secondary; return HV_SUCCESS;
    case HV_VMX_CAP_ENTRY: *value = offer.entry; return HV_SUCCESS;
    case HV_VMX_CAP_EXIT: *value = offer.exit; return HV_SUCCESS;
    case HV_VMX_CAP_CR0_FIXED0: *value = offer.cr0_fixed0; return HV_SUCCESS;
    case HV_VMX_CAP_CR0_FIXED1: *value = offer.cr0_fixed1; return HV_SUCCESS;
    case HV_VMX_CAP_CR4_FIXED0: *value = offer.cr4_fixed0; return HV_SUCCESS;
    case HV_VMX_CAP_CR4_FIXED1: *value = offer.cr4_fixed1; return HV_SUCCESS;
    default: return HV_UNSUPPORTED;
  }
}
hv_return_t hv_vmx_vcpu_read_vmcs(hv_vcpuid_t vcpu, uint32_t field, uint64_t* value) {
  return with(vcpu, [&](VirtualCpu& v) {
    return v.vmcs.read(field, *value) == hv::sim::Access::kDone;
  });
}
hv_return_t hv_vmx_vcpu_write_vmcs(hv_vcpuid_t vcpu, uint32_t field, uint64_t value) {
  return with(vcpu, [&](VirtualCpu& v) {
    return v.vmcs.write(field, value) == hv::sim::Access::kDone;
  });
}

uint64_t mach_absolute_time(void) {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::nanoseconds{now}.count());
}
int mach_timebase_info(mach_timebase_info_data_t* info) {
  *info = {1, 1};
  return 0;
}

int sysctlbyname(const char* name, void* value, size_t* size, void*, size_t) {
  static const std::uint64_t kFrequency = hv::sim::measure_tsc();
  if (std::strcmp(name, "kern.hv_support") == 0) return hv::sim::give(int{1}, value, size);
  if (std::strcmp(name, "machdep.tsc.frequency") == 0)
    return hv::sim::give(kFrequency, value, size);
  return -1;
}

}  // extern "C"

#include "accel/kvm/machine.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "accel/kvm/limits.h"
#include "accel/kvm/split_probe.h"
#include "accel/kvm/state.h"
#include "accel/kvm/switches.h"
#include "accel/kvm/vcpu.h"
#include "accel/msr_policy.h"

namespace hv::kvm {
namespace {

// Three pages for a TSS and one of page tables, which VMX without unrestricted guests needs
// somewhere (api.rst, KVM_SET_TSS_ADDR): below the flash of a PC, where nothing of ours is.
constexpr unsigned long kTssAt = 0xfeff'd000;
constexpr std::uint64_t kIdentityMapAt = 0xfeff'c000;

// The MSRs that the guest reaches without us; every other one is answered from our own tables.
struct Passed {
  std::uint32_t index;
  bool write;
};
constexpr Passed kAlwaysPassed[] = {
    {kMsrEfer, true}, {kMsrFsBase, true}, {kMsrGsBase, true}, {kMsrTsc, false},
    {kMsrPredCmd, true}};  // a barrier is the hardware's to make; what it refuses comes to us

// Two ranges hold them all: [0, 0x2000) and [0xc0000000, 0xc0002000).
constexpr std::uint32_t kRangeLength = 0x2000;
constexpr std::uint32_t kBases[] = {0, 0xc000'0000};
using Bitmap = std::array<std::uint8_t, kRangeLength / 8>;
struct Bitmaps {
  Bitmap read[2]{}, write[2]{};

  void pass(std::uint32_t index, bool writes) {
    const unsigned range = index >= kBases[1] ? 1 : 0;
    const std::uint32_t at = index - kBases[range];
    const auto bit = static_cast<std::uint8_t>(1u << (at & 7));
    read[range][at / 8] |= bit;
    if (writes) write[range][at / 8] |= bit;
  }
};

}  // namespace

std::unique_ptr<KvmMachine> KvmMachine::create(GuestMemory& memory, bool host_cpu,
                                               std::string& error) {
  Handle vm;
  do vm = Handle{host().device.call(KVM_CREATE_VM)};
  while (!vm && errno == EINTR);
  if (!vm) {
    error = std::string{"KVM_CREATE_VM: "} + std::strerror(errno);
    return nullptr;
  }
  std::unique_ptr<KvmMachine> machine{new KvmMachine{memory, host_cpu, std::move(vm)}};
  error = machine->configure();
  if (!error.empty()) return nullptr;
  return machine;
}

std::string KvmMachine::configure() {
  const auto failed = [](const char* what) { return std::string{what} + ": " + std::strerror(errno); };
  const int length = host().device.call(KVM_GET_VCPU_MMAP_SIZE);
  if (length <= 0) return failed("KVM_GET_VCPU_MMAP_SIZE");
  run_length_ = static_cast<std::size_t>(length);
  (void)vm_.call(KVM_SET_TSS_ADDR, kTssAt);  // refused on AMD by some kernels, and not needed there
  std::uint64_t identity = kIdentityMapAt;
  (void)vm_.call(KVM_SET_IDENTITY_MAP_ADDR, &identity);
  for (const Slot& slot : slots())
    if (!map(slot, false)) return failed("KVM_SET_USER_MEMORY_REGION");
  // What the kernel's emulator does not know is our interpreter's to run, at every privilege.
  (void)enable(KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1);
  if (!divert_msrs()) return failed("KVM_X86_SET_MSR_FILTER");
  bells_ = Ioeventfds::create(vm_);
  if (host_cpu_ && has_clock()) clock_ = std::make_unique<KvmClock>(vm_);
  choice_ = switched("split-irqchip") ? Apics::kKernels
            : switched("own-apics")   ? Apics::kOurs
                                      : Apics::kFaster;
  return {};
}

std::array<KvmMachine::Slot, 2> KvmMachine::slots() const {
  return {{{0, Gpa{0}, memory().low_size()}, {1, Gpa{kHighBase}, memory().high_size()}}};
}

// Mapped again with another wish for a log, a slot keeps what is in it.
bool KvmMachine::map(const Slot& slot, bool logged) {
  if (slot.size == 0) return true;
  kvm_userspace_memory_region region{};
  region.slot = slot.number;
  region.flags = logged ? KVM_MEM_LOG_DIRTY_PAGES : 0;
  region.guest_phys_addr = raw(slot.at);
  region.memory_size = slot.size;
  region.userspace_addr = reinterpret_cast<std::uint64_t>(memory().host(slot.at));
  return vm_.call(KVM_SET_USER_MEMORY_REGION, &region) == 0;
}

// A log of the kernel's begins empty only where there was none.
bool KvmMachine::log_hardware_writes(bool on) {
  for (const Slot& slot : slots())
    if (!map(slot, false)) return false;
  for (const Slot& slot : slots())
    if (on && !map(slot, true)) return false;
  return true;
}

bool KvmMachine::gather_hardware_writes() {
  if (!memory().dirty_log().on()) return true;
  for (const Slot& slot : slots())
    if (!gather(slot)) return false;
  return true;
}

// api.rst, KVM_GET_DIRTY_LOG: a bit a page of the slot, in words of 64; taken, they are clear.
bool KvmMachine::gather(const Slot& slot) {
  if (slot.size == 0) return true;
  constexpr std::uint64_t kWordBytes = kPageSize * DirtyLog::kWordPages;
  std::vector<std::uint64_t> pages((slot.size + kWordBytes - 1) / kWordBytes);
  kvm_dirty_log log{};
  log.slot = slot.number;
  log.dirty_bitmap = pages.data();
  if (vm_.call(KVM_GET_DIRTY_LOG, &log) != 0) return false;
  // Only low memory of 3 GiB has any above it: that begins on a word of the log too.
  memory().dirty_log().mark(memory().page_number(slot.at), pages);
  return true;
}

bool KvmMachine::enable(std::uint32_t capability, std::uint64_t argument) {
  kvm_enable_cap wanted{};
  wanted.cap = capability;
  wanted.args[0] = argument;
  return vm_.call(KVM_ENABLE_CAP, &wanted) == 0;
}

bool KvmMachine::divert_msrs() {
  constexpr std::uint64_t kReasons =
      KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER;
  if (!enable(KVM_CAP_X86_USER_SPACE_MSR, kReasons)) return false;
  Bitmaps bitmaps;
  for (const Passed& msr : kAlwaysPassed) bitmaps.pass(msr.index, msr.write);
  for (const HardwareMsr& msr : kHardwareMsrs)
    if (host().has_msr(msr.index)) bitmaps.pass(msr.index, msr.passes_writes);
  if (split_ != nullptr) bitmaps.pass(kMsrApicBase, true), bitmaps.pass(kMsrTscDeadline, true);
  kvm_msr_filter filter{};
  filter.flags = KVM_MSR_FILTER_DEFAULT_DENY;
  unsigned n = 0;
  for (unsigned range = 0; range < 2; ++range) {
    filter.ranges[n++] = {KVM_MSR_FILTER_READ, kRangeLength, kBases[range],
                          bitmaps.read[range].data()};
    filter.ranges[n++] = {KVM_MSR_FILTER_WRITE, kRangeLength, kBases[range],
                          bitmaps.write[range].data()};
  }
  return vm_.call(KVM_X86_SET_MSR_FILTER, &filter) == 0;
}

// The MSRs of the local APIC go past the filter with it; x2APIC's always do.
KernelApics* KvmMachine::use_kernel_apics() {
  const bool wanted = choice_ == Apics::kKernels ||
                      (choice_ == Apics::kFaster && own_apics_reason().empty());
  if (wanted) split_ = SplitIrqchip::create(vm_);
  if (split_ != nullptr && !divert_msrs()) std::perror("kvm: KVM_X86_SET_MSR_FILTER");
  return split_.get();
}

std::string KvmMachine::refused_state(const CpuState& state) const {
  return kvm::refused_state(state, host_cpu_ ? host_cpuid_table({}) : cpuid_table({}));
}

bool KvmMachine::amd_cpu() const {
  const kvm_cpuid_entry2* const vendor = host().leaf(0);
  return host_cpu_ && vendor != nullptr && is_amd(vendor->ebx);
}

std::vector<CpuidLeaf> KvmMachine::own_cpuid(std::uint32_t count) const {
  if (!host_cpu_) return {};
  return host_cpuid_here({0, count});
}

std::unique_ptr<Vcpu> KvmMachine::create_vcpu(const VcpuWiring& wiring) {
  return std::make_unique<KvmVcpu>(*this, wiring);
}

}  // namespace hv::kvm

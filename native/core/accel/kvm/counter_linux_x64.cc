// Whether a guest's time-stamp counter can be set apart from the host's: KVM under which guest code
// runs as a plain process (kvm_pvm) takes an offset and does not apply it. Only a guest can tell.
#include <cstring>

#include "accel/kvm/api.h"
#include "accel/kvm/mapping.h"

namespace hv::kvm {
namespace {

constexpr std::uint64_t kPage = 4096, kFar = 1ull << 60;
constexpr std::uint8_t kReadCounter[] = {0x0f, 0x31, 0xf4};  // rdtsc; hlt

// The counter as the guest reads it in real mode at address 0; 0 where it could not run.
std::uint64_t read_in_guest(const Handle& vcpu, const kvm_run& run) {
  kvm_sregs system{};
  kvm_regs regs{};
  if (vcpu.call(KVM_GET_SREGS, &system) != 0) return 0;
  system.cs.base = 0;
  system.cs.selector = 0;
  regs.rflags = 2;
  if (vcpu.call(KVM_SET_SREGS, &system) != 0 || vcpu.call(KVM_SET_REGS, &regs) != 0) return 0;
  if (vcpu.call(KVM_RUN) != 0 || run.exit_reason != KVM_EXIT_HLT) return 0;
  if (vcpu.call(KVM_GET_REGS, &regs) != 0) return 0;
  return regs.rdx << 32 | (regs.rax & 0xffff'ffff);
}

bool set_far_ahead(const Handle& vcpu) {
  std::uint64_t offset = kFar;
  kvm_device_attr attribute{};
  attribute.group = KVM_VCPU_TSC_CTRL;
  attribute.attr = KVM_VCPU_TSC_OFFSET;
  attribute.addr = reinterpret_cast<std::uint64_t>(&offset);
  // Before Linux 5.16 there is no such attribute, and none of those kernels lacks the offset.
  return vcpu.call(KVM_SET_DEVICE_ATTR, &attribute) == 0;
}

bool probe() {
  const int length = host().device.call(KVM_GET_VCPU_MMAP_SIZE);
  const Handle vm{host().device.call(KVM_CREATE_VM)};
  const Mapping page{kPage, -1};
  if (length <= 0 || !vm || page.at == MAP_FAILED) return true;
  std::memcpy(page.at, kReadCounter, sizeof kReadCounter);
  kvm_userspace_memory_region region{};
  region.memory_size = kPage;
  region.userspace_addr = reinterpret_cast<std::uint64_t>(page.at);
  if (vm.call(KVM_SET_USER_MEMORY_REGION, &region) != 0) return true;
  const Handle vcpu{vm.call(KVM_CREATE_VCPU)};
  if (!vcpu || !set_far_ahead(vcpu)) return true;
  const Mapping run{static_cast<std::size_t>(length), vcpu.fd()};
  if (run.at == MAP_FAILED) return true;
  const std::uint64_t counter = read_in_guest(vcpu, *static_cast<const kvm_run*>(run.at));
  return counter == 0 || counter >= kFar / 2;
}

}  // namespace

bool counter_can_be_offset() {
  static const bool can = probe();
  return can;
}

}  // namespace hv::kvm

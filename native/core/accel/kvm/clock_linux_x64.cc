#include "accel/kvm/clock.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace hv::kvm {

bool has_clock() {
  const kvm_cpuid_entry2* const features = host().leaf(kFeaturesLeaf);
  return features != nullptr && (features->eax & 1u << 3) != 0 && host().has_msr(kMsrSystemTime) &&
         host().device.call(KVM_CHECK_EXTENSION, KVM_CAP_ADJUST_CLOCK) > 0;
}

// api.rst, KVM_SET_CLOCK: the kernel's runs on while the VM is paused. The vCPUs' pages follow at their
// next entry.
void KvmClock::start() {
  kvm_clock_data data{};
  data.clock = stands_at_;
  if (vm_.call(KVM_SET_CLOCK, &data) != 0)
    std::fprintf(stderr, "kvm: KVM_SET_CLOCK: %s\n", std::strerror(errno));
  runs_ = true;
}

void KvmClock::stop() {
  if (!runs_) return;
  runs_ = false;
  kvm_clock_data data{};
  if (vm_.call(KVM_GET_CLOCK, &data) == 0 && data.clock > stands_at_) stands_at_ = data.clock;
}

}  // namespace hv::kvm

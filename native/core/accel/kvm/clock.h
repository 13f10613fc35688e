// KVM's clock: the kernel keeps it in a page of each vCPU's that asked for it with an MSR, and says
// what it is when its counter was what (Linux, Documentation/virt/kvm/x86/msr.rst).
#pragma once
#include <cstdint>

#include "accel/accelerator.h"
#include "accel/kvm/api.h"

namespace hv::kvm {

inline constexpr std::uint32_t kMsrWallClock = 0x4b56'4d00, kMsrSystemTime = 0x4b56'4d01;
// cpuid.rst: the leaf of KVM's features, KVM_FEATURE_CLOCKSOURCE2 there, and that all pages agree.
inline constexpr std::uint32_t kFeaturesLeaf = 0x4000'0001;
inline constexpr std::uint32_t kClockFeatures = 1u << 3 | 1u << 24;

// Where this host's KVM has the clock and lets it be set.
bool has_clock();

class KvmClock final : public ParavirtualClock {
 public:
  explicit KvmClock(const Handle& vm) : vm_{vm} {}
  void start() override;
  void stop() override;
  std::uint64_t now() const override { return stands_at_; }
  void set(std::uint64_t nanoseconds) override { stands_at_ = nanoseconds; }

 private:
  const Handle& vm_;
  bool runs_ = false;
  std::uint64_t stands_at_ = 0;
};

}  // namespace hv::kvm

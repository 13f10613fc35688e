// A VM of KVM's: memory slots over the guest mapping, no interrupt controller of the kernel's, and
// the time-stamp counter that its vCPUs share.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "accel/accelerator.h"
#include "accel/host_counter.h"
#include "accel/kvm/api.h"

namespace hv::kvm {

class KvmMachine final : public Machine {
 public:
  // nullptr and `error`, a sentence.
  static std::unique_ptr<KvmMachine> create(GuestMemory& memory, std::string& error);

  std::unique_ptr<Vcpu> create_vcpu(const VcpuWiring& wiring) override;

  const Handle& vm() const { return vm_; }
  GuestMemory& memory() const { return memory_; }
  std::size_t run_length() const { return run_length_; }

  CounterOffset& counter() { return counter_; }

 private:
  KvmMachine(GuestMemory& memory, Handle vm) : memory_{memory}, vm_{std::move(vm)} {}
  std::string configure();
  bool map(std::uint32_t slot, Gpa at, std::uint64_t size);
  bool enable(std::uint32_t capability, std::uint64_t argument);
  bool divert_msrs();

  GuestMemory& memory_;
  const Handle vm_;
  std::size_t run_length_ = 0;
  CounterOffset counter_;
};

}  // namespace hv::kvm

// The process's VM of Hypervisor.framework: the guest mapping, and the time-stamp counter that its
// vCPUs share.
#pragma once
#include <memory>
#include <string>

#include "accel/accelerator.h"
#include "accel/host_counter.h"

namespace hv::hvf {

class HvfMachine final : public Machine {
 public:
  // nullptr and `error`, a sentence.
  static std::unique_ptr<HvfMachine> create(GuestMemory& memory, std::string& error);
  ~HvfMachine() override;

  std::unique_ptr<Vcpu> create_vcpu(const VcpuWiring& wiring) override;

  GuestMemory& memory() const { return memory_; }
  CounterOffset& counter() { return counter_; }

 private:
  explicit HvfMachine(GuestMemory& memory) : memory_{memory} {}
  std::string map(Gpa at, std::uint64_t size);

  GuestMemory& memory_;
  CounterOffset counter_;
};

}  // namespace hv::hvf

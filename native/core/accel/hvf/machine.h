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

  CounterOffset& counter() { return counter_; }

  // A vCPU's thread, which has left the guest for a write to RAM: the log has the page, which may
  // be written from then on. False: the framework will not let it.
  bool note_write(Gpa at);

 private:
  explicit HvfMachine(GuestMemory& memory) : Machine{memory} {}
  std::string map(Gpa at, std::uint64_t size);
  bool protect(Gpa at, std::uint64_t size, bool writable);
  bool log_hardware_writes(bool on) override;
  bool gather_hardware_writes() override;

  CounterOffset counter_;
};

}  // namespace hv::hvf

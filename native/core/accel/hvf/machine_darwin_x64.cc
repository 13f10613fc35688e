#include "accel/hvf/machine.h"

#include <Hypervisor/hv.h>

#include "accel/hvf/host.h"
#include "accel/hvf/vcpu.h"

namespace hv::hvf {

std::unique_ptr<HvfMachine> HvfMachine::create(GuestMemory& memory, std::string& error) {
  // Asked before there is a VM: to ask, it makes one.
  if (!host().unusable.empty()) {
    error = host().unusable;
    return nullptr;
  }
  const hv_return_t created = hv_vm_create(HV_VM_DEFAULT);
  if (created != HV_SUCCESS) {
    error = "hv_vm_create: " + describe(created);
    return nullptr;
  }
  std::unique_ptr<HvfMachine> machine{new HvfMachine{memory}};
  error = machine->map(Gpa{0}, memory.low_size());
  if (error.empty()) error = machine->map(Gpa{kHighBase}, memory.high_size());
  if (!error.empty()) return nullptr;
  return machine;
}

// Every vCPU has ended by then, as the framework demands.
HvfMachine::~HvfMachine() { hv_vm_destroy(); }

std::string HvfMachine::map(Gpa at, std::uint64_t size) {
  if (size == 0) return {};
  const hv_return_t mapped = hv_vm_map(memory_.host(at), raw(at), size,
                                       HV_MEMORY_READ | HV_MEMORY_WRITE | HV_MEMORY_EXEC);
  return mapped == HV_SUCCESS ? std::string{} : "hv_vm_map: " + describe(mapped);
}

std::unique_ptr<Vcpu> HvfMachine::create_vcpu(const VcpuWiring& wiring) {
  return std::make_unique<HvfVcpu>(*this, wiring);
}

}  // namespace hv::hvf

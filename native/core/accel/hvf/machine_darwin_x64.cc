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
  const hv_return_t mapped = hv_vm_map(memory().host(at), raw(at), size,
                                       HV_MEMORY_READ | HV_MEMORY_WRITE | HV_MEMORY_EXEC);
  return mapped == HV_SUCCESS ? std::string{} : "hv_vm_map: " + describe(mapped);
}

bool HvfMachine::protect(Gpa at, std::uint64_t size, bool writable) {
  hv_memory_flags_t rights = HV_MEMORY_READ | HV_MEMORY_EXEC;
  if (writable) rights |= HV_MEMORY_WRITE;
  return size == 0 || hv_vm_protect(raw(at), size, rights) == HV_SUCCESS;
}

// The framework has no log of its own: pages that are to be logged are read-only until they are
// written.
bool HvfMachine::log_hardware_writes(bool on) {
  return protect(Gpa{0}, memory().low_size(), !on) &&
         protect(Gpa{kHighBase}, memory().high_size(), !on);
}

// What is about to be taken is to be noticed again.
bool HvfMachine::gather_hardware_writes() {
  bool done = true;
  memory().dirty_log().each([&](std::uint64_t page) {
    done = protect(memory().page_at(page), kPageSize, false) && done;
  });
  return done;
}

bool HvfMachine::note_write(Gpa at) {
  DirtyLog& log = memory().dirty_log();
  if (!log.on()) return true;
  log.mark(memory().page_number(at));
  return protect(Gpa{raw(at) & kPageMask}, kPageSize, true);
}

std::unique_ptr<Vcpu> HvfMachine::create_vcpu(const VcpuWiring& wiring) {
  return std::make_unique<HvfVcpu>(*this, wiring);
}

}  // namespace hv::hvf

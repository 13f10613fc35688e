#include "accelerator.h"

#include "accel/hvf/accelerator.h"
#include "framework.h"

namespace hv::sim {
namespace {

// Tells the simulation first which memory the machine is about to map.
class SimulatedHvf final : public Accelerator {
 public:
  std::string_view name() const override { return "hvf"; }
  std::optional<std::string> unavailable() const override {
    return hvf::accelerator().unavailable();
  }
  std::unique_ptr<Machine> create_machine(GuestMemory& memory) const override {
    attach(memory);
    return hvf::accelerator().create_machine(memory);
  }
  bool one_vm_a_process() const override { return true; }
};

}  // namespace

const Accelerator& simulated_hvf() {
  static const SimulatedHvf only;
  return only;
}

}  // namespace hv::sim

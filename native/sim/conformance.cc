// The simulated Mac among the accelerators of the conformance suite.
#include "accel/conformance_rig.h"
#include "accelerator.h"

namespace {

const bool kListed = [] {
  hv::conformance::others().push_back(&hv::sim::simulated_hvf());
  return true;
}();

}  // namespace

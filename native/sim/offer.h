// What the simulated processor's VMX offers: SDM Vol. 3, appendix "VMX Capability Reporting
// Facility".
#pragma once
#include "accel/hvf/controls.h"

namespace hv::sim {

using hvf::Capabilities;

// That of a Mac of 2013 or later, less what the framework keeps to itself.
Capabilities default_offer();
// What the processor that runs now offers. Tests take features away; only while there is no VM.
Capabilities& offer();

}  // namespace hv::sim

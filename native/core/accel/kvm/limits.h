// Where this host's KVM ends: what a guest is told of it, and the states that it cannot enter.
#pragma once
#include <string>

#include "accel/cpu_state.h"
#include "accel/cpuid_policy.h"
#include "accel/kvm/api.h"

namespace hv::kvm {

CpuidTable cpuid_table(CpuidSubject cpu);

// Why no vCPU here can go on from `state`, beginning with its field; empty where one can. Asks the
// kernel, whose answer no capability and no CPUID leaf foretells.
std::string refused_state(const CpuState& state);

}  // namespace hv::kvm

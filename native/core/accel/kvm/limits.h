// Where this host's KVM ends: what a guest is told of it, and the states that it cannot enter.
#pragma once
#include <string>
#include <vector>

#include "accel/cpu_state.h"
#include "accel/host_cpuid.h"
#include "accel/kvm/api.h"

namespace hv::kvm {

// The policy, less what the host's KVM lacks.
CpuidTable cpuid_table(CpuidSubject cpu);
// The host's own CPU, as far as it can be passed on.
std::vector<CpuidLeaf> host_cpuid_here(CpuidSubject cpu);
CpuidTable host_cpuid_table(const CpuidSubject& cpu);

// Why no vCPU here can go on from `state`, beginning with its field; empty where one can. Asks the
// kernel, whose answer no capability and no CPUID leaf foretells, with a vCPU that has `cpuid`.
std::string refused_state(const CpuState& state, const CpuidTable& cpuid);

}  // namespace hv::kvm

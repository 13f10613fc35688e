// Whether the kernel's local APICs are sound and faster than ours, found out by a guest of a few
// instructions, once a process.
#pragma once
#include <string>

namespace hv::kvm {

// Why this host's KVM cannot keep local APICs as the machine needs them; empty where it can.
const std::string& split_irqchip_lacks();
// The same, or that they are no faster than ours; empty where they are.
const std::string& own_apics_reason();

}  // namespace hv::kvm

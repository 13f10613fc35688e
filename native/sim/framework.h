// The simulated Hypervisor.framework as tests reach behind it.
#pragma once
#include "memory/guest_memory.h"

namespace hv::sim {

// The guest memory that the next VM will map: before hv_vm_create().
void attach(GuestMemory& memory);

}  // namespace hv::sim

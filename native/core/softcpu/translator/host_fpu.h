// The guest's x87 on the host's own. While State::fpu_here is set the host's registers, status and
// control word are the guest's and Cpu::fpu is stale (but for the pointers that FNSTENV shows, which
// translated code keeps there). Unlike the XMM registers they stay while C++ runs: compiled code
// never touches the x87, and the handlers that look at Cpu::fpu ask for it with Cpu::settle_fpu().
//
// Only a guest that masks all six exceptions has its x87 here, so that the host never sees one.
#pragma once

namespace hv::softcpu {
class Cpu;
}

namespace hv::softcpu::translator {

// From the host to Cpu::fpu. The host's x87 is as a C++ program expects it afterwards.
void save_fpu(Cpu& cpu);
// From Cpu::fpu to the host; not where an exception is unmasked or pending, or CR0 traps the x87.
void load_fpu(Cpu& cpu);

}  // namespace hv::softcpu::translator

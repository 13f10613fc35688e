// The kernel's structures of a vCPU's state from and to CpuState.
#pragma once
#include "accel/cpu_state.h"
#include "accel/kvm/api.h"
#include "accel/xsave_area.h"

namespace hv::kvm {

void put_registers(const CpuState& s, kvm_regs& out);
void get_registers(const kvm_regs& in, CpuState& s);

// `out` holds what KVM_GET_SREGS said; apic_base and cr8 are the caller's.
void put_system(const CpuState& s, kvm_sregs& out);
void get_system(const kvm_sregs& in, CpuState& s);

void put_debug(const CpuState& s, kvm_debugregs& out);
void get_debug(const kvm_debugregs& in, CpuState& s);

// Of the events in flight only the acknowledged interrupt is kept: an exception is a fault whose
// instruction runs again, #DB is kept as pending, and NMIs are the caller's.
void put_events(const CpuState& s, kvm_vcpu_events& out);
void get_events(const kvm_vcpu_events& in, CpuState& s);

// The MSRs that the hardware holds while the guest runs, where the host has them.
// Where the kernel would take a value that the architecture refuses, writes come to us first.
struct HardwareMsr {
  std::uint32_t index;
  std::uint64_t CpuState::*at;
  bool passes_writes = true;
};
inline constexpr HardwareMsr kHardwareMsrs[] = {
    {0x048, &CpuState::spec_ctrl},         {0x174, &CpuState::sysenter_cs},
    {0x175, &CpuState::sysenter_esp, false},     {0x176, &CpuState::sysenter_eip, false},
    {0xc0000081, &CpuState::star},         {0xc0000082, &CpuState::lstar},
    {0xc0000083, &CpuState::cstar},        {0xc0000084, &CpuState::fmask},
    {0xc0000102, &CpuState::kernel_gs_base}, {0xc0000103, &CpuState::tsc_aux},
};

}  // namespace hv::kvm

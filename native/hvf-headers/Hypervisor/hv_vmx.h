// The VMCS of a vCPU, by the encodings of Intel SDM Vol. 3, appendix "Field Encoding in VMCS", and
// what the host's VMX offers, by the layout of the capability MSRs (appendix "VMX Capability
// Reporting Facility").
#pragma once
#include <stdint.h>

#include <Hypervisor/hv.h>

#ifdef __cplusplus
extern "C" {
#endif

// Of controls: bits 31:0 are those that must be 1, bits 63:32 those that may be 1. From BASIC on
// macOS 11 answers.
typedef enum {
  HV_VMX_CAP_PINBASED = 0,
  HV_VMX_CAP_PROCBASED = 1,
  HV_VMX_CAP_PROCBASED2 = 2,
  HV_VMX_CAP_ENTRY = 3,
  HV_VMX_CAP_EXIT = 4,
  HV_VMX_CAP_BASIC = 5,
  HV_VMX_CAP_TRUE_PINBASED = 6,
  HV_VMX_CAP_TRUE_PROCBASED = 7,
  HV_VMX_CAP_TRUE_ENTRY = 8,
  HV_VMX_CAP_TRUE_EXIT = 9,
  HV_VMX_CAP_MISC = 10,
  HV_VMX_CAP_CR0_FIXED0 = 11,
  HV_VMX_CAP_CR0_FIXED1 = 12,
  HV_VMX_CAP_CR4_FIXED0 = 13,
  HV_VMX_CAP_CR4_FIXED1 = 14,
  HV_VMX_CAP_VMCS_ENUM = 15,
  HV_VMX_CAP_EPT_VPID_CAP = 16,
  HV_VMX_CAP_PREEMPTION_TIMER = 32,
} hv_vmx_capability_t;

hv_return_t hv_vmx_read_capability(hv_vmx_capability_t field, uint64_t* value);
hv_return_t hv_vmx_vcpu_read_vmcs(hv_vcpuid_t vcpu, uint32_t field, uint64_t* value);
hv_return_t hv_vmx_vcpu_write_vmcs(hv_vcpuid_t vcpu, uint32_t field, uint64_t value);

#ifdef __cplusplus
}
#endif

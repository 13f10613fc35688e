// VMs, guest memory and vCPUs: the part of Hypervisor.framework on Intel Macs that is used here.
// One VM a process; a vCPU belongs to the thread that made it, which alone may call for it, but
// for hv_vcpu_interrupt().
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <Hypervisor/hv_arch_x86.h>
#include <Hypervisor/hv_error.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef uint64_t hv_vm_options_t;
typedef uint64_t hv_vcpu_options_t;
typedef uint64_t hv_memory_flags_t;
typedef uint64_t hv_gpaddr_t;
typedef const void* hv_uvaddr_t;
typedef unsigned int hv_vcpuid_t;

enum { HV_VM_DEFAULT = 0 };
enum { HV_VCPU_DEFAULT = 0 };
enum { HV_MEMORY_READ = 1 << 0, HV_MEMORY_WRITE = 1 << 1, HV_MEMORY_EXEC = 1 << 2 };

#define HV_DEADLINE_FOREVER UINT64_MAX  // macOS 10.15

hv_return_t hv_vm_create(hv_vm_options_t flags);
hv_return_t hv_vm_destroy(void);
// All three in whole pages.
hv_return_t hv_vm_map(hv_uvaddr_t uva, hv_gpaddr_t gpa, size_t size, hv_memory_flags_t flags);
hv_return_t hv_vm_unmap(hv_gpaddr_t gpa, size_t size);
hv_return_t hv_vm_protect(hv_gpaddr_t gpa, size_t size, hv_memory_flags_t flags);

hv_return_t hv_vcpu_create(hv_vcpuid_t* vcpu, hv_vcpu_options_t flags);
hv_return_t hv_vcpu_destroy(hv_vcpuid_t vcpu);
hv_return_t hv_vcpu_read_register(hv_vcpuid_t vcpu, hv_x86_reg_t reg, uint64_t* value);
hv_return_t hv_vcpu_write_register(hv_vcpuid_t vcpu, hv_x86_reg_t reg, uint64_t value);
// The XSAVE area of the vCPU, in its standard form.
hv_return_t hv_vcpu_read_fpstate(hv_vcpuid_t vcpu, void* buffer, size_t size);
hv_return_t hv_vcpu_write_fpstate(hv_vcpuid_t vcpu, const void* buffer, size_t size);
// From then on the guest reads and writes the MSR without an exit.
hv_return_t hv_vcpu_enable_native_msr(hv_vcpuid_t vcpu, uint32_t msr, bool enable);
hv_return_t hv_vcpu_read_msr(hv_vcpuid_t vcpu, uint32_t msr, uint64_t* value);
hv_return_t hv_vcpu_write_msr(hv_vcpuid_t vcpu, uint32_t msr, uint64_t value);
hv_return_t hv_vcpu_flush(hv_vcpuid_t vcpu);
hv_return_t hv_vcpu_invalidate_tlb(hv_vcpuid_t vcpu);
hv_return_t hv_vcpu_run(hv_vcpuid_t vcpu);
// macOS 10.15: `deadline` as mach_absolute_time() counts. Unlike hv_vcpu_run() it does not return
// for what is the host's own business.
hv_return_t hv_vcpu_run_until(hv_vcpuid_t vcpu, uint64_t deadline);
hv_return_t hv_vcpu_interrupt(hv_vcpuid_t* vcpus, unsigned int count);  // any thread

#ifdef __cplusplus
}
#endif

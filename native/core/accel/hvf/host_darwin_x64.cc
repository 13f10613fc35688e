#include "accel/hvf/host.h"

#include <Hypervisor/hv.h>
#include <Hypervisor/hv_vmx.h>
#include <cpuid.h>
#include <sys/sysctl.h>

#include <algorithm>
#include <cstdio>

namespace hv::hvf {
namespace {

constexpr std::uint32_t bit(unsigned n) { return 1u << n; }

CpuidRegisters ask_cpu(std::uint32_t leaf) {
  CpuidRegisters r;
  if (__get_cpuid_count(leaf, 0, &r.eax, &r.ebx, &r.ecx, &r.edx) == 0) return {};
  return r;
}

// Features that need a control of VMX, or an MSR that the framework does not give a guest.
constexpr std::uint32_t kPcid = bit(17);              // leaf 1, ECX
constexpr std::uint32_t kInvpcid = bit(10);           // leaf 7, EBX
constexpr std::uint32_t kSpeculation = bit(26) | bit(27) | bit(29) | bit(31);  // leaf 7, EDX
constexpr std::uint32_t kRdtscp = bit(27);            // leaf 8000'0001, EDX

void hide(const Controls& controls, std::uint32_t leaf, CpuidRegisters& r) {
  if (leaf == 1 && !controls.invpcid()) r.ecx &= ~kPcid;
  if (leaf == 7 && !controls.invpcid()) r.ebx &= ~kInvpcid;
  if (leaf == 7) r.edx &= ~kSpeculation;
  if (leaf == 0x8000'0001 && !controls.rdtscp()) r.edx &= ~kRdtscp;
}

std::uint64_t capability(hv_vmx_capability_t which, std::uint64_t otherwise) {
  std::uint64_t value = 0;
  return hv_vmx_read_capability(which, &value) == HV_SUCCESS ? value : otherwise;
}

// Where the framework does not say (before macOS 11): CR0.PE, NE and PG, CR4.VMXE must be 1, and
// every bit that the CPU knows may be.
Capabilities ask_framework() {
  constexpr std::uint64_t kCr0Fixed0 = 0x8000'0021, kCr4Fixed0 = 0x2000;
  Capabilities out;
  out.pin = capability(HV_VMX_CAP_PINBASED, 0);
  out.primary = capability(HV_VMX_CAP_PROCBASED, 0);
  out.secondary = capability(HV_VMX_CAP_PROCBASED2, 0);
  out.exit = capability(HV_VMX_CAP_EXIT, 0);
  out.entry = capability(HV_VMX_CAP_ENTRY, 0);
  out.cr0_fixed0 = capability(HV_VMX_CAP_CR0_FIXED0, kCr0Fixed0);
  out.cr0_fixed1 = capability(HV_VMX_CAP_CR0_FIXED1, 0xffff'ffff);
  out.cr4_fixed0 = capability(HV_VMX_CAP_CR4_FIXED0, kCr4Fixed0);
  out.cr4_fixed1 = capability(HV_VMX_CAP_CR4_FIXED1, 0x37'27ff);
  return out;
}

template <class T>
T ask_kernel(const char* name) {
  T value{};
  std::size_t size = sizeof value;
  if (::sysctlbyname(name, &value, &size, nullptr, 0) != 0) return {};
  return value;
}

std::string why_not_created(hv_return_t result) {
  if (result == HV_DENIED || result == HV_ERROR)
    return "hvf: this program may not make VMs: sign it with the entitlement "
           "com.apple.security.hypervisor (docs/hvf.md)";
  if (result == HV_NO_DEVICE || result == HV_UNSUPPORTED)
    return "hvf: this Mac's processor is not supported by Hypervisor.framework";
  return "hvf: hv_vm_create: " + describe(result);
}

Host ask() {
  Host out;
  if (ask_kernel<int>("kern.hv_support") == 0) {
    out.unusable = "hvf: this Mac has no hardware virtualization, or is a VM that is given none";
    return out;
  }
  out.tsc_hz = ask_kernel<std::uint64_t>("machdep.tsc.frequency");
  const hv_return_t created = hv_vm_create(HV_VM_DEFAULT);
  if (created != HV_SUCCESS) {
    out.unusable = why_not_created(created);
    return out;
  }
  out.controls = negotiate(ask_framework());
  hv_vm_destroy();
  if (out.tsc_hz == 0) out.unusable = "hvf: the kernel does not tell the frequency of the TSC";
  if (!out.controls.missing.empty())
    out.unusable = "hvf: this Mac's processor lacks " + out.controls.missing;
  return out;
}

}  // namespace

std::string describe(int result) {
  static constexpr struct {
    int result;
    const char* words;
  } kResults[] = {{HV_ERROR, "HV_ERROR"},           {HV_BUSY, "HV_BUSY: the process has a VM"},
                  {HV_BAD_ARGUMENT, "HV_BAD_ARGUMENT"}, {HV_NO_RESOURCES, "HV_NO_RESOURCES"},
                  {HV_NO_DEVICE, "HV_NO_DEVICE"},   {HV_DENIED, "HV_DENIED"},
                  {HV_UNSUPPORTED, "HV_UNSUPPORTED"}};
  for (const auto& known : kResults)
    if (known.result == result) return known.words;
  char text[24];
  std::snprintf(text, sizeof text, "0x%x", static_cast<unsigned>(result));
  return text;
}

CpuidRegisters Host::cpuid(const CpuidSubject& subject, std::uint32_t leaf,
                           std::uint32_t sub) const {
  CpuidSubject here = subject;
  here.physical_bits = std::min(subject.physical_bits, ask_cpu(0x8000'0008).eax & 0xff);
  CpuidRegisters r = limit_to_hardware(leaf, cpuid_policy(here, leaf, sub), ask_cpu(leaf));
  hide(controls, leaf, r);
  return r;
}

const Host& host() {
  static const Host asked = ask();
  return asked;
}

}  // namespace hv::hvf

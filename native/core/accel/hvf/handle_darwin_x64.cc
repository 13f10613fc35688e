#include "accel/hvf/handle.h"

#include <mach/mach_time.h>

#include <cstdio>

#include "accel/hvf/host.h"

namespace hv::hvf {
namespace {

std::uint64_t ticks(unsigned milliseconds) {
  static const mach_timebase_info_data_t kBase = [] {
    mach_timebase_info_data_t base{};
    mach_timebase_info(&base);
    return base;
  }();
  return milliseconds * 1'000'000ull * kBase.denom / kBase.numer;
}

}  // namespace

Handle::Handle(VcpuIndex index) : index_{index} {
  must(hv_vcpu_create(&id_, HV_VCPU_DEFAULT), "hv_vcpu_create");
  made_ = !failed_;
}

Handle::~Handle() {
  if (made_) hv_vcpu_destroy(id_);
}

void Handle::must(hv_return_t result, const char* what, std::uint32_t which) const {
  if (result == HV_SUCCESS || failed_) return;
  failed_ = true;
  std::fprintf(stderr, "hvf: vCPU %u: %s(0x%x): %s\n", index_, what, which,
               describe(result).c_str());
}

std::uint64_t Handle::read(Field field) const {
  std::uint64_t value = 0;
  const auto number = static_cast<std::uint32_t>(field);
  must(hv_vmx_vcpu_read_vmcs(id_, number, &value), "hv_vmx_vcpu_read_vmcs", number);
  return value;
}

void Handle::write(Field field, std::uint64_t value) {
  const auto number = static_cast<std::uint32_t>(field);
  must(hv_vmx_vcpu_write_vmcs(id_, number, value), "hv_vmx_vcpu_write_vmcs", number);
}

std::uint64_t Handle::get(hv_x86_reg_t reg) const {
  std::uint64_t value = 0;
  must(hv_vcpu_read_register(id_, reg, &value), "hv_vcpu_read_register", reg);
  return value;
}

void Handle::set(hv_x86_reg_t reg, std::uint64_t value) {
  must(hv_vcpu_write_register(id_, reg, value), "hv_vcpu_write_register", reg);
}

std::uint64_t Handle::msr(std::uint32_t index) const {
  std::uint64_t value = 0;
  must(hv_vcpu_read_msr(id_, index, &value), "hv_vcpu_read_msr", index);
  return value;
}

void Handle::set_msr(std::uint32_t index, std::uint64_t value) {
  must(hv_vcpu_write_msr(id_, index, value), "hv_vcpu_write_msr", index);
}

bool Handle::give_msr(std::uint32_t index) {
  return hv_vcpu_enable_native_msr(id_, index, true) == HV_SUCCESS;
}

void Handle::read_fpu(XsaveArea& out) const {
  must(hv_vcpu_read_fpstate(id_, out.bytes.data(), out.bytes.size()), "hv_vcpu_read_fpstate");
}

void Handle::write_fpu(const XsaveArea& in) {
  must(hv_vcpu_write_fpstate(id_, in.bytes.data(), in.bytes.size()), "hv_vcpu_write_fpstate");
}

void Handle::invalidate_tlb() { must(hv_vcpu_invalidate_tlb(id_), "hv_vcpu_invalidate_tlb"); }

bool Handle::run(unsigned milliseconds) {
  must(hv_vcpu_run_until(id_, mach_absolute_time() + ticks(milliseconds)), "hv_vcpu_run_until");
  return !failed_;
}

}  // namespace hv::hvf

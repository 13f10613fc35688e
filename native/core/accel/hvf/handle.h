// One vCPU of the framework's, made and ended on the thread that runs it. A call that the
// framework refuses leaves a vCPU that cannot run: failed() says so from then on, and the reason
// is told once.
#pragma once
#include <Hypervisor/hv.h>
#include <Hypervisor/hv_vmx.h>

#include <cstdint>

#include "accel/hvf/vmx.h"
#include "accel/xsave_area.h"
#include "base/types.h"

namespace hv::hvf {

class Handle {
 public:
  explicit Handle(VcpuIndex index);
  ~Handle();
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

  hv_vcpuid_t id() const { return id_; }
  bool failed() const { return failed_; }

  std::uint64_t read(Field field) const;
  void write(Field field, std::uint64_t value);
  std::uint64_t get(hv_x86_reg_t reg) const;
  void set(hv_x86_reg_t reg, std::uint64_t value);
  std::uint64_t msr(std::uint32_t index) const;
  void set_msr(std::uint32_t index, std::uint64_t value);
  // False: the framework keeps this MSR to itself.
  bool give_msr(std::uint32_t index);
  void read_fpu(XsaveArea& out) const;
  void write_fpu(const XsaveArea& in);
  void invalidate_tlb();
  // Until something is to be answered, or about `milliseconds` have passed.
  bool run(unsigned milliseconds);

 private:
  void must(hv_return_t result, const char* what, std::uint32_t which = 0) const;

  const VcpuIndex index_;
  hv_vcpuid_t id_ = 0;
  bool made_ = false;
  mutable bool failed_ = false;
};

}  // namespace hv::hvf

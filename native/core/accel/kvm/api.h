// The kernel's /dev/kvm interface (Documentation/virt/kvm/api.rst) as C++ can use it: the
// structures that end in a flexible array have another size in C++ than in C, and with it another
// request number, so they are declared here with room of their own. Linux on x86-64 alone.
#pragma once
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <array>
#include <cstdint>
#include <string>

#include "accel/xsave_area.h"

namespace hv::kvm {

struct CpuidTable {
  std::uint32_t count = 0, padding = 0;
  std::array<kvm_cpuid_entry2, 256> entries{};
};
struct MsrTable {
  std::uint32_t count = 0, padding = 0;
  std::array<kvm_msr_entry, 32> entries{};
};
struct MsrIndexList {
  std::uint32_t count = 0;
  std::array<std::uint32_t, 1024> indices{};
};
struct SignalMask {
  std::uint32_t length = 8;  // of the kernel's sigset_t
  std::array<std::uint8_t, 8> set{};
};

constexpr unsigned long request(unsigned long direction, unsigned long number, unsigned long size) {
  return direction << _IOC_DIRSHIFT | KVMIO << _IOC_TYPESHIFT | number << _IOC_NRSHIFT |
         size << _IOC_SIZESHIFT;
}
constexpr unsigned long kWrite = _IOC_WRITE, kRead = _IOC_READ, kReadWrite = _IOC_READ | _IOC_WRITE;
constexpr unsigned long kGetMsrIndexList = request(kReadWrite, 0x02, 4);
constexpr unsigned long kGetSupportedCpuid = request(kReadWrite, 0x05, 8);
constexpr unsigned long kGetMsrs = request(kReadWrite, 0x88, 8);
constexpr unsigned long kSetMsrs = request(kWrite, 0x89, 8);
constexpr unsigned long kSetSignalMask = request(kWrite, 0x8b, 4);
constexpr unsigned long kGetXsave = request(kRead, 0xa4, sizeof(XsaveArea));
constexpr unsigned long kSetXsave = request(kWrite, 0xa5, sizeof(XsaveArea));
constexpr unsigned long kSetCpuid2 = request(kWrite, 0x90, 8);

// A file descriptor of /dev/kvm, of a VM or of a vCPU.
class Handle {
 public:
  Handle() = default;
  explicit Handle(int fd) : fd_{fd} {}
  ~Handle();
  Handle(Handle&& from) noexcept : fd_{from.fd_} { from.fd_ = -1; }
  Handle& operator=(Handle&& from) noexcept;
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

  explicit operator bool() const { return fd_ >= 0; }
  int fd() const { return fd_; }
  // -1 and errno.
  int call(unsigned long number, unsigned long argument = 0) const {
    return ::ioctl(fd_, number, argument);
  }
  template <class T>
  int call(unsigned long number, T* argument) const {
    return ::ioctl(fd_, number, argument);
  }

 private:
  int fd_ = -1;
};

// What this host's KVM offers, asked once.
struct Host {
  Handle device;
  std::string unusable;  // why not, and what to do; empty when usable
  CpuidTable cpuid;
  MsrIndexList msrs;
  std::uint64_t arch_capabilities = 0;

  bool has_msr(std::uint32_t index) const;
  // 0 where the leaf is unknown.
  const kvm_cpuid_entry2* leaf(std::uint32_t function, std::uint32_t index = 0) const;
};
const Host& host();
// False: every guest reads the host's own time-stamp counter (counter_linux_x64.cc).
bool counter_can_be_offset();

}  // namespace hv::kvm

// What this host's /dev/kvm is good for, and what to do where it is not.
#include <fcntl.h>
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "accel/kvm/api.h"
#include "accel/msr_policy.h"

namespace hv::kvm {

Handle::~Handle() {
  if (fd_ >= 0) ::close(fd_);
}

Handle& Handle::operator=(Handle&& from) noexcept {
  std::swap(fd_, from.fd_);
  return *this;
}

bool Host::has_msr(std::uint32_t index) const {
  const auto end = msrs.indices.begin() + msrs.count;
  return std::find(msrs.indices.begin(), end, index) != end;
}

const kvm_cpuid_entry2* Host::leaf(std::uint32_t function, std::uint32_t index) const {
  for (std::uint32_t i = 0; i < cpuid.count; ++i)
    if (cpuid.entries[i].function == function && cpuid.entries[i].index == index)
      return &cpuid.entries[i];
  return nullptr;
}

namespace {

constexpr char kDevice[] = "/dev/kvm";

struct Needed {
  int capability;
  const char* name;
};
constexpr Needed kNeeded[] = {
    {KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
    {KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT (Linux 4.12)"},
    {KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS"},
    {KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS"},
    {KVM_CAP_XSAVE, "KVM_CAP_XSAVE"},
    {KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},
    {KVM_CAP_GET_TSC_KHZ, "KVM_CAP_GET_TSC_KHZ"},
    {KVM_CAP_X86_USER_SPACE_MSR, "KVM_CAP_X86_USER_SPACE_MSR (Linux 5.10)"},
    {KVM_CAP_X86_MSR_FILTER, "KVM_CAP_X86_MSR_FILTER (Linux 5.10)"},
};

// The group that may open the device, by name where it has one.
std::string device_group() {
  struct stat at {};
  if (::stat(kDevice, &at) != 0 || (at.st_mode & S_IWGRP) == 0) return {};
  char room[1024];
  group entry{};
  group* found = nullptr;
  ::getgrgid_r(at.st_gid, &entry, room, sizeof room, &found);
  return found != nullptr ? found->gr_name : std::to_string(at.st_gid);
}

std::string forbidden() {
  const std::string group = device_group();
  const std::string acl = "give it an ACL (setfacl -m u:" + std::to_string(::geteuid()) +
                          ":rw " + kDevice + ")";
  const std::string user = "kvm: user " + std::to_string(::geteuid()) + " may not open " + kDevice;
  if (group.empty() || group == "root") return user + ": " + acl;
  return user + ": add the user to group " + group + ", or " + acl;
}

std::string why_not_opened(int error) {
  switch (error) {
    case ENOENT:
      return "kvm: this host has no /dev/kvm: load kvm_intel or kvm_amd, and enable "
             "virtualization in the firmware";
    case EACCES:
    case EPERM:
      return forbidden();
    case ENODEV:
    case ENXIO:
      return "kvm: /dev/kvm has no driver behind it: load kvm_intel or kvm_amd";
    default:
      return std::string{"kvm: /dev/kvm cannot be opened: "} + std::strerror(error);
  }
}

std::string why_not_enough(const Handle& device) {
  const int version = device.call(KVM_GET_API_VERSION);
  if (version != KVM_API_VERSION)
    return "kvm: /dev/kvm speaks version " + std::to_string(version) + ", not 12";
  for (const Needed& needed : kNeeded)
    if (device.call(KVM_CHECK_EXTENSION, static_cast<unsigned long>(needed.capability)) <= 0)
      return std::string{"kvm: the host's kernel is too old: it lacks "} + needed.name;
  return {};
}

void ask(Host& host) {
  host.cpuid.count = static_cast<std::uint32_t>(host.cpuid.entries.size());
  if (host.device.call(kGetSupportedCpuid, &host.cpuid) != 0) {
    host.unusable = std::string{"kvm: KVM_GET_SUPPORTED_CPUID fails: "} + std::strerror(errno);
    return;
  }
  host.msrs.count = static_cast<std::uint32_t>(host.msrs.indices.size());
  if (host.device.call(kGetMsrIndexList, &host.msrs) != 0) host.msrs.count = 0;
  MsrTable capabilities;
  capabilities.count = 1;
  capabilities.entries[0].index = kMsrArchCapabilities;
  if (host.device.call(kGetMsrs, &capabilities) == 1)
    host.arch_capabilities = capabilities.entries[0].data;
}

Host open_host() {
  Host host;
  host.device = Handle{::open(kDevice, O_RDWR | O_CLOEXEC)};
  host.unusable = host.device ? why_not_enough(host.device) : why_not_opened(errno);
  if (host.unusable.empty()) ask(host);
  return host;
}

}  // namespace

const Host& host() {
  static const Host opened = open_host();
  return opened;
}

}  // namespace hv::kvm

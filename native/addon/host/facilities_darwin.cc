#include <fcntl.h>
#include <launch.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/sysctl.h>
#include <sys/un.h>
#include <sys/ucred.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "beneath.h"
#include "facilities.h"

namespace hv::host {
namespace {

// <sys/disk.h>, which only Apple's SDK has: of a block device, its sectors.
constexpr unsigned long kBlockSize = _IOR('d', 24, std::uint32_t);
constexpr unsigned long kBlockCount = _IOR('d', 25, std::uint64_t);
constexpr unsigned long kPhysicalBlockSize = _IOR('d', 77, std::uint32_t);

}  // namespace

// fcntl(2): F_NOCACHE has no rules of alignment.
std::size_t direct_alignment(int fd) {
  return ::fcntl(fd, F_NOCACHE, 1) == 0 ? 1 : 2 * kMostAlignment;
}

int block_device(int fd, BlockDevice& out) {
  std::uint64_t count = 0;
  if (::ioctl(fd, kBlockCount, &count) != 0 ||
      ::ioctl(fd, kBlockSize, &out.logical) != 0)
    return errno;
  out.size = count * out.logical;
  if (::ioctl(fd, kPhysicalBlockSize, &out.physical) != 0) out.physical = out.logical;
  return 0;
}

int peer_credentials(int fd, Peer& peer) {
  uid_t uid = 0;
  gid_t gid = 0;
  if (::getpeereid(fd, &uid, &gid) != 0) return errno;
  peer = {static_cast<std::int64_t>(uid), static_cast<std::int64_t>(gid), -1};
  pid_t pid = -1;
  socklen_t size = sizeof pid;
  if (::getsockopt(fd, SOL_LOCAL, LOCAL_PEERPID, &pid, &size) == 0) peer.pid = pid;
  return 0;
}

std::optional<std::string> process_start(pid_t pid) {
  int name[] = {CTL_KERN, KERN_PROC, KERN_PROC_PID, static_cast<int>(pid)};
  kinfo_proc info{};
  std::size_t size = sizeof info;
  if (::sysctl(name, 4, &info, &size, nullptr, 0) != 0 || size == 0) return std::nullopt;
  if (info.kp_proc.p_stat == SZOMB) return std::nullopt;
  const timeval& at = info.kp_proc.p_starttime;
  return std::to_string(at.tv_sec) + "." + std::to_string(at.tv_usec);
}

int signal_process(pid_t pid, const std::string& started, int signal) {
  if (process_start(pid) != started) return ESRCH;
  return ::kill(pid, signal) == 0 ? 0 : errno;
}

int open_beneath(int folder, const std::string& path, int flags, mode_t mode, int& fd) {
  return walk_beneath(folder, path, flags, mode, fd);
}

int launch_activate_socket(const std::string& name, std::vector<int>& fds) {
  int* list = nullptr;
  std::size_t count = 0;
  const int error = ::launch_activate_socket(name.c_str(), &list, &count);
  if (error != 0) return error;
  fds.assign(list, list + count);
  std::free(list);
  return 0;
}

}  // namespace hv::host

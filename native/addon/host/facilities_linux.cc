#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "beneath.h"
#include "facilities.h"

namespace hv::host {
namespace {

// /proc/PID/stat, proc(5): the command's name is in parentheses and may hold any character, so
// counting begins behind the last one. Field 3 is the state, field 22 the start time.
std::optional<std::string> start_field(const std::string& stat) {
  const std::size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos || name_end + 2 >= stat.size()) return std::nullopt;
  std::size_t at = name_end + 2;
  if (stat[at] == 'Z' || stat[at] == 'X') return std::nullopt;
  for (int field = 3; field < 22; ++field) {
    at = stat.find(' ', at);
    if (at == std::string::npos) return std::nullopt;
    ++at;
  }
  return stat.substr(at, stat.find(' ', at) - at);
}

int pidfd_open(pid_t pid) { return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)); }

// Kernels before 5.3, and containers that forbid pidfds: the window between look and kill is
// there, but the number would have to be used again within it.
int signal_by_number(pid_t pid, const std::string& started, int signal) {
  if (process_start(pid) != started) return ESRCH;
  return ::kill(pid, signal) == 0 ? 0 : errno;
}

}  // namespace

// By trying: statx(2) says it only since Linux 6.1, and not of every file system.
std::size_t direct_alignment(int fd) {
  void* memory = nullptr;
  if (::posix_memalign(&memory, 2 * kMostAlignment, kMostAlignment) != 0) return 2 * kMostAlignment;
  std::size_t alignment = 512;
  for (; alignment <= kMostAlignment; alignment *= 2) {
    auto* const at = static_cast<char*>(memory) + (alignment < kMostAlignment ? alignment : 0);
    const std::size_t room = alignment < kMostAlignment ? kMostAlignment - alignment : kMostAlignment;
    if (::pread(fd, at, std::min(alignment, room), static_cast<off_t>(alignment)) >= 0) break;
  }
  std::free(memory);
  return alignment;
}

int block_device(int fd, BlockDevice& out) {
  int logical = 0;
  unsigned physical = 0;
  if (::ioctl(fd, BLKGETSIZE64, &out.size) != 0 || ::ioctl(fd, BLKSSZGET, &logical) != 0 ||
      ::ioctl(fd, BLKPBSZGET, &physical) != 0)
    return errno;
  out.logical = static_cast<std::uint32_t>(logical);
  out.physical = physical;
  return 0;
}

int peer_credentials(int fd, Peer& peer) {
  ucred who{};
  socklen_t size = sizeof who;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) != 0) return errno;
  peer = {who.uid, who.gid, who.pid};
  return 0;
}

std::optional<std::string> process_start(pid_t pid) {
  char path[32];
  std::snprintf(path, sizeof path, "/proc/%d/stat", static_cast<int>(pid));
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return std::nullopt;
  char text[1024];
  const ssize_t length = ::read(fd, text, sizeof text);
  ::close(fd);
  if (length <= 0) return std::nullopt;
  return start_field(std::string{text, static_cast<std::size_t>(length)});
}

int signal_process(pid_t pid, const std::string& started, int signal) {
  const int fd = pidfd_open(pid);
  if (fd < 0) {
    if (errno == ESRCH) return ESRCH;
    return signal_by_number(pid, started, signal);
  }
  // The descriptor holds on to one process: what we see of it now stays true of it.
  int error = process_start(pid) == started ? 0 : ESRCH;
  if (error == 0 && ::syscall(SYS_pidfd_send_signal, fd, signal, nullptr, 0) != 0) error = errno;
  ::close(fd);
  return error;
}

int open_beneath(int folder, const std::string& path, int flags, mode_t mode, int& fd) {
  if (path.empty() || path.find('\0') != std::string::npos) return EINVAL;
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags) | O_CLOEXEC;
  how.mode = (flags & O_CREAT) != 0 ? mode : 0;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  const long got = ::syscall(SYS_openat2, folder, path.c_str(), &how, sizeof how);
  if (got >= 0) {
    fd = static_cast<int>(got);
    return 0;
  }
  if (errno != ENOSYS && errno != EPERM) return errno;  // seccomp filters answer EPERM
  return walk_beneath(folder, path, flags, mode, fd);
}

int launch_activate_socket(const std::string&, std::vector<int>&) { return ENOSYS; }

}  // namespace hv::host

// What a VM process may still ask of the kernel once its machine stands: an allow list, since what
// a guest could make of a fault in us is bounded by it. Nothing else is executed, no process is
// made or traced, no name space, module, mount or key is touched, and sockets are Unix sockets. What
// is not allowed fails with ENOSYS, which libraries take for an old kernel.
//
// seccomp(2), "SECCOMP_SET_MODE_FILTER"; kernel Documentation/userspace-api/seccomp_filter.rst.
// Kernels from 5.11 keep a bitmap of what a filter always allows: the list costs nothing then.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <vector>

#include "facilities.h"

namespace hv::host {
namespace {

#if defined(__x86_64__)
constexpr std::uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#else
constexpr std::uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#endif

// Calls that are as good as reading one's own memory, or act on what is open already.
constexpr long kAllowed[] = {
    // Threads, time, signals to oneself.
    SYS_futex, SYS_sched_yield, SYS_sched_getaffinity, SYS_sched_setaffinity, SYS_gettid,
    SYS_getpid, SYS_exit, SYS_exit_group, SYS_set_robust_list, SYS_get_robust_list,
    SYS_rseq, SYS_membarrier, SYS_restart_syscall, SYS_getcpu, SYS_sched_getparam,
    SYS_sched_getscheduler, SYS_clock_gettime, SYS_clock_getres, SYS_clock_nanosleep,
    SYS_nanosleep, SYS_gettimeofday, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn,
    SYS_rt_sigpending, SYS_rt_sigtimedwait, SYS_sigaltstack, SYS_timer_create, SYS_timer_settime,
    SYS_timer_delete, SYS_timerfd_create, SYS_timerfd_settime, SYS_timerfd_gettime, SYS_wait4,
    SYS_setpriority, SYS_getpriority,
    // Memory.
    SYS_mmap, SYS_munmap, SYS_mprotect, SYS_mremap, SYS_madvise, SYS_brk, SYS_mincore, SYS_msync,
    SYS_memfd_create, SYS_mlock, SYS_munlock, SYS_pkey_alloc, SYS_pkey_mprotect,
    // Descriptors.
    SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_pread64, SYS_pwrite64, SYS_preadv, SYS_pwritev,
    SYS_preadv2, SYS_pwritev2, SYS_close, SYS_close_range, SYS_fstat, SYS_statx, SYS_newfstatat,
    SYS_lseek, SYS_fsync, SYS_fdatasync, SYS_sync_file_range, SYS_fallocate, SYS_ftruncate,
    SYS_fadvise64, SYS_ioctl, SYS_fcntl, SYS_flock, SYS_dup, SYS_dup3, SYS_pipe2, SYS_eventfd2,
    SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait, SYS_epoll_pwait2, SYS_ppoll, SYS_pselect6,
    SYS_copy_file_range, SYS_sendfile, SYS_splice, SYS_fstatfs, SYS_statfs,
    // Files by name: states, captures and media are opened while a VM runs.
    SYS_openat, SYS_openat2, SYS_unlinkat, SYS_mkdirat, SYS_renameat, SYS_renameat2, SYS_readlinkat,
    SYS_symlinkat, SYS_linkat, SYS_faccessat, SYS_faccessat2, SYS_fchmod, SYS_fchmodat,
    SYS_getdents64, SYS_getcwd, SYS_utimensat, SYS_fchown, SYS_umask,
    // Unix sockets (socket itself is looked at below).
    SYS_bind, SYS_listen, SYS_accept, SYS_accept4, SYS_connect, SYS_getsockname, SYS_getpeername,
    SYS_sendto, SYS_recvfrom, SYS_sendmsg, SYS_recvmsg, SYS_sendmmsg, SYS_recvmmsg, SYS_shutdown,
    SYS_setsockopt, SYS_getsockopt,
    // Who and where one is.
    SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid, SYS_getppid, SYS_uname, SYS_sysinfo,
    SYS_getrusage, SYS_getrandom, SYS_prctl, SYS_capget, SYS_set_tid_address,
    SYS_get_mempolicy,
#if defined(__x86_64__)
    // Older names of what is above.
    SYS_open, SYS_stat, SYS_lstat, SYS_access, SYS_unlink, SYS_mkdir, SYS_rename, SYS_readlink,
    SYS_symlink, SYS_chmod, SYS_dup2, SYS_pipe, SYS_poll, SYS_select, SYS_epoll_wait,
    SYS_epoll_create, SYS_eventfd, SYS_time, SYS_arch_prctl, SYS_getdents, SYS_link, SYS_rmdir,
#endif
};

using Program = std::vector<sock_filter>;

constexpr std::uint32_t kNumber = offsetof(seccomp_data, nr);
// Both halves are little-endian in place: the low one is first.
constexpr std::uint32_t argument(unsigned index) {
  return static_cast<std::uint32_t>(offsetof(seccomp_data, args) + 8 * index);
}

void load(Program& p, std::uint32_t offset) {
  p.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset));
}
void answer(Program& p, std::uint32_t action) { p.push_back(BPF_STMT(BPF_RET | BPF_K, action)); }

// Goes on behind the answer where the accumulator is not `value`.
void answer_if_equal(Program& p, std::uint32_t value, std::uint32_t action) {
  p.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1));
  answer(p, action);
}

constexpr std::uint32_t kRefuse = SECCOMP_RET_ERRNO | ENOSYS;

// `call` with an argument that has to be `value` under `mask`.
void allow_call_with(Program& p, long call, unsigned index, std::uint32_t mask,
                     std::uint32_t value, int error) {
  p.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(call), 0, 5));
  load(p, argument(index));
  p.push_back(BPF_STMT(BPF_ALU | BPF_AND | BPF_K, mask));
  p.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1));
  answer(p, SECCOMP_RET_ALLOW);
  answer(p, SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(error));
}

Program filter() {
  Program p;
  load(p, offsetof(seccomp_data, arch));
  p.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kArchitecture, 1, 0));
  answer(p, SECCOMP_RET_KILL_PROCESS);
  load(p, kNumber);
  for (const long call : kAllowed)
    answer_if_equal(p, static_cast<std::uint32_t>(call), SECCOMP_RET_ALLOW);
  // Threads of this process, no process. clone3 hides its flags from filters: C libraries take
  // clone where there is none.
  allow_call_with(p, SYS_clone, 0, CLONE_THREAD, CLONE_THREAD, EPERM);
  // Other processes of the same user are not signalled, nor limited: prlimit64's 0 is oneself.
  allow_call_with(p, SYS_tgkill, 0, ~0u, static_cast<std::uint32_t>(::getpid()), EPERM);
  allow_call_with(p, SYS_prlimit64, 0, ~0u, 0, EPERM);
  allow_call_with(p, SYS_socket, 0, ~0u, AF_UNIX, EAFNOSUPPORT);
  allow_call_with(p, SYS_socketpair, 0, ~0u, AF_UNIX, EAFNOSUPPORT);
  answer(p, kRefuse);
  return p;
}

}  // namespace

int confine(const std::string&, std::string& failed) {
  failed = "setrlimit";
  if (const int error = limit_process()) return error;
  failed = "seccomp";
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno;
  Program program = filter();
  const sock_fprog list{static_cast<unsigned short>(program.size()), program.data()};
  // Above 0: the thread that could not be taken along.
  const long answer = ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &list);
  return answer == 0 ? 0 : answer > 0 ? EAGAIN : errno;
}

}  // namespace hv::host

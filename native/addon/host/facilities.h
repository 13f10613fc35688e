// What the daemon needs of the host and Node lacks. Each returns 0 or an errno value; one file a
// host: facilities_linux.cc, facilities_darwin.cc, what is the same in facilities.cc.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace hv::host {

// A flock(2), exclusive or shared, that does not wait. EWOULDBLOCK: somebody else holds it. Held until every
// descriptor of this open file is closed.
int lock_file(int fd, bool shared);
int unlock_file(int fd);

// What memory, offsets and lengths must be multiples of where the page cache is passed by; more than
// kMostAlignment: no reading works.
inline constexpr std::size_t kMostAlignment = 65536;
std::size_t direct_alignment(int fd);

// Of a block device, in bytes.
struct BlockDevice {
  std::uint64_t size = 0;
  std::uint32_t logical = 0, physical = 0;
};
int block_device(int fd, BlockDevice& out);

struct Peer {
  std::int64_t uid = -1, gid = -1, pid = -1;  // pid -1: the host does not say
};
// Who is on the other end of a connected Unix socket.
int peer_credentials(int fd, Peer& peer);

// When a process was started, in a form that is only good for comparing: with the pid it names a
// process for good while the host is up. nullopt: there is none (or only its zombie).
std::optional<std::string> process_start(pid_t pid);
// Sends a signal to the process that was started then, never to another that got its number.
// ESRCH: it is gone. signal 0 only looks.
int signal_process(pid_t pid, const std::string& started, int signal);

// open(2) of a relative path that cannot leave the folder, neither by ".." nor by links. The new
// descriptor is close-on-exec.
int open_beneath(int folder, const std::string& path, int flags, mode_t mode, int& fd);

// Bytes with descriptors over a Unix socket. `sent` or the sizes received are returned in place;
// received descriptors are close-on-exec. EAGAIN where the socket is not blocking and full or
// empty.
inline constexpr std::size_t kMostDescriptors = 64;
int send_descriptors(int socket, const std::uint8_t* bytes, std::size_t length,
                     const std::vector<int>& fds, std::size_t& sent);
int receive_descriptors(int socket, std::vector<std::uint8_t>& bytes, std::vector<int>& fds);

// A datagram to systemd's NOTIFY_SOCKET. ENOENT: nobody asked for it.
int sd_notify(const std::string& text);

// The sockets that launchd holds for this job. ENOSYS on other hosts.
int launch_activate_socket(const std::string& name, std::vector<int>& fds);

// For good, all threads: no core file, few descriptors, and of the host no more than a VM's process
// has a need of once its machine stands. On Linux that is a list of system calls (seccomp); on macOS
// it is `profile`, in the language of sandbox profiles. `failed` is what did not work, in words.
int confine(const std::string& profile, std::string& failed);

// Part of it that both hosts have: setrlimit(2).
int limit_process();

}  // namespace hv::host

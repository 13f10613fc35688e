#include "facilities.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace hv::host {
namespace {

#ifdef MSG_CMSG_CLOEXEC
constexpr int kCloseOnExec = MSG_CMSG_CLOEXEC;
#else
constexpr int kCloseOnExec = 0;
#endif
#ifdef MSG_NOSIGNAL
constexpr int kNoSignal = MSG_NOSIGNAL;
#else
constexpr int kNoSignal = 0;
#endif

template <class Call>
auto retry(Call call) {
  auto result = call();
  while (result == -1 && errno == EINTR) result = call();
  return result;
}

// Room for the descriptors of one message, aligned as the kernel wants it.
struct ControlBuffer {
  alignas(cmsghdr) char bytes[CMSG_SPACE(kMostDescriptors * sizeof(int))] = {};
};

void take_descriptors(msghdr& message, std::vector<int>& fds) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
       part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
      ::fcntl(fd, F_SETFD, FD_CLOEXEC);
      fds.push_back(fd);
    }
  }
}

}  // namespace

int lock_file(int fd, bool shared) {
  const int how = (shared ? LOCK_SH : LOCK_EX) | LOCK_NB;
  return retry([fd, how] { return ::flock(fd, how); }) == 0 ? 0 : errno;
}

int unlock_file(int fd) { return ::flock(fd, LOCK_UN) == 0 ? 0 : errno; }

int send_descriptors(int socket, const std::uint8_t* bytes, std::size_t length,
                     const std::vector<int>& fds, std::size_t& sent) {
  if (fds.size() > kMostDescriptors || length == 0) return EINVAL;
  iovec part{const_cast<std::uint8_t*>(bytes), length};
  ControlBuffer control;
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    const std::size_t size = fds.size() * sizeof(int);
    message.msg_control = control.bytes;
    message.msg_controllen = static_cast<decltype(message.msg_controllen)>(CMSG_SPACE(size));
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = static_cast<decltype(header->cmsg_len)>(CMSG_LEN(size));
    std::memcpy(CMSG_DATA(header), fds.data(), size);
  }
  const ssize_t done = retry([&] { return ::sendmsg(socket, &message, kNoSignal); });
  if (done < 0) return errno;
  sent = static_cast<std::size_t>(done);
  return 0;
}

int receive_descriptors(int socket, std::vector<std::uint8_t>& bytes, std::vector<int>& fds) {
  iovec part{bytes.data(), bytes.size()};
  ControlBuffer control;
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof control.bytes;
  const ssize_t got = retry([&] { return ::recvmsg(socket, &message, kCloseOnExec); });
  if (got < 0) return errno;
  bytes.resize(static_cast<std::size_t>(got));
  take_descriptors(message, fds);
  if ((message.msg_flags & MSG_CTRUNC) == 0) return 0;
  // More than anybody of ours sends: some are lost, so none is kept.
  for (const int fd : fds) ::close(fd);
  fds.clear();
  return EMSGSIZE;
}

// sd_notify(3), "Notes": the protocol is one datagram of NAME=value lines.
int sd_notify(const std::string& text) {
  const char* const path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr || path[0] == 0) return ENOENT;
  sockaddr_un address{};
  const std::size_t length = std::strlen(path);
  if (length >= sizeof address.sun_path) return ENAMETOOLONG;
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path, length);
  if (path[0] == '@') address.sun_path[0] = 0;  // the abstract namespace
  const int socket = ::socket(AF_UNIX, SOCK_DGRAM, 0);
  if (socket < 0) return errno;
  ::fcntl(socket, F_SETFD, FD_CLOEXEC);
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length);
  const ssize_t sent = retry([&] {
    return ::sendto(socket, text.data(), text.size(), kNoSignal,
                    reinterpret_cast<const sockaddr*>(&address), size);
  });
  const int error = sent < 0 ? errno : 0;
  ::close(socket);
  return error;
}

}  // namespace hv::host

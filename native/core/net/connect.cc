#include "net/connect.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>

namespace hv::net {
namespace {

void set_up(int fd) {
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
}

}  // namespace

int connect_unix(const std::string& path, int& fd) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return ENAMETOOLONG;
  path.copy(address.sun_path, path.size());
  const int made = ::socket(AF_UNIX, SOCK_STREAM, 0);
  if (made < 0) return errno;
  set_up(made);
  if (::connect(made, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    const int error = errno;
    ::close(made);
    return error;
  }
  fd = made;
  return 0;
}

int make_pair(int& ours, int& theirs) {
  int both[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM, 0, both) != 0) return errno;
  set_up(both[0]);
  ::fcntl(both[1], F_SETFD, FD_CLOEXEC);
  ours = both[0];
  theirs = both[1];
  return 0;
}

}  // namespace hv::net

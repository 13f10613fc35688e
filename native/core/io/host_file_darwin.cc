#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "io/host_file.h"

namespace hv::io::host {

// fsync(2) of macOS leaves the data in the drive's cache; where a file system has no F_FULLFSYNC it
// is the best there is.
int sync(int fd) {
  if (::fcntl(fd, F_FULLFSYNC) == 0) return 0;
  while (::fsync(fd) != 0)
    if (errno != EINTR) return errno;
  return 0;
}

int punch(int fd, std::uint64_t offset, std::uint64_t length) {
  fpunchhole_t hole{};
  hole.fp_offset = static_cast<off_t>(offset);
  hole.fp_length = static_cast<off_t>(length);
  if (::fcntl(fd, F_PUNCHHOLE, &hole) == 0) return 0;
  // Only whole blocks can be holes.
  return errno == EINVAL || errno == ENOTSUP ? EOPNOTSUPP : errno;
}

int discard(int fd, std::uint64_t offset, std::uint64_t length) { return punch(fd, offset, length); }

int zero(int, std::uint64_t, std::uint64_t) { return EOPNOTSUPP; }

ssize_t read_now(int, const iovec*, int, std::uint64_t) {
  errno = EAGAIN;
  return -1;
}

}  // namespace hv::io::host

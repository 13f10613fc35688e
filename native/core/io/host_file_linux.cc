#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "io/host_file.h"

namespace hv::io::host {
namespace {

int allocate(int fd, int mode, std::uint64_t offset, std::uint64_t length) {
  for (;;) {
    if (::fallocate(fd, mode, static_cast<off_t>(offset), static_cast<off_t>(length)) == 0) return 0;
    if (errno == EINTR) continue;
    return errno == ENOSYS || errno == EINVAL ? EOPNOTSUPP : errno;
  }
}

}  // namespace

int sync(int fd) {
  while (::fdatasync(fd) != 0)
    if (errno != EINTR) return errno;
  return 0;
}

int punch(int fd, std::uint64_t offset, std::uint64_t length) {
  return allocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
}

// A hole in a block device is a range of zeros, which not every one has for the asking: TRIM is another
// call.
int discard(int fd, std::uint64_t offset, std::uint64_t length) {
  struct stat about{};
  if (::fstat(fd, &about) != 0) return errno;
  if (!S_ISBLK(about.st_mode)) return punch(fd, offset, length);
  std::uint64_t range[2]{offset, length};
  while (::ioctl(fd, BLKDISCARD, range) != 0)
    if (errno != EINTR) return errno == EINVAL || errno == ENOTTY ? EOPNOTSUPP : errno;
  return 0;
}

int zero(int fd, std::uint64_t offset, std::uint64_t length) {
  return allocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, length);
}

ssize_t read_now(int fd, const iovec* pieces, int count, std::uint64_t offset) {
  return ::preadv2(fd, pieces, count, static_cast<off_t>(offset), RWF_NOWAIT);
}

}  // namespace hv::io::host

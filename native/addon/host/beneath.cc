#include "beneath.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace hv::host {
namespace {

int open_at(int folder, const std::string& name, int flags, mode_t mode) {
  int fd = ::openat(folder, name.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, mode);
  while (fd < 0 && errno == EINTR)
    fd = ::openat(folder, name.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, mode);
  return fd;
}

}  // namespace

int walk_beneath(int folder, const std::string& path, int flags, mode_t mode, int& fd) {
  if (path.empty() || path[0] == '/' || path.find('\0') != std::string::npos) return EINVAL;
  int at = folder;
  int error = 0;
  for (std::size_t begin = 0; error == 0;) {
    const std::size_t slash = path.find('/', begin);
    const bool last = slash == std::string::npos;
    const std::string name = path.substr(begin, last ? slash : slash - begin);
    const bool up = name == "..";
    const int next = up ? -1
                        : open_at(at, name.empty() ? "." : name,
                                  last ? flags : O_RDONLY | O_DIRECTORY, mode);
    if (next < 0) error = up ? EXDEV : errno;
    if (at != folder) ::close(at);
    at = next;
    if (last) break;
    begin = slash + 1;
  }
  if (error == 0) fd = at;
  return error;
}

}  // namespace hv::host

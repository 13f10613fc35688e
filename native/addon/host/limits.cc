#include <sys/resource.h>

#include <algorithm>
#include <cerrno>

#include "facilities.h"

namespace hv::host {
namespace {

// Files that a guest can make the process open: connections of its vsock device above all.
constexpr rlim_t kMostFiles = 8192;

template <typename Resource>
int limit(rlim_t most, Resource resource) {
  rlimit now{};
  if (::getrlimit(resource, &now) != 0) return errno;
  const rlimit wanted{std::min(now.rlim_cur, most), std::min(now.rlim_max, most)};
  return ::setrlimit(resource, &wanted) == 0 ? 0 : errno;
}

}  // namespace

int limit_process() {
  // What a crash would leave behind is a guest's memory.
  if (const int error = limit(0, RLIMIT_CORE)) return error;
  return limit(kMostFiles, RLIMIT_NOFILE);
}

}  // namespace hv::host

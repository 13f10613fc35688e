#include <cerrno>

#include "facilities.h"

namespace hv::host {

// macOS has no call with which a process that runs gives up system calls; sandbox_init(3) is
// deprecated and its profiles are undocumented.
int confine() { return ENOSYS; }

}  // namespace hv::host

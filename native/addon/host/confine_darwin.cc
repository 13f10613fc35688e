// sandbox_init(3): public, in libSystem, deprecated since macOS 10.8 and without a successor for
// programs that are no bundles; browsers confine their processes by the same mechanism. The kernel
// keeps the profile with the process's credentials, so that it holds for all threads.
#include <cerrno>
#include <cstdint>

#include "facilities.h"

// <sandbox.h>, which only Apple's SDK has. Without the flag SANDBOX_NAMED (1) the first argument is
// the text of a profile; the message is to be freed by the second function.
extern "C" {
int sandbox_init(const char* profile, std::uint64_t flags, char** message);
void sandbox_free_error(char* message);
}

namespace hv::host {

int confine(const std::string& profile, std::string& failed) {
  failed = "setrlimit";
  if (const int error = limit_process()) return error;
  char* message = nullptr;
  if (::sandbox_init(profile.c_str(), 0, &message) == 0) return 0;
  // It promises no errno: a profile that cannot be read, or a process that is in a sandbox already.
  failed = "sandbox_init";
  if (message != nullptr) {
    failed += std::string{": "} + message;
    ::sandbox_free_error(message);
  }
  return EPERM;
}

}  // namespace hv::host

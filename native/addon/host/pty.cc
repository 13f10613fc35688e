#include "pty.h"

#include <fcntl.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>

namespace hv::host {
namespace {

int set_flags(int fd, bool nonblocking) {
  if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) return errno;
  if (nonblocking && fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0) return errno;
  return 0;
}

// A serial line changes no byte on its way; who attaches sets up his own end.
int make_raw(int fd) {
  termios settings{};
  if (tcgetattr(fd, &settings) != 0) return errno;
  cfmakeraw(&settings);
  return tcsetattr(fd, TCSANOW, &settings) != 0 ? errno : 0;
}

int open_slave(Pty& pty) {
  if (grantpt(pty.master) != 0 || unlockpt(pty.master) != 0) return errno;
  const char* const name = ptsname(pty.master);  // JavaScript's thread only
  if (name == nullptr) return errno;
  pty.path = name;
  pty.slave = open(name, O_RDWR | O_NOCTTY);
  return pty.slave < 0 ? errno : 0;
}

int prepare(Pty& pty) {
  if (const int error = open_slave(pty)) return error;
  if (const int error = set_flags(pty.master, true)) return error;
  if (const int error = set_flags(pty.slave, false)) return error;
  return make_raw(pty.slave);
}

}  // namespace

int open_pty(Pty& out) {
  Pty pty;
  pty.master = posix_openpt(O_RDWR | O_NOCTTY);
  if (pty.master < 0) return errno;
  const int error = prepare(pty);
  if (error != 0) {
    if (pty.slave >= 0) close(pty.slave);
    close(pty.master);
    return error;
  }
  out = pty;
  return 0;
}

}  // namespace hv::host

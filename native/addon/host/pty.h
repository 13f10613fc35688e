// A pseudo-terminal: the one kind of terminal that a VM's serial port can be.
#pragma once
#include <string>

namespace hv::host {

struct Pty {
  int master = -1;
  int slave = -1;
  std::string path;
};

// Both ends open, close-on-exec, the slave in raw mode and the master non-blocking. An errno.
int open_pty(Pty& out);

}  // namespace hv::host

// What hosts do differently with networks. One file a host: host_linux.cc, host_darwin.cc. Each
// returns 0 or an errno value.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace hv::net::host {

struct Tap {
  int fd = -1;
  std::string name;
  // Frames carry a virtio-net header of 12 bytes both ways, and the kernel finishes what it says.
  bool headers = false;
  unsigned offloads = 0;  // hv::net::Offload
};

// Linux: an interface of this name, made where it is not there, for as long as it is open; the kernel
// chooses where there is none. EBUSY: another program has it. macOS: /dev/NAME.
int open_tap(const std::string& name, Tap& out);
// Puts it on a bridge and takes it up; an interface that was given is left as it is found where it is
// on that bridge already. EOPNOTSUPP where the host has no such thing.
int join_bridge(const std::string& tap, const std::string& bridge);
int set_up(const std::string& tap);
// What the kernel may leave unfinished in frames from now on.
int set_offloads(int fd, unsigned offloads);

// Whether a tap's write that failed so will fail for good: the interface is gone.
bool tap_is_gone(int error);

// Many descriptors seen as one, which is readable while any of them is ready.
class Poller {
 public:
  static std::unique_ptr<Poller> create();
  virtual ~Poller() = default;
  virtual int descriptor() const = 0;
  // Readable always, writable where wanted.
  virtual void watch(int fd, bool writable) = 0;
  virtual void forget(int fd) = 0;
  // Those that are ready, without waiting.
  virtual void ready(std::vector<int>& out) = 0;
};

}  // namespace hv::net::host

#include <fcntl.h>
#include <sys/event.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <set>

#include "net/host.h"

namespace hv::net::host {
namespace {

class Kqueue final : public Poller {
 public:
  explicit Kqueue(int fd) : fd_{fd} {}
  ~Kqueue() override { ::close(fd_); }
  int descriptor() const override { return fd_; }

  void watch(int fd, bool writable) override {
    if (readable_.insert(fd).second) change(fd, EVFILT_READ, EV_ADD);
    if (writable && writable_.insert(fd).second) change(fd, EVFILT_WRITE, EV_ADD);
    if (!writable && writable_.erase(fd) != 0) change(fd, EVFILT_WRITE, EV_DELETE);
  }
  void forget(int fd) override {
    if (readable_.erase(fd) != 0) change(fd, EVFILT_READ, EV_DELETE);
    if (writable_.erase(fd) != 0) change(fd, EVFILT_WRITE, EV_DELETE);
  }
  void ready(std::vector<int>& out) override {
    std::array<struct kevent, 64> events{};
    const timespec now{};
    const int count =
        ::kevent(fd_, nullptr, 0, events.data(), static_cast<int>(events.size()), &now);
    for (int i = 0; i < count; ++i)
      out.push_back(static_cast<int>(events[static_cast<std::size_t>(i)].ident));
  }

 private:
  void change(int fd, std::int16_t filter, std::uint16_t flags) {
    struct kevent one {};
    EV_SET(&one, fd, filter, flags, 0, 0, nullptr);
    ::kevent(fd_, &one, 1, nullptr, 0, nullptr);
  }

  const int fd_;
  std::set<int> readable_, writable_;
};

}  // namespace

// The tun/tap kernel extensions' character devices: whole Ethernet frames, one a read or write.
int open_tap(const std::string& name, Tap& out) {
  if (name.empty() || name.find('/') != std::string::npos) return EINVAL;
  const int fd = ::open(("/dev/" + name).c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return errno;
  out = {fd, name, false, 0};
  return 0;
}

int join_bridge(const std::string&, const std::string&) { return EOPNOTSUPP; }
int set_up(const std::string&) { return 0; }

bool tap_is_gone(int error) {
  return error == EBADF || error == ENXIO || error == ENODEV;
}

int set_offloads(int, unsigned) { return 0; }

std::unique_ptr<Poller> Poller::create() {
  const int fd = ::kqueue();
  return fd < 0 ? nullptr : std::make_unique<Kqueue>(fd);
}

}  // namespace hv::net::host

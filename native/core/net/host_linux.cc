#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <linux/sockios.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <map>

#include "net/frame.h"
#include "net/host.h"

namespace hv::net::host {
namespace {

struct Closed {
  int fd;
  ~Closed() {
    if (fd >= 0) ::close(fd);
  }
};

bool name_request(const std::string& name, ifreq& out) {
  out = {};
  if (name.size() >= sizeof(out.ifr_name)) return false;
  name.copy(out.ifr_name, sizeof(out.ifr_name) - 1);
  return true;
}

int on_interface(unsigned long call, ifreq& request) {
  const Closed socket{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  if (socket.fd < 0) return errno;
  return ::ioctl(socket.fd, call, &request) != 0 ? errno : 0;
}

// Documentation/networking/tuntap.rst; the flags are those of the virtio-net header's bits.
unsigned tun_flags(unsigned offloads) {
  if (!(offloads & kChecksum)) return 0;
  unsigned flags = TUN_F_CSUM;
  if (offloads & kTcp4) flags |= TUN_F_TSO4;
  if (offloads & kTcp6) flags |= TUN_F_TSO6;
  if ((offloads & kEcn) && (offloads & (kTcp4 | kTcp6))) flags |= TUN_F_TSO_ECN;
  if (offloads & kUdp) flags |= TUN_F_UFO;
  return flags;
}

int prepare(Tap& tap) {
  int header = sizeof(Header);
  if (::ioctl(tap.fd, TUNSETVNETHDRSZ, &header) != 0) return errno;
  constexpr std::array<unsigned, 3> tries{kSoftwareOffloads | kUdp, kSoftwareOffloads, kChecksum};
  for (const unsigned wanted : tries) {
    if (set_offloads(tap.fd, wanted) != 0) continue;
    tap.offloads = wanted;
    break;
  }
  return set_offloads(tap.fd, 0);  // until a guest has said what it takes
}

class Epoll final : public Poller {
 public:
  explicit Epoll(int fd) : fd_{fd} {}
  ~Epoll() override { ::close(fd_); }
  int descriptor() const override { return fd_; }

  void watch(int fd, bool writable) override {
    const std::uint32_t events = EPOLLIN | (writable ? static_cast<std::uint32_t>(EPOLLOUT) : 0u);
    const auto found = watched_.find(fd);
    if (found != watched_.end() && found->second == events) return;
    epoll_event event{};
    event.events = events;
    event.data.fd = fd;
    ::epoll_ctl(fd_, found == watched_.end() ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event);
    watched_[fd] = events;
  }
  void forget(int fd) override {
    if (watched_.erase(fd) != 0) ::epoll_ctl(fd_, EPOLL_CTL_DEL, fd, nullptr);
  }
  void ready(std::vector<int>& out) override {
    std::array<epoll_event, 64> events{};
    const int count = ::epoll_wait(fd_, events.data(), static_cast<int>(events.size()), 0);
    for (int i = 0; i < count; ++i) out.push_back(events[static_cast<std::size_t>(i)].data.fd);
  }

 private:
  const int fd_;
  std::map<int, std::uint32_t> watched_;
};

}  // namespace

int open_tap(const std::string& name, Tap& out) {
  Tap tap;
  ifreq request;
  if (!name_request(name, request)) return ENAMETOOLONG;
  tap.fd = ::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (tap.fd < 0) return errno;
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  int error = ::ioctl(tap.fd, TUNSETIFF, &request) != 0 ? errno : 0;
  if (error == 0) error = prepare(tap);
  if (error != 0) return ::close(tap.fd), error;
  tap.name = request.ifr_name;
  tap.headers = true;
  out = tap;
  return 0;
}

int join_bridge(const std::string& tap, const std::string& bridge) {
  ifreq request;
  if (!name_request(bridge, request)) return ENAMETOOLONG;
  const unsigned index = ::if_nametoindex(tap.c_str());
  if (index == 0) return errno;
  request.ifr_ifindex = static_cast<int>(index);
  const int error = on_interface(SIOCBRADDIF, request);
  return error == EBUSY ? 0 : error;  // on a bridge already: whoever put it there knew why
}

int set_up(const std::string& tap) {
  ifreq request;
  if (!name_request(tap, request)) return ENAMETOOLONG;
  if (const int error = on_interface(SIOCGIFFLAGS, request)) return error;
  if (request.ifr_flags & IFF_UP) return 0;
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  return on_interface(SIOCSIFFLAGS, request);
}

bool tap_is_gone(int error) {
  return error == EBADFD || error == ENXIO || error == ENODEV;
}

int set_offloads(int fd, unsigned offloads) {
  return ::ioctl(fd, TUNSETOFFLOAD, tun_flags(offloads)) != 0 ? errno : 0;
}

std::unique_ptr<Poller> Poller::create() {
  const int fd = ::epoll_create1(EPOLL_CLOEXEC);
  return fd < 0 ? nullptr : std::make_unique<Epoll>(fd);
}

}  // namespace hv::net::host

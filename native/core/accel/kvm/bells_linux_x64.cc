#include "accel/kvm/bells.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "accel/kvm/switches.h"

namespace hv::kvm {
namespace {

// A write of any width, at one address: KVM_CAP_IOEVENTFD_ANY_LENGTH (Linux 4.4).
bool offered(const Handle& vm) {
  for (const unsigned long capability : {KVM_CAP_IOEVENTFD, KVM_CAP_IOEVENTFD_ANY_LENGTH})
    if (vm.call(KVM_CHECK_EXTENSION, capability) <= 0) return false;
  return true;
}

}  // namespace

std::unique_ptr<Ioeventfds> Ioeventfds::create(const Handle& vm) {
  if (switched("no-ioeventfd") || !offered(vm)) return nullptr;
  Handle all{::epoll_create1(EPOLL_CLOEXEC)};
  if (!all) return nullptr;
  return std::unique_ptr<Ioeventfds>{new Ioeventfds{vm, std::move(all)}};
}

std::optional<std::uint32_t> Ioeventfds::make() {
  Handle made{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  if (!made) return std::nullopt;
  const auto free = std::find_if(bells_.begin(), bells_.end(), [](const Handle& h) { return !h; });
  const auto number = static_cast<std::uint32_t>(free - bells_.begin());
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u32 = number;
  if (::epoll_ctl(all_.fd(), EPOLL_CTL_ADD, made.fd(), &event) != 0) return std::nullopt;
  if (free == bells_.end())
    bells_.push_back(std::move(made));
  else
    *free = std::move(made);
  return number;
}

bool Ioeventfds::tell(std::uint32_t bell, Space space, std::uint64_t at, std::uint32_t flags) const {
  kvm_ioeventfd wanted{};
  wanted.addr = at;
  wanted.len = 0;  // any
  wanted.fd = bells_[bell].fd();
  wanted.flags = flags | (space == Space::kPorts ? std::uint32_t{KVM_IOEVENTFD_FLAG_PIO} : 0u);
  return vm_.call(KVM_IOEVENTFD, &wanted) == 0;
}

bool Ioeventfds::hang(std::uint32_t bell, Space space, std::uint64_t at) {
  return tell(bell, space, at, 0);
}

void Ioeventfds::take_down(std::uint32_t bell, Space space, std::uint64_t at) {
  (void)tell(bell, space, at, KVM_IOEVENTFD_FLAG_DEASSIGN);
}

// Closed, it is gone from the epoll descriptor too: no other descriptor names it.
void Ioeventfds::drop(std::uint32_t bell) { bells_[bell] = Handle{}; }

// A guest that rings without end finds each bell read once.
void Ioeventfds::collect(const Room& room, const Rang& rang) {
  std::array<epoll_event, 64> events{};
  const int count = ::epoll_wait(all_.fd(), events.data(), static_cast<int>(events.size()), 0);
  for (int i = 0; i < count && room(); ++i) {
    const std::uint32_t bell = events[static_cast<std::size_t>(i)].data.u32;
    std::uint64_t times = 0;
    if (::read(bells_[bell].fd(), &times, sizeof times) == sizeof times) rang(bell, times);
  }
}

}  // namespace hv::kvm

// Doorbells by ioeventfd (api.rst, KVM_IOEVENTFD): the kernel takes the guest's write, adds one to an
// eventfd and lets the vCPU go on. An epoll descriptor over all of them wakes the consumer.
#pragma once
#include <array>
#include <memory>
#include <vector>

#include "accel/kvm/api.h"
#include "bus/kernel_bells.h"

namespace hv::kvm {

class Ioeventfds final : public KernelBells {
 public:
  // nullptr where this kernel cannot, or where XHYVED_KVM has the word "no-ioeventfd". `vm` outlives
  // it.
  static std::unique_ptr<Ioeventfds> create(const Handle& vm);

  std::optional<std::uint32_t> make() override;
  bool hang(std::uint32_t bell, Space space, std::uint64_t at) override;
  void take_down(std::uint32_t bell, Space space, std::uint64_t at) override;
  void drop(std::uint32_t bell) override;
  void collect(const Room& room, const Rang& rang) override;
  int descriptor() const override { return all_.fd(); }

 private:
  Ioeventfds(const Handle& vm, Handle all) : vm_{vm}, all_{std::move(all)} {}
  bool tell(std::uint32_t bell, Space space, std::uint64_t at, std::uint32_t flags) const;

  const Handle& vm_;
  const Handle all_;          // epoll over the bells
  std::vector<Handle> bells_;  // by number; an empty one is free
};

}  // namespace hv::kvm

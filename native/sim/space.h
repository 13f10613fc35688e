// What the simulated process has mapped for its guest: EPT, a page at a time. The simulation runs
// guests in the guest memory of the machine under test, which says first which that is; a mapping
// of anything else is refused.
#pragma once
#include <atomic>
#include <cstdint>
#include <vector>

#include "base/types.h"
#include "memory/guest_memory.h"

namespace hv::sim {

class Space {
 public:
  void attach(GuestMemory& memory);
  GuestMemory* memory() const { return memory_; }

  // `rights`: bits of read, write, execute. False: not whole pages, or not the attached memory at
  // its guest-physical place.
  bool map(const void* host, Gpa at, std::uint64_t size, unsigned rights);
  bool protect(Gpa at, std::uint64_t size, unsigned rights);
  void clear();

  // 0 where nothing is mapped.
  unsigned rights(Gpa at) const {
    const std::size_t page = index(at);
    if (page >= rights_.size()) return 0;
    return rights_[page].load(std::memory_order_relaxed);
  }
  // Raised by every change: TLBs from before know too much.
  std::uint64_t version() const { return version_.load(std::memory_order_acquire); }

 private:
  std::size_t index(Gpa at) const;

  GuestMemory* memory_ = nullptr;
  std::vector<std::atomic<std::uint8_t>> rights_;
  std::atomic<std::uint64_t> version_{0};
};

}  // namespace hv::sim

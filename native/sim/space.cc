#include "space.h"

namespace hv::sim {

void Space::attach(GuestMemory& memory) {
  memory_ = &memory;
  rights_ = std::vector<std::atomic<std::uint8_t>>(memory.size() / kPageSize);
  version_.fetch_add(1);
}

// Pages of the guest memory in its own order; past the end where there is none.
std::size_t Space::index(Gpa at) const {
  if (memory_ == nullptr) return ~std::size_t{0};
  const std::uint8_t* const host = memory_->host(at);
  if (host == nullptr) return ~std::size_t{0};
  return static_cast<std::size_t>(host - memory_->bytes().data()) / kPageSize;
}

bool Space::map(const void* host, Gpa at, std::uint64_t size, unsigned rights) {
  if (memory_ == nullptr || memory_->host(at, size) != host) return false;
  return protect(at, size, rights);
}

bool Space::protect(Gpa at, std::uint64_t size, unsigned rights) {
  const bool whole = ((raw(at) | size) & ~kPageMask) == 0 && size != 0;
  if (!whole || memory_ == nullptr || memory_->host(at, size) == nullptr) return false;
  const std::size_t first = index(at);
  for (std::size_t n = 0; n < size / kPageSize; ++n)
    rights_[first + n].store(static_cast<std::uint8_t>(rights), std::memory_order_relaxed);
  version_.fetch_add(1, std::memory_order_release);
  return true;
}

void Space::clear() {
  memory_ = nullptr;
  rights_.clear();
  version_.fetch_add(1);
}

}  // namespace hv::sim

// Memory for a guest that only tries something, or a vCPU's kvm_run.
#pragma once
#include <sys/mman.h>

#include <cstddef>

namespace hv::kvm {

struct Mapping {
  // fd: -1 for memory of its own. at: MAP_FAILED where the host has none.
  Mapping(std::size_t size, int fd)
      : length{size},
        at{::mmap(nullptr, size, PROT_READ | PROT_WRITE,
                  fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, fd, 0)} {}
  ~Mapping() {
    if (at != MAP_FAILED) ::munmap(at, length);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  const std::size_t length;
  void* const at;
};

}  // namespace hv::kvm

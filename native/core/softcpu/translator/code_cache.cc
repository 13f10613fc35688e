#include "softcpu/translator/code_cache.h"

#include "softcpu/translator/host.h"

#if HV_TRANSLATOR
#include <sys/mman.h>
#include <unistd.h>

namespace hv::softcpu::translator {

CodeCache::CodeCache(std::size_t size) : size_(size) {
  const int file = memfd_create("translated code", MFD_CLOEXEC);
  if (file < 0) return;
  if (ftruncate(file, static_cast<off_t>(size)) == 0) {
    void* const write = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    void* const run = mmap(nullptr, size, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
    if (write != MAP_FAILED && run != MAP_FAILED) {
      next_ = writable_ = static_cast<std::uint8_t*>(write);
      executable_ = static_cast<std::uint8_t*>(run);
      distance_ = executable_ - writable_;
    } else {
      if (write != MAP_FAILED) munmap(write, size);
      if (run != MAP_FAILED) munmap(run, size);
    }
  }
  close(file);
}

CodeCache::~CodeCache() {
  if (!usable()) return;
  munmap(writable_, size_);
  munmap(executable_, size_);
}

}  // namespace hv::softcpu::translator
#endif

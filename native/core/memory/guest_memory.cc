#include "memory/guest_memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

namespace hv {
namespace {

#ifdef MAP_NORESERVE
constexpr int kReserve = MAP_NORESERVE;
#else
constexpr int kReserve = 0;
#endif

// x86-64 CPUs of today have at most 52 physical address bits; ours reports fewer. Anything near
// that is a mistake of the caller, not a VM.
constexpr std::uint64_t kMaxSize = 1ull << 40;

void* map_zeroed(std::uint64_t length) {
  void* const at = ::mmap(nullptr, static_cast<std::size_t>(length), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | kReserve, -1, 0);
  return at == MAP_FAILED ? nullptr : at;
}

std::uint64_t code_pages_length(std::uint64_t size) { return size / kPageSize * sizeof(CodePage); }

// A guest's memory is no part of a core file, and few large pages are cheaper than many small
// ones. Hints only: a host without them runs the same.
void advise(void* base, std::uint64_t size) {
#ifdef MADV_DONTDUMP
  ::madvise(base, static_cast<std::size_t>(size), MADV_DONTDUMP);
#endif
#ifdef MADV_HUGEPAGE
  ::madvise(base, static_cast<std::size_t>(size), MADV_HUGEPAGE);
#endif
  (void)base, (void)size;
}

}  // namespace

GuestMemory::GuestMemory(std::uint64_t size)
    : size_{size}, low_size_{size < kLowLimit ? size : kLowLimit}, dirty_log_{size / kPageSize} {}

std::unique_ptr<GuestMemory> GuestMemory::create(std::uint64_t size, std::string& error) {
  if (size == 0 || size % kPageSize != 0 || size > kMaxSize) {
    error = "guest memory of " + std::to_string(size) +
            " bytes: it must be a multiple of 4096, more than 0 and at most 1 TiB";
    return nullptr;
  }
  std::unique_ptr<GuestMemory> memory{new GuestMemory{size}};
  memory->base_ = static_cast<std::uint8_t*>(map_zeroed(size));
  // All bits zero is the initial state of a CodePage (three atomics of 0), so that untouched
  // pages of the array cost nothing.
  if (memory->base_ != nullptr)
    memory->code_pages_ = static_cast<CodePage*>(map_zeroed(code_pages_length(size)));
  if (memory->code_pages_ == nullptr) {
    error = "the host has no room for guest memory of " + std::to_string(size) +
            " bytes: " + std::strerror(errno);
    return nullptr;
  }
  advise(memory->base_, size);
  return memory;
}

GuestMemory::~GuestMemory() {
  if (base_ != nullptr) ::munmap(base_, static_cast<std::size_t>(size_));
  if (code_pages_ != nullptr)
    ::munmap(code_pages_, static_cast<std::size_t>(code_pages_length(size_)));
}

std::uint8_t* GuestMemory::host(Gpa at, std::uint64_t length) const {
  const std::uint64_t gpa = raw(at);
  if (gpa < low_size_) return length <= low_size_ - gpa ? base_ + gpa : nullptr;
  const std::uint64_t high = gpa - kHighBase;  // wraps, and is then no offset, below 4 GiB
  if (gpa < kHighBase || high >= high_size() || length > high_size() - high) return nullptr;
  return base_ + low_size_ + high;
}

void GuestMemory::written(Gpa at, std::uint64_t length) {
  while (length != 0) {
    const std::uint64_t offset = raw(at) & ~kPageMask;
    const std::uint64_t part = length < kPageSize - offset ? length : kPageSize - offset;
    if (host(at) != nullptr) {
      CodeEpochs::modified(code_page(at), line_mask(offset, part));
      dirty_log_.mark(page_number(at));
    }
    at = at + part;
    length -= part;
  }
}

void GuestMemory::log_writes(bool on) {
  on ? dirty_log_.begin() : dirty_log_.end();
  epochs_.advance();
}

std::vector<std::uint64_t> GuestMemory::take_written() {
  epochs_.advance();
  return dirty_log_.take();
}

}  // namespace hv

// The guest's RAM: one anonymous (or file-backed) host mapping that is never moved, seen by vCPUs,
// the I/O pool and TypeScript alike. RAM below kLowLimit lies at 0, the rest from 4 GiB up.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/types.h"
#include "memory/code_pages.h"
#include "memory/dirty_log.h"

namespace hv {

inline constexpr std::uint64_t kLowLimit = 0xC000'0000;    // 3 GiB: the PCI hole begins
inline constexpr std::uint64_t kHighBase = 0x1'0000'0000;  // 4 GiB

class GuestMemory {
 public:
  // size: a multiple of 4 KiB. nullptr and `error` (a sentence) when the host has no room.
  static std::unique_ptr<GuestMemory> create(std::uint64_t size, std::string& error);
  ~GuestMemory();
  GuestMemory(const GuestMemory&) = delete;
  GuestMemory& operator=(const GuestMemory&) = delete;

  std::uint64_t size() const { return size_; }
  std::uint64_t low_size() const { return low_size_; }
  std::uint64_t high_size() const { return size_ - low_size_; }
  std::span<std::uint8_t> bytes() { return {base_, size_}; }

  // The host address of one byte of RAM; nullptr where there is no RAM. Valid to the page's end.
  std::uint8_t* host(Gpa at) const {
    const std::uint64_t gpa = raw(at);
    if (gpa < low_size_) return base_ + gpa;
    if (gpa - kHighBase < high_size()) return base_ + low_size_ + (gpa - kHighBase);
    return nullptr;
  }

  // The host address of [at, at + length); nullptr unless all of it is RAM and contiguous.
  std::uint8_t* host(Gpa at, std::uint64_t length) const;

  // Only for addresses where host() is not nullptr.
  CodePage& code_page(Gpa at) const {
    return code_pages_[page_number(at)];
  }
  CodeEpochs& epochs() { return epochs_; }

  // Every write that no vCPU made (loaders, DMA, TypeScript, restore) ends with this call, before
  // the guest is told of it: it makes decoded code on those pages stale, and notes them as dirty.
  void written(Gpa at, std::uint64_t length);

  // The pages of RAM in the order of the mapping, and back.
  std::uint64_t page_number(Gpa at) const {  // only where host() is not nullptr
    return static_cast<std::uint64_t>(host(at) - base_) / kPageSize;
  }
  Gpa page_at(std::uint64_t number) const {
    const std::uint64_t offset = number * kPageSize;
    return Gpa{offset < low_size_ ? offset : offset - low_size_ + kHighBase};
  }

  // The log itself, for those who write. Machine::log_writes() and take_written() are the way to it
  // for everybody else.
  DirtyLog& dirty_log() { return dirty_log_; }
  void log_writes(bool on);
  std::vector<std::uint64_t> take_written();

 private:
  explicit GuestMemory(std::uint64_t size);

  const std::uint64_t size_, low_size_;
  std::uint8_t* base_ = nullptr;
  CodePage* code_pages_ = nullptr;  // one for each page, from zeroed pages of the host
  CodeEpochs epochs_;
  DirtyLog dirty_log_;
};

}  // namespace hv

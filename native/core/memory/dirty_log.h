// Which pages of RAM were written since a moment: what must be copied again. One bit a page, in the
// order of the guest mapping.
//
// Whoever writes marks: written() for everybody but vCPUs, the software CPU as it gives a TLB entry
// the right to write, accelerators of the host by what its hardware logs (Machine::take_written()).
// A vCPU's TLB may say "may write" for a page whose bit was taken, so the log begins and is taken
// only while no vCPU is in run(), and GuestMemory makes each drop such entries before it goes on.
#pragma once
#include <atomic>
#include <bit>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace hv {

class DirtyLog {
 public:
  static constexpr std::uint64_t kWordPages = 64;

  explicit DirtyLog(std::uint64_t pages) : words_{(pages + kWordPages - 1) / kWordPages} {}

  bool on() const noexcept { return on_.load(std::memory_order_acquire) != nullptr; }
  void begin() {
    if (bits_ == nullptr) bits_ = std::make_unique<Word[]>(words_);
    for (std::uint64_t i = 0; i < words_; ++i) bits_[i].store(0, std::memory_order_relaxed);
    on_.store(bits_.get(), std::memory_order_release);
  }
  // The bits stay allocated: a writer may still be at them.
  void end() noexcept { on_.store(nullptr, std::memory_order_release); }

  // Any thread; nothing where the log is off.
  void mark(std::uint64_t page) noexcept {
    Word* const bits = on_.load(std::memory_order_acquire);
    if (bits != nullptr) set(bits[page / kWordPages], 1ull << page % kWordPages);
  }
  // A bitmap of the host's for pages from `first` on, which is a multiple of kWordPages.
  void mark(std::uint64_t first, std::span<const std::uint64_t> pages) noexcept {
    Word* const bits = on_.load(std::memory_order_acquire);
    if (bits == nullptr) return;
    for (std::size_t i = 0; i < pages.size(); ++i) set(bits[first / kWordPages + i], pages[i]);
  }
  // True where the log is off: then nothing need be marked first.
  bool has(std::uint64_t page) const noexcept {
    const Word* const bits = on_.load(std::memory_order_acquire);
    if (bits == nullptr) return true;
    return (bits[page / kWordPages].load(std::memory_order_relaxed) >> page % kWordPages & 1) != 0;
  }
  // visit(page) for each that is marked, in order.
  template <class Visit>
  void each(Visit&& visit) const {
    const Word* const bits = on_.load(std::memory_order_acquire);
    if (bits == nullptr) return;
    for (std::uint64_t i = 0; i < words_; ++i)
      for (std::uint64_t left = bits[i].load(std::memory_order_relaxed); left != 0; left &= left - 1)
        visit(i * kWordPages + static_cast<unsigned>(std::countr_zero(left)));
  }
  // The marked pages in order, which are marked no longer.
  std::vector<std::uint64_t> take() {
    std::vector<std::uint64_t> pages;
    Word* const bits = on_.load(std::memory_order_acquire);
    for (std::uint64_t i = 0; bits != nullptr && i < words_; ++i)
      for (std::uint64_t left = bits[i].exchange(0); left != 0; left &= left - 1)
        pages.push_back(i * kWordPages + static_cast<unsigned>(std::countr_zero(left)));
    return pages;
  }

 private:
  using Word = std::atomic<std::uint64_t>;

  // Most marks are of pages that are marked already, and cost no exchange of the cache line.
  static void set(Word& word, std::uint64_t pages) noexcept {
    if ((word.load(std::memory_order_relaxed) & pages) != pages)
      word.fetch_or(pages, std::memory_order_release);
  }

  std::uint64_t words_;
  std::unique_ptr<Word[]> bits_;
  std::atomic<Word*> on_{nullptr};
};

}  // namespace hv

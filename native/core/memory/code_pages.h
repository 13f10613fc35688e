// Which guest pages hold code that some vCPU has decoded, so that a write to it is noticed.
//
// Every RAM page has a CodePage: a bit for each 64-byte line that decoded code touches, and a
// version. A block of decoded code remembers the version that its page had before its bytes were
// read, and is stale once that differs. Three parties keep that true:
//
//   A vCPU that decodes calls protect() for the lines, then reads the version, then sees that the
//   lines are still set (a writer may just have cleared them), then reads the bytes.
//   Every writer (a vCPU's slow path, written() for everybody else) stores first and calls
//   modified() after; it raises the version where the bytes share a line with code.
//   A vCPU's TLB has no fast-path write entry for a page with code, so its stores come by the slow
//   path. Another vCPU may still hold an entry from before the page had code: protect() raises
//   Signal::kProtectCode at the others, each drops its write entries and acknowledges() the
//   epoch. Until all have, settled() is false and whoever enters such a block must compare its
//   bytes with memory first.
//
// The seq_cst pairs: protect()'s fetch_or with modified()'s load of `lines` (a store either is
// seen by the decoder's read of the bytes or sees the decoder's bit); protect()'s epoch with
// resume()'s load (a vCPU that comes back from sleep sees every epoch that skipped it).
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <limits>

#include "base/types.h"

namespace hv {

struct CodePage {
  std::atomic<std::uint64_t> lines{0};    // bit n: bytes [64n, 64n+64) were decoded
  std::atomic<std::uint64_t> epoch{0};    // when the page last became a code page; 0: not known
  std::atomic<std::uint32_t> version{0};  // raised by every write to a decoded line
};

// Bits for the 64-byte lines that [offset, offset + length) within one page touches; length >= 1.
constexpr std::uint64_t line_mask(std::uint64_t offset, std::uint64_t length) {
  const unsigned first = static_cast<unsigned>(offset >> 6) & 63;
  const unsigned last = static_cast<unsigned>((offset + length - 1) >> 6) & 63;
  return (~0ull << first) & (~0ull >> (63 - last));
}

class CodeEpochs {
 public:
  static constexpr std::uint64_t kAway = std::numeric_limits<std::uint64_t>::max();

  CodeEpochs() {
    for (auto& seen : seen_) seen.store(kAway, std::memory_order_relaxed);
  }

  // Marks lines as code; true when the page had none before, and the caller must then drop its own
  // write entry for the page and raise Signal::kProtectCode at every other vCPU.
  bool protect(CodePage& page, std::uint64_t lines) {
    if (page.lines.fetch_or(lines, std::memory_order_seq_cst) != 0) return false;
    const std::uint64_t now = current_.fetch_add(1, std::memory_order_seq_cst) + 1;
    page.epoch.store(now, std::memory_order_seq_cst);
    return true;
  }

  // After a store of `lines` of this page. True: decoded code was overwritten (and is now stale).
  static bool modified(CodePage& page, std::uint64_t lines) {
    std::atomic_thread_fence(std::memory_order_seq_cst);  // pairs with protect()'s fetch_or
    if ((page.lines.load(std::memory_order_seq_cst) & lines) == 0) return false;
    // Before the lines, so that who finds lines set never finds the epoch of an earlier time.
    page.epoch.store(0, std::memory_order_seq_cst);
    page.lines.store(0, std::memory_order_seq_cst);
    page.version.fetch_add(1, std::memory_order_seq_cst);
    return true;
  }

  // Every vCPU drops its write entries before it goes on. Only while none is in run().
  void advance() { current_.fetch_add(1, std::memory_order_seq_cst); }

  // The vCPU's own thread: it has dropped its write entries (or is entering the guest with none).
  std::uint64_t current() const { return current_.load(std::memory_order_seq_cst); }
  void acknowledge(VcpuIndex vcpu, std::uint64_t epoch) {
    seen_[vcpu].store(epoch, std::memory_order_seq_cst);
  }
  // The vCPU's own thread, leaving guest code: it will store nothing until it acknowledges again.
  void leave(VcpuIndex vcpu) { seen_[vcpu].store(kAway, std::memory_order_seq_cst); }

  // Nobody holds a write entry from before `epoch`.
  bool settled(std::uint64_t epoch) const {
    if (epoch == 0) return false;
    for (const auto& seen : seen_)
      if (seen.load(std::memory_order_seq_cst) < epoch) return false;
    return true;
  }

 private:
  std::atomic<std::uint64_t> current_{0};
  std::array<std::atomic<std::uint64_t>, kMaxVcpus> seen_;
};

}  // namespace hv

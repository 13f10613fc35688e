// How the rest of the machine reaches a vCPU: a word of bits that any thread may set and the
// vCPU's own thread looks at between blocks of guest code, and sleeps on while halted.
#pragma once
#include <atomic>
#include <cstdint>

namespace hv {

enum class Signal : std::uint32_t {
  kInterrupt = 1u << 0,    // INTR is asserted: Platform::acknowledge_interrupt() has a vector
  kNmi = 1u << 1,          // an NMI is pending (edge; the vCPU clears it when it takes it)
  kInit = 1u << 2,         // INIT was received (the vCPU loop clears it)
  kSipi = 1u << 3,         // a start-up IPI was received; `sipi_vector` says where to start
  kExit = 1u << 4,         // leave run() with Exit::kKicked at the next instruction boundary
  kFlushTlb = 1u << 5,     // drop the whole TLB (A20 or the memory map changed)
  kProtectCode = 1u << 6,  // a page became a code page: see memory/code_pages.h
};

class VcpuSignals {
 public:
  // Any thread. What was written before raise() is seen by the vCPU after it sees the bit.
  void raise(Signal bit) noexcept {
    pending_.fetch_or(static_cast<std::uint32_t>(bit), std::memory_order_seq_cst);
    pending_.notify_all();
  }
  void clear(Signal bit) noexcept {
    pending_.fetch_and(~static_cast<std::uint32_t>(bit), std::memory_order_seq_cst);
  }
  bool has(Signal bit) const noexcept {
    return (pending() & static_cast<std::uint32_t>(bit)) != 0;
  }
  std::uint32_t pending() const noexcept { return pending_.load(std::memory_order_acquire); }
  // What the CPU tests on every block; relaxed, since a set bit is looked at again with pending().
  std::uint32_t peek() const noexcept { return pending_.load(std::memory_order_relaxed); }
  // The word itself, which translated code reads.
  const void* word() const noexcept { return &pending_; }
  // The vCPU thread only: returns when the word is no longer `seen`.
  void sleep(std::uint32_t seen) const noexcept { pending_.wait(seen); }

  std::atomic<std::uint8_t> sipi_vector{0};

 private:
  std::atomic<std::uint32_t> pending_{0};
};

}  // namespace hv

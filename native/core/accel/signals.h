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
    if (presence_.load(std::memory_order_seq_cst) == Presence::kInside) kick();
  }
  void clear(Signal bit) noexcept {
    pending_.fetch_and(~static_cast<std::uint32_t>(bit), std::memory_order_seq_cst);
  }
  bool has(Signal bit) const noexcept {
    return (pending() & static_cast<std::uint32_t>(bit)) != 0;
  }
  std::uint32_t pending() const noexcept { return pending_.load(std::memory_order_seq_cst); }
  // What the CPU tests on every block; relaxed, since a set bit is looked at again with pending().
  std::uint32_t peek() const noexcept { return pending_.load(std::memory_order_relaxed); }
  // The word itself, which translated code reads.
  const void* word() const noexcept { return &pending_; }
  // The vCPU thread only: returns when the word is no longer `seen`.
  void sleep(std::uint32_t seen) const noexcept { pending_.wait(seen); }

  // For a vCPU that the host's hardware runs, which cannot look at the word meanwhile: raise()
  // then calls `kick`, which makes it leave the guest, at most once an entry. The vCPU's thread
  // brackets its stay in the guest:
  //
  //   enter(); if (pending() == what it has seen) run the guest; leave();
  //
  // A raise() either is seen by that pending() or sees the vCPU inside. The kick may still come
  // after leave(), even after the vCPU ended: `kick` copes with a handle that is no more.
  using Kick = void (*)(std::uint64_t handle) noexcept;
  void set_kick(Kick how, std::uint64_t handle) noexcept {  // while outside
    kick_ = how;
    handle_ = handle;
  }
  void enter() noexcept { presence_.store(Presence::kInside, std::memory_order_seq_cst); }
  // True: a kick was, or is about to be, sent.
  bool leave() noexcept {
    return presence_.exchange(Presence::kOutside, std::memory_order_seq_cst) == Presence::kKicked;
  }

  std::atomic<std::uint8_t> sipi_vector{0};

 private:
  enum class Presence : std::uint8_t { kOutside, kInside, kKicked };

  void kick() noexcept {
    Presence inside = Presence::kInside;
    if (presence_.compare_exchange_strong(inside, Presence::kKicked)) kick_(handle_);
  }

  std::atomic<std::uint32_t> pending_{0};
  std::atomic<Presence> presence_{Presence::kOutside};
  Kick kick_ = nullptr;
  std::uint64_t handle_ = 0;
};

}  // namespace hv

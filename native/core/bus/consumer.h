// The consumer's side of the shared wire in C++: what native/bus/bus.ts does, for tests of the core
// and programs without JavaScript. One thread.
#pragma once
#include <cstdint>
#include <functional>
#include <mutex>
#include <condition_variable>
#include <optional>

#include "bus/bus.h"

namespace hv {

struct Served {
  wire::Kind kind;
  Range* range;
  VcpuIndex vcpu;
  std::uint32_t ticket, offset, value;
  unsigned size;
};

class Consumer {
 public:
  // Answers reads; what it returns otherwise is ignored.
  using Handler = std::function<std::uint32_t(const Served&)>;

  Consumer(Bus& bus, Handler handler) : bus_{bus}, handler_{std::move(handler)} {}

  // Serves until nothing is ready.
  void serve() {
    while (serve_next()) {
    }
  }

  // Sleeps between, as the JavaScript thread does, until `done`. wake() is what the bus calls.
  template <class Done>
  void run_until(Done done) {
    while (!done()) {
      bus_.channel().woken();
      serve();
      if (done() || !bus_.channel().try_sleep()) continue;
      std::unique_lock lock{mutex_};
      wake_.wait(lock, [this] { return woken_; });
      woken_ = false;
    }
  }
  void wake() {
    std::scoped_lock hold{mutex_};
    woken_ = true;
    wake_.notify_one();
  }

 private:
  bool serve_next() {
    SharedWire& shared = bus_.channel().shared();
    const std::uint32_t ticket = shared.control().served.load(std::memory_order_relaxed);
    for (VcpuIndex i = 0; i < shared.vcpus(); ++i) {
      if (!serve_ring(i, ticket) && !serve_mail(i, ticket)) continue;
      return true;
    }
    return false;
  }

  bool serve_ring(VcpuIndex index, std::uint32_t ticket) {
    SharedWire& shared = bus_.channel().shared();
    wire::VcpuWire& vcpu = shared.vcpu(index);
    const std::uint32_t tail = vcpu.tail.load(std::memory_order_relaxed);
    if (vcpu.head.load(std::memory_order_seq_cst) == tail) return false;
    const wire::Entry entry = vcpu.ring[tail % wire::kRingEntries];
    if (entry.ticket != ticket) return false;
    Range& range = *bus_.map().range(wire::range_of(entry.header));
    wire::RangeWire& words = range.block->wire();
    if (const std::uint32_t slot = wire::slot_of(entry.header); slot != wire::kNoSlot) {
      std::uint32_t mine = ticket;
      words.doorbells[slot].ticket.compare_exchange_strong(mine, 0, std::memory_order_seq_cst);
    }
    handler_({wire::kind_of(entry.header), &range, index, ticket, entry.offset, entry.value,
              wire::size_of(entry.header)});
    words.pending.fetch_sub(1, std::memory_order_seq_cst);
    vcpu.tail.store(tail + 1, std::memory_order_seq_cst);
    shared.control().served.store(ticket + 1, std::memory_order_seq_cst);
    unblock(vcpu, index, tail + 1);
    return true;
  }

  void unblock(wire::VcpuWire& vcpu, VcpuIndex index, std::uint32_t tail) {
    const auto wish = static_cast<wire::Wish>(vcpu.blocked.load(std::memory_order_seq_cst));
    if (wish == wire::Wish::kNone) return;
    const std::uint32_t left = vcpu.head.load(std::memory_order_seq_cst) - tail;
    if (left <= (wish == wire::Wish::kRoom ? wire::kRingEntries / 2 : 0))
      bus_.channel().unblock(index);
  }

  bool serve_mail(VcpuIndex index, std::uint32_t ticket) {
    SharedWire& shared = bus_.channel().shared();
    wire::Mailbox& mail = shared.vcpu(index).mail;
    if (mail.state.load(std::memory_order_seq_cst) !=
            static_cast<std::uint32_t>(wire::Mail::kAsked) ||
        mail.ticket != ticket)
      return false;
    Range& range = *bus_.map().range(wire::range_of(mail.header));
    const std::uint32_t value =
        handler_({wire::kind_of(mail.header), &range, index, ticket, mail.offset, mail.value,
                  wire::size_of(mail.header)});
    shared.control().served.store(ticket + 1, std::memory_order_seq_cst);
    bus_.channel().answer(index, value);
    return true;
  }

  Bus& bus_;
  const Handler handler_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool woken_ = false;
};

}  // namespace hv

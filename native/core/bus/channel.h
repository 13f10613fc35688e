// The vCPUs' side of the shared wire (bus/wire.h): posting, ringing, asking, and their waits. No
// ranges' meaning here, only order.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "base/types.h"
#include "bus/range.h"
#include "bus/wire.h"

namespace hv {

// The whole shared block; lives as long as either side uses it.
class SharedWire {
 public:
  // `own_ring`: one more ring, from which the consumer serves what it posts to itself.
  static std::shared_ptr<SharedWire> create(VcpuIndex vcpus, bool own_ring = false);
  ~SharedWire();
  SharedWire(const SharedWire&) = delete;
  SharedWire& operator=(const SharedWire&) = delete;

  wire::Control& control() { return *reinterpret_cast<wire::Control*>(base_); }
  wire::VcpuWire& vcpu(VcpuIndex index) {
    return reinterpret_cast<wire::VcpuWire*>(base_ + sizeof(wire::Control))[index];
  }
  // How many rings there are, and which one is the consumer's: the last.
  VcpuIndex vcpus() const { return vcpus_; }
  VcpuIndex own() const { return vcpus_ - 1; }
  std::uint8_t* base() { return base_; }
  std::size_t size() const { return sizeof(wire::Control) + vcpus_ * sizeof(wire::VcpuWire); }

 private:
  SharedWire() = default;
  std::uint8_t* base_ = nullptr;
  VcpuIndex vcpus_ = 0;
};

class Channel {
 public:
  // `wake` brings the consumer back from sleep: any vCPU thread calls it.
  Channel(std::shared_ptr<SharedWire> shared, std::function<void()> wake);

  // --- the vCPU's own thread ---
  // From here on reads of the range's shadow are direct, until the post that must follow is served.
  void announce(Range& range);
  void post(VcpuIndex vcpu, Range& range, std::uint32_t offset, unsigned size,
            std::uint32_t value);
  void ring(VcpuIndex vcpu, Range& range, std::uint32_t offset, unsigned size,
            std::uint32_t value);
  // Waits for the handler. nullopt: the VM ends, nobody answers any more.
  std::optional<std::uint32_t> ask(VcpuIndex vcpu, Range& range, std::uint32_t offset,
                                   unsigned size, wire::Kind kind, std::uint32_t value);
  // Returns when everything that this vCPU posted has been served.
  void drain(VcpuIndex vcpu);

  // --- the consumer's thread ---
  void answer(VcpuIndex vcpu, std::uint32_t value);
  // A wish in `blocked` is fulfilled.
  void unblock(VcpuIndex vcpu);
  // Whether the next ticket to be served has been published.
  bool ready() const;
  // Whether a ticket was taken that is not served.
  bool outstanding() const;
  // Says that the consumer sleeps until `wake`; false, and it is awake again, where something is
  // ready.
  bool try_sleep();
  void woken();
  // The same, but for something else than `wake`: it counts as one.
  void woken_by_kernel();
  // Whether the consumer can post to this ring of its own without waiting for itself.
  bool has_room(VcpuIndex own) const;
  // Whether it is worth looking again for a moment: the vCPU that published last runs on another
  // core.
  bool peer_elsewhere() const;

  // --- any thread ---
  // Ends every wait now and from now on.
  void cancel();

  SharedWire& shared() { return *shared_; }
  std::shared_ptr<SharedWire> shared_pointer() const { return shared_; }
  std::uint64_t wakes() const { return wakes_.load(std::memory_order_relaxed); }

 private:
  std::uint32_t take_ticket();
  bool wait_for(VcpuIndex vcpu, wire::Wish wish);
  void publish(VcpuIndex vcpu, const wire::Entry& entry);
  void note_core(VcpuIndex vcpu);
  void wake_if_sleeping();
  void wait_answer(wire::Mailbox& mail, std::uint32_t own_core);

  const std::shared_ptr<SharedWire> shared_;
  const std::function<void()> wake_;
  std::atomic<bool> cancelled_{false};
  std::atomic<std::uint32_t> last_write_;  // the latest ticket of a posted write of any vCPU
  std::atomic<std::uint32_t> last_vcpu_{0};
  std::atomic<std::uint64_t> wakes_{0};
};

}  // namespace hv

// The bus as vCPUs meet it: which way in an access takes, and what comes back.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>

#include "base/json.h"
#include "base/types.h"
#include "bus/channel.h"
#include "bus/map.h"

namespace hv {

class Bus {
 public:
  // What nothing decodes: reads all ones and swallows writes; told here first (nullptr: nobody).
  struct Unclaimed {
    VcpuIndex vcpu;
    Space space;
    bool write;
    std::uint64_t at;
    unsigned size;
  };
  using OnUnclaimed = std::function<void(const Unclaimed&)>;

  Bus(std::shared_ptr<SharedWire> shared, std::function<void()> wake, OnUnclaimed on_unclaimed);

  // The vCPU's own thread. size: 1 to 8; any alignment.
  std::uint64_t read(VcpuIndex vcpu, Space space, std::uint64_t at, unsigned size);
  void write(VcpuIndex vcpu, Space space, std::uint64_t at, unsigned size, std::uint64_t value);

  // The consumer's thread: doorbells that the kernel answered since the last time take their place
  // in the order of tickets, after whatever their vCPUs posted before they rang.
  void collect();
  // What wakes the consumer for those; nullptr: there are none.
  KernelBells* bells() { return map_.belfry().bells(); }

  BusMap& map() { return map_; }
  Channel& channel() { return channel_; }
  // "com1.posted": 123 …, what is not zero.
  json::Object statistics();

 private:
  std::uint64_t read_part(VcpuIndex vcpu, Range& range, std::uint64_t offset, unsigned size);
  void write_part(VcpuIndex vcpu, Range& range, std::uint64_t offset, unsigned size,
                  std::uint64_t value);
  std::uint32_t read_register(VcpuIndex vcpu, Range& range, std::uint32_t offset, unsigned size);
  // Empty: only the device can say.
  std::optional<std::uint32_t> published(VcpuIndex vcpu, Range& range, std::uint32_t offset,
                                         unsigned size);
  std::optional<std::uint32_t> configuration(VcpuIndex vcpu, Range& range,
                                             const RegisterWays& ways, std::uint32_t offset,
                                             unsigned size);
  void write_register(VcpuIndex vcpu, Range& range, std::uint32_t offset, unsigned size,
                      std::uint32_t value);
  void unclaimed(const Unclaimed& access);
  void ring(VcpuIndex ring, Range& range, const RegisterWays& ways, unsigned size);

  BusMap map_;
  Channel channel_;
  const OnUnclaimed on_unclaimed_;
  std::atomic<std::uint64_t> unclaimed_{0};
};

}  // namespace hv

#include "bus/bus.h"

#include <algorithm>
#include <map>
#include <string>

namespace hv {
namespace {

constexpr std::uint64_t ones(unsigned size) {
  return size >= 8 ? ~0ull : (1ull << (8 * size)) - 1;
}

// What a TypeScript handler is given: 1, 2 or 4 bytes.
constexpr unsigned handler_size(unsigned left) { return left >= 4 ? 4 : left >= 2 ? 2 : 1; }

void count(std::atomic<std::uint64_t>& counter) { counter.fetch_add(1, std::memory_order_relaxed); }

}  // namespace

Bus::Bus(std::shared_ptr<SharedWire> shared, std::function<void()> wake, OnUnclaimed on_unclaimed)
    : channel_{std::move(shared), std::move(wake)}, on_unclaimed_{std::move(on_unclaimed)} {}

std::uint64_t Bus::read(VcpuIndex vcpu, Space space, std::uint64_t at, unsigned size) {
  std::uint64_t value = 0;
  for (unsigned done = 0; done < size;) {
    const BusMap::Hit hit = map_.find(vcpu, space, at + done);
    const unsigned part = static_cast<unsigned>(std::min<std::uint64_t>(size - done, hit.run));
    std::uint64_t bytes = ones(part);
    if (hit.range != nullptr)
      bytes = read_part(vcpu, *hit.range, hit.offset, part) & ones(part);
    else
      unclaimed({vcpu, space, false, at + done, part});
    value |= bytes << (8 * done);
    done += part;
  }
  return value;
}

void Bus::write(VcpuIndex vcpu, Space space, std::uint64_t at, unsigned size,
                std::uint64_t value) {
  for (unsigned done = 0; done < size;) {
    const BusMap::Hit hit = map_.find(vcpu, space, at + done);
    const unsigned part = static_cast<unsigned>(std::min<std::uint64_t>(size - done, hit.run));
    if (hit.range != nullptr)
      write_part(vcpu, *hit.range, hit.offset, part, value >> (8 * done) & ones(part));
    else
      unclaimed({vcpu, space, true, at + done, part});
    done += part;
  }
}

void Bus::unclaimed(const Unclaimed& access) {
  count(unclaimed_);
  if (on_unclaimed_) on_unclaimed_(access);
}

std::uint64_t Bus::read_part(VcpuIndex vcpu, Range& range, std::uint64_t offset, unsigned size) {
  if (range.spec.native != nullptr) {
    count(range.counts.native);
    return range.spec.native->read(vcpu, offset, size);
  }
  std::uint64_t value = 0;
  for (unsigned done = 0; done < size;) {
    const unsigned part = handler_size(size - done);
    const auto at = static_cast<std::uint32_t>(offset + done);
    value |= std::uint64_t{read_register(vcpu, range, at, part) & ones(part)} << (8 * done);
    done += part;
  }
  return value;
}

void Bus::write_part(VcpuIndex vcpu, Range& range, std::uint64_t offset, unsigned size,
                     std::uint64_t value) {
  if (range.spec.native != nullptr) {
    count(range.counts.native);
    return range.spec.native->write(vcpu, offset, size, value);
  }
  for (unsigned done = 0; done < size;) {
    const unsigned part = handler_size(size - done);
    write_register(vcpu, range, static_cast<std::uint32_t>(offset + done), part,
                   static_cast<std::uint32_t>(value >> (8 * done) & ones(part)));
    done += part;
  }
}

std::uint32_t Bus::read_register(VcpuIndex vcpu, Range& range, std::uint32_t offset,
                                 unsigned size) {
  if (const auto value = published(vcpu, range, offset, size)) {
    count(range.counts.shadow);
    return *value;
  }
  count(range.counts.direct);
  return channel_.ask(vcpu, range, offset, size, wire::Kind::kRead, 0)
      .value_or(static_cast<std::uint32_t>(ones(size)));
}

std::optional<std::uint32_t> Bus::published(VcpuIndex vcpu, Range& range, std::uint32_t offset,
                                            unsigned size) {
  const RegisterWays& ways = range.ways(offset, size);
  switch (ways.read) {
    case ReadWay::kDirect:
      return std::nullopt;
    case ReadWay::kShadow:
      // A posted write that this vCPU, or one it has heard from, has made is counted before.
      if (range.block->wire().pending.load(std::memory_order_seq_cst) != 0) return std::nullopt;
      return read_shadow(range, offset, size);
    case ReadWay::kStable:
      return read_shadow(range, offset, size);
    case ReadWay::kLatch:
      if (size != ways.length) return std::nullopt;
      return read_shadow(range, offset, size);
    case ReadWay::kConfiguration:
      return configuration(vcpu, range, ways, offset, size);
    case ReadWay::kOnes:
      return static_cast<std::uint32_t>(ones(size));
  }
  return std::nullopt;
}

// The latch's bits 23:2 name bus, device, function and dword; in ECAM's offsets the first three are
// four bits further up (PCI Express Base Specification 3.0, 7.2.2).
std::optional<std::uint32_t> Bus::configuration(VcpuIndex vcpu, Range& range,
                                                const RegisterWays& ways, std::uint32_t offset,
                                                unsigned size) {
  constexpr std::uint32_t kEnable = 1u << 31, kFunction = 0xffff00, kDword = 0xfc;
  const std::uint32_t lane = offset - ways.at;
  if (lane % size != 0) return std::nullopt;
  const std::uint32_t address = read_shadow(range, ways.at - 4, 4);
  if ((address & kEnable) == 0) return static_cast<std::uint32_t>(ones(size));
  const std::uint64_t at = ways.configuration + (std::uint64_t{address & kFunction} << 4) +
                           (address & kDword) + lane;
  const BusMap::Hit hit = map_.find(vcpu, Space::kMemory, at);
  if (hit.range == nullptr || hit.range->spec.native != nullptr) return std::nullopt;
  return published(vcpu, *hit.range, static_cast<std::uint32_t>(hit.offset), size);
}

void Bus::write_register(VcpuIndex vcpu, Range& range, std::uint32_t offset, unsigned size,
                         std::uint32_t value) {
  const RegisterWays& ways = range.ways(offset, size);
  WriteWay way = ways.write;
  if (way == WriteWay::kLatch && size != ways.length) way = WriteWay::kDirect;
  switch (way) {
    case WriteWay::kIgnored:
      return;
    case WriteWay::kLatch:
      count(range.counts.shadow);
      return write_latch(range, ways, value);
    case WriteWay::kDirect:
      count(range.counts.direct);
      channel_.ask(vcpu, range, offset, size, wire::Kind::kWrite, value);
      return;
    case WriteWay::kDoorbell:
      count(range.counts.doorbell);
      if (ways.rings) return ring(vcpu, range, ways, size);
      return channel_.ring(vcpu, range, offset, size, value);
    case WriteWay::kPosted:
      count(range.counts.posted);
      channel_.announce(range);
      // Before the device can see the write: a bit that it sets again after is not cleared by this.
      if (ways.clear_mask != 0) clear_status(range, ways, offset, size, value);
      channel_.post(vcpu, range, offset, size, value);
      return;
  }
}

// Whichever way it was rung, and by a write of whatever: the same.
void Bus::ring(VcpuIndex vcpu, Range& range, const RegisterWays& ways, unsigned size) {
  channel_.ring(vcpu, range, ways.at, size, *ways.rings);
}

// What the vCPU posted before it rang has its ticket already, and the bell's is later. The ring that
// the consumer posts to is its own (SharedWire::own()); where that is full, the bell stays rung until
// some of it is served.
void Bus::collect() {
  const VcpuIndex own = channel_.shared().own();
  map_.belfry().collect(
      [&] { return channel_.has_room(own); },
      [&](Range& range, const RegisterWays& ways, std::uint64_t times) {
        range.counts.doorbell.fetch_add(times, std::memory_order_relaxed);
        range.counts.coalesced.fetch_add(times - 1, std::memory_order_relaxed);
        ring(own, range, ways, handler_size(ways.length));
      });
}

json::Object Bus::statistics() {
  std::map<std::string, std::uint64_t> sums;  // several ranges may have one name
  const auto put = [&sums](const std::string& name, std::uint64_t value) {
    if (value != 0) sums[name] += value;
  };
  for (Range* range : map_.all()) {
    const RangeCounts& counts = range->counts;
    const std::string& name = range->spec.name;
    const auto get = [](const auto& n) { return n.load(std::memory_order_relaxed); };
    put(name + ".direct", get(counts.direct));
    put(name + ".shadow", get(counts.shadow));
    put(name + ".posted", get(counts.posted));
    put(name + ".doorbell", get(counts.doorbell));
    put(name + ".coalesced", get(counts.coalesced));
    put(name + ".native", get(counts.native));
  }
  put("unclaimed", unclaimed_.load(std::memory_order_relaxed));
  put("wakes", channel_.wakes());
  json::Object out;
  for (const auto& [name, value] : sums) out.emplace(name, json::Value{value});
  return out;
}

}  // namespace hv

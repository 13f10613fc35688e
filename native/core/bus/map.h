// Which range answers an address. Lookups take no lock: they read an immutable sorted table whose
// pointer a writer swaps. A vCPU publishes the table that it reads, so that the writer knows when
// an old one may go.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/types.h"
#include "bus/kernel_bells.h"
#include "bus/range.h"

namespace hv {

class BusMap {
 public:
  BusMap();
  ~BusMap();
  BusMap(const BusMap&) = delete;
  BusMap& operator=(const BusMap&) = delete;

  struct Hit {
    Range* range;          // nullptr: nothing decodes the first byte
    std::uint64_t offset;  // of the address in the range
    std::uint64_t run;     // bytes from the address on that have this answer
  };
  // The vCPU's own thread.
  Hit find(VcpuIndex vcpu, Space space, std::uint64_t at) noexcept;

  // Any other thread, and the consumer's alone where the kernel rings doorbells (belfry()). Each
  // returns an empty string, or why it was refused; nothing has changed then. What they did is in
  // force for every lookup that begins after they return.
  std::string add(RangeSpec spec, Range*& added);
  std::string move(std::uint32_t id, std::uint64_t base);
  std::string enable(std::uint32_t id, bool on);
  std::string remove(std::uint32_t id);

  Range* range(std::uint32_t id);
  std::vector<Range*> all();
  Belfry& belfry() { return belfry_; }

 private:
  struct Row {
    std::uint64_t base, end;
    Range* range;
  };
  using Table = std::vector<Row>;
  static constexpr std::size_t kSpaces = 2;

  // Under the mutex.
  std::string conflict(const Range& range, std::uint64_t base) const;
  Range* live(std::uint32_t id);
  void publish(Space space);
  // A range changed: for lookups, and where its doorbells hang.
  void publish(Range& range);

  std::mutex mutex_;
  std::deque<Range> ranges_;  // by id; addresses stay
  std::array<std::atomic<const Table*>, kSpaces> current_;
  std::vector<const Table*> retired_;
  struct alignas(64) Hazard {
    std::atomic<const Table*> table{nullptr};
  };
  std::array<Hazard, kMaxVcpus> hazards_;
  Belfry belfry_;
};

}  // namespace hv

// One range of ports or physical addresses: what TypeScript declared of it, or the C++ chip that
// answers it.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/types.h"
#include "bus/wire.h"

namespace hv {

enum class Space : std::uint8_t { kPorts, kMemory };
enum class ReadWay : std::uint8_t { kDirect, kShadow, kStable, kLatch, kConfiguration, kOnes };
enum class WriteWay : std::uint8_t { kDirect, kPosted, kDoorbell, kIgnored, kLatch };

// An interrupt line as a register's write-1-to-clear declaration needs it.
class LevelLine {
 public:
  virtual ~LevelLine() = default;
  virtual void set(bool level) = 0;
};

// A chip of the core, called on the vCPU's thread. size: 1, 2 or 4 for ports, 1 to 8 for memory.
class NativeRange {
 public:
  virtual ~NativeRange() = default;
  virtual std::uint64_t read(VcpuIndex vcpu, std::uint64_t offset, unsigned size) = 0;
  virtual void write(VcpuIndex vcpu, std::uint64_t offset, unsigned size, std::uint64_t value) = 0;
};

// See RegisterWays in native/types.ts.
struct RegisterWays {
  std::uint32_t at = 0, length = 0;
  ReadWay read = ReadWay::kDirect;
  WriteWay write = WriteWay::kDirect;
  // Not 0: write-1-to-clear bits of the `length` bytes. The device sets them in the published bytes
  // with an atomic OR and never clears or rewrites them: native does, before the vCPU goes on, and a
  // device that is still behind with a posted clear would bring back what is gone.
  std::uint32_t clear_mask = 0;
  LevelLine* line = nullptr;
  std::uint32_t latch_mask = 0;    // kLatch: the bits that it holds
  std::uint64_t configuration = 0; // kConfiguration: where ECAM begins in memory
  // kDoorbell: the value that the handler is given whatever the guest writes. Such a register may be
  // rung without leaving the guest (bus/kernel_bells.h).
  std::optional<std::uint32_t> rings = {};
};

struct RangeSpec {
  std::string name;
  Space space = Space::kPorts;
  std::uint64_t base = 0;
  std::uint64_t length = 0;
  std::vector<RegisterWays> ways;
  NativeRange* native = nullptr;  // answers everything; `ways` is empty then
  bool fixed = false;             // a chip that every board has: it neither moves nor goes
};

// The mapping that a range shares with JavaScript; lives as long as either side uses it.
class RangeBlock {
 public:
  static std::shared_ptr<RangeBlock> create(std::uint64_t length);
  ~RangeBlock();
  RangeBlock(const RangeBlock&) = delete;
  RangeBlock& operator=(const RangeBlock&) = delete;

  wire::RangeWire& wire() { return *reinterpret_cast<wire::RangeWire*>(base_); }
  std::uint8_t* shadow() { return base_ + wire::RangeWire::kShadow; }
  std::uint8_t* base() { return base_; }
  std::size_t size() const { return size_; }

 private:
  RangeBlock() = default;
  std::uint8_t* base_ = nullptr;
  std::size_t size_ = 0;
};

struct RangeCounts {
  std::atomic<std::uint64_t> direct{0}, shadow{0}, posted{0}, doorbell{0}, coalesced{0}, native{0};
};

// Made once, never freed before the bus: an access may still hold it when it is moved or removed.
struct Range {
  std::uint32_t id = 0;
  RangeSpec spec;              // base changes by move(), under the bus's lock
  bool enabled = true, removed = false;
  bool has_bells = false;      // bus/kernel_bells.h: its doorbells were given theirs
  std::shared_ptr<RangeBlock> block;  // nullptr for native ranges
  RangeCounts counts;

  // The ways of [offset, offset + size): direct where the bytes are not of one entry.
  const RegisterWays& ways(std::uint64_t offset, unsigned size) const;
};

// What the published bytes say, little-endian; size 1, 2 or 4, inside the range.
std::uint32_t read_shadow(Range& range, std::uint64_t offset, unsigned size);

// The whole of a latch is written.
void write_latch(Range& range, const RegisterWays& ways, std::uint32_t value);

// Clears the ones of `value` that the declaration allows and lowers the line when none is left.
void clear_status(Range& range, const RegisterWays& ways, std::uint64_t offset, unsigned size,
                  std::uint32_t value);

// Empty, or what is wrong with the declaration.
std::string check_spec(const RangeSpec& spec);

}  // namespace hv

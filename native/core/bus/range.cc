#include "bus/range.h"

#include <sys/mman.h>

#include <algorithm>

namespace hv {
namespace {

constexpr std::uint64_t kPorts = 0x10000;
constexpr std::uint64_t kMemoryEnd = 1ull << 52;      // SDM Vol. 3, MAXPHYADDR is at most 52
constexpr std::uint64_t kMaxShadow = 512ull << 20;    // our choice: twice a whole ECAM
constexpr RegisterWays kUndeclared{};

std::uint8_t load_byte(const std::uint8_t* at) { return __atomic_load_n(at, __ATOMIC_ACQUIRE); }

bool is_latch(const RegisterWays& ways) {
  return ways.read == ReadWay::kLatch || ways.write == WriteWay::kLatch;
}

// Of address and data port, `before` being what was declared before `ways`.
std::string check_configuration(const RegisterWays& ways, const RegisterWays* before) {
  const bool aligned_dword = ways.length == 4 && ways.at % 4 == 0;
  if (is_latch(ways) && !aligned_dword) return "a latch is four bytes at a multiple of four";
  if (ways.read != ReadWay::kConfiguration) return {};
  const bool has_latch = before != nullptr && before->at + 4 == ways.at && is_latch(*before);
  return aligned_dword && has_latch ? "" : "configuration data needs a latch just before it";
}

std::string check_ways(const RangeSpec& spec) {
  std::uint64_t end = 0;
  const RegisterWays* before = nullptr;
  for (const RegisterWays& ways : spec.ways) {
    if (ways.length == 0 || ways.at < end || ways.at + std::uint64_t{ways.length} > spec.length)
      return "its register ways overlap, are out of order, or end past the range";
    end = ways.at + std::uint64_t{ways.length};
    if (std::string wrong = check_configuration(ways, before); !wrong.empty()) return wrong;
    before = &ways;
    if (ways.rings && (ways.write != WriteWay::kDoorbell || ways.length > 4))
      return "`rings` needs a doorbell of at most 4 bytes";
    if (ways.clear_mask == 0) continue;
    if (ways.length > 4 || ways.write != WriteWay::kPosted || ways.line == nullptr)
      return "`clears` needs a posted register of at most 4 bytes and an interrupt line";
  }
  return {};
}

}  // namespace

std::shared_ptr<RangeBlock> RangeBlock::create(std::uint64_t length) {
  const std::size_t size =
      (wire::RangeWire::kShadow + static_cast<std::size_t>(length) + kPageSize - 1) & kPageMask;
  void* const at =
      ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) return nullptr;
  std::shared_ptr<RangeBlock> block{new RangeBlock};
  block->base_ = static_cast<std::uint8_t*>(at);  // zeroed: every word of RangeWire at its start
  block->size_ = size;
  return block;
}

RangeBlock::~RangeBlock() {
  if (base_ != nullptr) ::munmap(base_, size_);
}

const RegisterWays& Range::ways(std::uint64_t offset, unsigned size) const {
  const auto after = std::upper_bound(
      spec.ways.begin(), spec.ways.end(), offset,
      [](std::uint64_t at, const RegisterWays& entry) { return at < entry.at; });
  if (after == spec.ways.begin()) return kUndeclared;
  const RegisterWays& entry = *(after - 1);
  return offset + size <= entry.at + std::uint64_t{entry.length} ? entry : kUndeclared;
}

std::uint32_t read_shadow(Range& range, std::uint64_t offset, unsigned size) {
  const std::uint8_t* const at = range.block->shadow() + offset;
  if (size == 4 && offset % 4 == 0)
    return __atomic_load_n(reinterpret_cast<const std::uint32_t*>(at), __ATOMIC_ACQUIRE);
  if (size == 2 && offset % 2 == 0)
    return __atomic_load_n(reinterpret_cast<const std::uint16_t*>(at), __ATOMIC_ACQUIRE);
  std::uint32_t value = 0;
  for (unsigned i = 0; i < size; ++i) value |= std::uint32_t{load_byte(at + i)} << (8 * i);
  return value;
}

void write_latch(Range& range, const RegisterWays& ways, std::uint32_t value) {
  auto* const at = reinterpret_cast<std::uint32_t*>(range.block->shadow() + ways.at);
  __atomic_store_n(at, value & ways.latch_mask, __ATOMIC_RELEASE);
}

void clear_status(Range& range, const RegisterWays& ways, std::uint64_t offset, unsigned size,
                  std::uint32_t value) {
  std::uint8_t* const shadow = range.block->shadow();
  for (unsigned i = 0; i < size; ++i) {
    const std::uint64_t lane = offset + i - ways.at;
    const auto ones = static_cast<std::uint8_t>((value >> (8 * i)) & (ways.clear_mask >> (8 * lane)));
    __atomic_fetch_and(shadow + offset + i, static_cast<std::uint8_t>(~ones), __ATOMIC_SEQ_CST);
  }
  const auto left = [&] {
    std::uint32_t status = 0;
    for (unsigned i = 0; i < ways.length; ++i)
      status |= std::uint32_t{__atomic_load_n(shadow + ways.at + i, __ATOMIC_SEQ_CST)} << (8 * i);
    return (status & ways.clear_mask) != 0;
  };
  if (left()) return;
  ways.line->set(false);
  // A device publishes a status bit before it raises the line. Where it did so between our look
  // and our lowering, the line is high again for good; it sees its own later raise otherwise.
  if (left()) ways.line->set(true);
}

std::string check_spec(const RangeSpec& spec) {
  const std::uint64_t limit = spec.space == Space::kPorts ? kPorts : kMemoryEnd;
  if (spec.length == 0 || spec.length > limit || spec.base > limit - spec.length)
    return "range \"" + spec.name + "\" is empty or ends past its space";
  if (spec.native != nullptr) return {};
  if (spec.length > kMaxShadow) return "range \"" + spec.name + "\" is longer than 512 MiB";
  const std::string wrong = check_ways(spec);
  return wrong.empty() ? wrong : "range \"" + spec.name + "\": " + wrong;
}

}  // namespace hv

#include "vmcs.h"

#include <algorithm>
#include <iterator>

namespace hv::sim {
namespace {

enum Width : std::uint32_t { k16 = 0, k64 = 1, k32 = 2, kNatural = 3 };
constexpr std::uint32_t kReadOnlyType = 1;

constexpr std::uint32_t width(std::uint32_t encoding) { return encoding >> 13 & 3; }

// The fields of a processor with everything that offer.cc offers, by their first and last encoding.
struct Range {
  std::uint32_t first, last;
};
constexpr Range kFields[] = {
    {0x0000, 0x0004},  // VPID, posted-interrupt vector, EPTP index
    {0x0800, 0x0810},  // guest selectors
    {0x0c00, 0x0c0c},  // host selectors
    {0x2000, 0x202e},  // addresses of what controls point at, TSC offset
    {0x2400, 0x2400},  // guest-physical address
    {0x2800, 0x2812},  // link pointer, DEBUGCTL, PAT, EFER, PERF_GLOBAL_CTRL, PDPTEs
    {0x2c00, 0x2c04},  // the host's
    {0x4000, 0x4022},  // controls
    {0x4400, 0x440e},  // why the guest was left
    {0x4800, 0x482a},  // guest limits, access rights, interruptibility, activity, SMBASE, SYSENTER
    {0x482e, 0x482e},  // preemption timer
    {0x4c00, 0x4c00},
    {0x6000, 0x600e},  // CR0 and CR4 masks and shadows, CR3 targets
    {0x6400, 0x640a},  // qualification, I/O registers, linear address
    {0x6800, 0x6826},
    {0x6c00, 0x6c16},
};

bool exists(std::uint32_t encoding) {
  const bool high = (encoding & 1) != 0;
  if (high && width(encoding) != k64) return false;
  const std::uint32_t field = encoding & ~1u;
  return std::any_of(std::begin(kFields), std::end(kFields), [field](const Range& range) {
    return field >= range.first && field <= range.last;
  });
}

}  // namespace

Access Vmcs::read(std::uint32_t encoding, std::uint64_t& value) const {
  if (!exists(encoding)) return Access::kNoSuchField;
  const std::uint64_t whole = values_[slot(encoding)];
  value = (encoding & 1) != 0 ? whole >> 32 : whole;
  return Access::kDone;
}

Access Vmcs::write(std::uint32_t encoding, std::uint64_t value) {
  if (!exists(encoding)) return Access::kNoSuchField;
  if ((encoding >> 10 & 3) == kReadOnlyType) return Access::kReadOnly;
  std::uint64_t& whole = values_[slot(encoding)];
  if (width(encoding) == k16)
    whole = value & 0xffff;
  else if (width(encoding) == k32)
    whole = value & 0xffff'ffff;
  else if ((encoding & 1) != 0)
    whole = (whole & 0xffff'ffff) | value << 32;
  else
    whole = value;
  return Access::kDone;
}

}  // namespace hv::sim

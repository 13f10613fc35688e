// A VMCS as VMREAD and VMWRITE see it: SDM Vol. 3, appendix "Field Encoding in VMCS". Fields have
// their width, and those that say why the guest was left cannot be written.
#pragma once
#include <array>
#include <cstdint>

#include "accel/hvf/vmx.h"

namespace hv::sim {

using hvf::Field;
using hvf::nth;

// The answers of VMREAD and VMWRITE ("VM Instruction Error Numbers").
enum class Access : std::uint8_t { kDone = 0, kNoSuchField = 12, kReadOnly = 13 };

class Vmcs {
 public:
  Access read(std::uint32_t encoding, std::uint64_t& value) const;
  Access write(std::uint32_t encoding, std::uint64_t value);

  // The processor's own accesses.
  std::uint64_t get(Field field) const { return values_[slot(static_cast<std::uint32_t>(field))]; }
  std::uint32_t get32(Field field) const { return static_cast<std::uint32_t>(get(field)); }
  void put(Field field, std::uint64_t value) {
    values_[slot(static_cast<std::uint32_t>(field))] = value;
  }

 private:
  // Bits 14:13 width, 11:10 type, 9:1 index; bit 0 the upper half of a field of 64 bits.
  static constexpr std::size_t slot(std::uint32_t encoding) {
    return (encoding >> 13 & 3) << 8 | (encoding >> 10 & 3) << 6 | (encoding >> 1 & 0x3f);
  }

  std::array<std::uint64_t, 1024> values_{};
};

}  // namespace hv::sim

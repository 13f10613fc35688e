// An interrupt on its way to local APICs: what an IPI, an IO-APIC pin and an MSI have in common.
#pragma once
#include <cstdint>

namespace hv {

// SDM Vol. 3, "Interrupt Command Register (ICR)", figure's field; the IO-APIC and MSI use the
// same codes, and 7 for ExtINT.
enum class DeliveryMode : std::uint8_t {
  kFixed = 0,
  kLowestPriority = 1,
  kSmi = 2,
  kReserved = 3,
  kNmi = 4,
  kInit = 5,
  kStartUp = 6,
  kExtInt = 7,
};

struct InterruptMessage {
  DeliveryMode mode = DeliveryMode::kFixed;
  std::uint8_t vector = 0;
  bool level = false;    // trigger mode
  bool logical = false;  // destination mode
  // Destinations from IO-APIC, MSI and xAPIC ICR have 8 bits (0xFF: all); an x2APIC's ICR has 32
  // (0xFFFFFFFF: all).
  bool wide = false;
  std::uint32_t destination = 0;

  bool operator==(const InterruptMessage&) const = default;
};

}  // namespace hv

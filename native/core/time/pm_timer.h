// The ACPI power management timer (ACPI 6.5 §4.8.2.1 "Power Management Timer"): a 32-bit counter
// at 3.579545 MHz. TMR_EN and TMR_STS live with PM1; this part raises nothing.
#pragma once
#include <cstdint>

#include "time/guest_clock.h"

namespace hv {

class PmTimer {
 public:
  static constexpr std::uint16_t kPort = 0x408;
  static constexpr std::uint64_t kHz = 3'579'545;

  explicit PmTimer(const GuestClock& clock) : clock_{clock} {}

  // Any width and offset within the four bytes; beyond them reads ones. It holds no state.
  std::uint32_t read(std::uint32_t offset, unsigned size) const;
  void write(std::uint32_t, unsigned, std::uint32_t) {}

 private:
  const GuestClock& clock_;
};

}  // namespace hv

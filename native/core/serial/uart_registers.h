// National Semiconductor PC16550D data sheet, "Registers" (table II) and the section of each.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

namespace hv::uart {

// Offset, bank (DLAB) and direction name one register.
enum class Register : std::uint8_t {
  kRbr, kThr, kIer, kIir, kFcr, kLcr, kMcr, kLsr, kMsr, kScr, kDll, kDlm
};
inline constexpr std::uint32_t kLength = 8;
inline constexpr std::array<Register, kLength> kRead{
    Register::kRbr, Register::kIer, Register::kIir, Register::kLcr,
    Register::kMcr, Register::kLsr, Register::kMsr, Register::kScr};
inline constexpr std::array<Register, kLength> kWrite{
    Register::kThr, Register::kIer, Register::kFcr, Register::kLcr,
    Register::kMcr, Register::kLsr, Register::kMsr, Register::kScr};
// In place of the first two while DLAB is set.
inline constexpr std::array<Register, 2> kDivisor{Register::kDll, Register::kDlm};

// "Interrupt Enable Register"
namespace ier {
inline constexpr std::uint8_t kReceived = 1, kTransmitEmpty = 2, kLineStatus = 4,
                              kModemStatus = 8, kAll = 0x0f;
}

// "Interrupt Identification Register", table IV: the value of bits 3:0 in order of priority.
enum class Source : std::uint8_t {
  kLineStatus = 0x6,
  kReceived = 0x4,
  kTimeout = 0xc,
  kTransmitEmpty = 0x2,
  kModemStatus = 0x0,
  kNone = 0x1,
};
namespace iir {
inline constexpr std::uint8_t kFifosEnabled = 0xc0;
}

// "FIFO Control Register"
namespace fcr {
inline constexpr std::uint8_t kEnable = 1, kClearReceive = 2, kDmaMode = 8, kTrigger = 0xc0;
}
inline constexpr std::array<std::size_t, 4> kTriggerLevels{1, 4, 8, 14};
inline constexpr std::size_t kFifoDepth = 16;

// "Line Control Register"
namespace lcr {
inline constexpr std::uint8_t kWordLength = 3, kStopBits = 4, kParity = 8, kDlab = 0x80;
}

// "MODEM Control Register". OUT2 gates the interrupt on the PC's board.
namespace mcr {
inline constexpr std::uint8_t kDtr = 1, kRts = 2, kOut1 = 4, kOut2 = 8, kLoop = 0x10, kAll = 0x1f;
}

// "Line Status Register"
namespace lsr {
inline constexpr std::uint8_t kDataReady = 1, kOverrun = 2, kBreak = 0x10, kHoldingEmpty = 0x20,
                              kTransmitterEmpty = 0x40, kFifoError = 0x80, kErrors = 0x1e;
}

// "MODEM Status Register"
namespace msr {
inline constexpr std::uint8_t kDeltaCts = 1, kDeltaDsr = 2, kTrailingRi = 4, kDeltaDcd = 8,
                              kDeltas = 0x0f, kCts = 0x10, kDsr = 0x20, kRi = 0x40, kDcd = 0x80;
// Our choice: a cable to a modem that is always there and always ready.
inline constexpr std::uint8_t kCable = kCts | kDsr | kDcd;
}

// The PC's 1.8432 MHz crystal, divided by 16: "Programmable Baud Generator".
inline constexpr std::uint64_t kBaseBaud = 115'200;
// 9600 baud, what a PC's firmware leaves. Our choice: the data sheet has it undefined.
inline constexpr std::uint8_t kResetDivisor = 12;

}  // namespace hv::uart

// Bits of the local APIC's registers that more than one of its files needs. SDM Vol. 3, chapter
// "Advanced Programmable Interrupt Controller (APIC)"; the section's title at each.
#pragma once
#include <cstdint>

namespace hv::lapic {

// "Local APIC Register Address Map".
inline constexpr unsigned kId = 0x020, kVersion = 0x030, kTpr = 0x080, kApr = 0x090, kPpr = 0x0a0,
                          kEoi = 0x0b0, kLdr = 0x0d0, kDfr = 0x0e0, kSvr = 0x0f0, kIsr = 0x100,
                          kTmr = 0x180, kIrr = 0x200, kEsr = 0x280, kLvtCmciAt = 0x2f0,
                          kIcr = 0x300, kIcrHigh = 0x310, kLvtFirst = 0x320, kLvtLast = 0x370,
                          kInitialCount = 0x380, kCurrentCount = 0x390, kDivide = 0x3e0,
                          kSelfIpi = 0x3f0;

// "Local APIC Status and Location": IA32_APIC_BASE.
inline constexpr std::uint64_t kBaseBsp = 1u << 8, kBaseX2apic = 1u << 10, kBaseEnable = 1u << 11;

// "Spurious Interrupt": SVR.
inline constexpr std::uint32_t kSvrEnable = 1u << 8, kSvrNoEoiBroadcast = 1u << 12;

// "Local Vector Table".
inline constexpr std::uint32_t kLvtMasked = 1u << 16, kLvtLevel = 1u << 15,
                               kLvtRemoteIrr = 1u << 14;

// "Error Handling": ESR.
inline constexpr std::uint32_t kSendIllegalVector = 1u << 5, kReceiveIllegalVector = 1u << 6,
                               kIllegalRegister = 1u << 7;

// "APIC Timer": LVT timer bits 18:17.
inline constexpr std::uint32_t kOneShot = 0, kPeriodic = 1, kTscDeadline = 2;

}  // namespace hv::lapic

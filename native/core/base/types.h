// The words that every part of the core shares: addresses, indices, sizes.
#pragma once
#include <cstddef>
#include <cstdint>

namespace hv {

// A guest-physical address. Linear addresses and offsets inside a device are plain integers; a
// Gpa is never one of them by accident.
enum class Gpa : std::uint64_t {};
constexpr std::uint64_t raw(Gpa at) { return static_cast<std::uint64_t>(at); }
constexpr Gpa operator+(Gpa at, std::uint64_t by) { return Gpa{raw(at) + by}; }

using VcpuIndex = std::uint32_t;
// A global system interrupt: an IO-APIC input, 0 to 23. ISA IRQ n is GSI n, except IRQ 0 (GSI 2).
using Gsi = std::uint32_t;

// Guest time: nanoseconds since the guest's clock was first started. It stands still while the VM
// is paused and never goes back.
using GuestNs = std::uint64_t;

inline constexpr std::uint64_t kPageSize = 4096;
inline constexpr std::uint64_t kPageMask = ~(kPageSize - 1);
inline constexpr std::uint32_t kMaxVcpus = 64;

}  // namespace hv

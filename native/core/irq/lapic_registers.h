// The local APIC's registers as data. SDM Vol. 3, "Local APIC Register Address Map" and "Local
// APIC Register Address Space" of x2APIC mode: MSR 0x800 + n is the register at offset 16 * n.
#pragma once
#include <array>
#include <cstdint>
#include <string_view>

namespace hv::lapic {

enum class Access : std::uint8_t { kNone, kRead, kWrite, kBoth };

struct Register {
  std::uint16_t at;
  std::string_view name;
  Access xapic;
  Access x2apic;
  // Bits that a write sets; the others of x2APIC registers fault when written as 1, except
  // `ignored` (read-only status).
  std::uint32_t writable = 0;
  std::uint32_t ignored = 0;
};

// clang-format off
inline constexpr auto kRegisters = [] {
  using enum Access;
  return std::to_array<Register>({
    // at   name                     xAPIC   x2APIC  writable    ignored
    {0x020, "ID",                    kRead,  kRead},
    {0x030, "version",               kRead,  kRead},
    {0x080, "TPR",                   kBoth,  kBoth,  0x000000ff},
    {0x090, "APR",                   kRead,  kNone},
    {0x0a0, "PPR",                   kRead,  kRead},
    {0x0b0, "EOI",                   kWrite, kWrite, 0xffffffff},  // x2APIC: only 0, see kOnlyZero
    {0x0c0, "RRD",                   kRead,  kNone},
    {0x0d0, "LDR",                   kBoth,  kRead,  0xff000000},
    {0x0e0, "DFR",                   kBoth,  kNone,  0xf0000000},
    {0x0f0, "SVR",                   kBoth,  kBoth,  0x000011ff, 0x00000200},
    {0x100, "ISR 31:0",              kRead,  kRead},
    {0x110, "ISR 63:32",             kRead,  kRead},
    {0x120, "ISR 95:64",             kRead,  kRead},
    {0x130, "ISR 127:96",            kRead,  kRead},
    {0x140, "ISR 159:128",           kRead,  kRead},
    {0x150, "ISR 191:160",           kRead,  kRead},
    {0x160, "ISR 223:192",           kRead,  kRead},
    {0x170, "ISR 255:224",           kRead,  kRead},
    {0x180, "TMR 31:0",              kRead,  kRead},
    {0x190, "TMR 63:32",             kRead,  kRead},
    {0x1a0, "TMR 95:64",             kRead,  kRead},
    {0x1b0, "TMR 127:96",            kRead,  kRead},
    {0x1c0, "TMR 159:128",           kRead,  kRead},
    {0x1d0, "TMR 191:160",           kRead,  kRead},
    {0x1e0, "TMR 223:192",           kRead,  kRead},
    {0x1f0, "TMR 255:224",           kRead,  kRead},
    {0x200, "IRR 31:0",              kRead,  kRead},
    {0x210, "IRR 63:32",             kRead,  kRead},
    {0x220, "IRR 95:64",             kRead,  kRead},
    {0x230, "IRR 127:96",            kRead,  kRead},
    {0x240, "IRR 159:128",           kRead,  kRead},
    {0x250, "IRR 191:160",           kRead,  kRead},
    {0x260, "IRR 223:192",           kRead,  kRead},
    {0x270, "IRR 255:224",           kRead,  kRead},
    {0x280, "ESR",                   kBoth,  kBoth,  0xffffffff},  // x2APIC: only 0
    {0x2f0, "LVT CMCI",              kBoth,  kBoth,  0x000107ff, 0x00001000},
    {0x300, "ICR",                   kBoth,  kBoth,  0x000ccfff, 0x00001000},
    {0x310, "ICR high",              kBoth,  kNone,  0xff000000},
    {0x320, "LVT timer",             kBoth,  kBoth,  0x000700ff, 0x00001000},
    {0x330, "LVT thermal",           kBoth,  kBoth,  0x000107ff, 0x00001000},
    {0x340, "LVT performance",       kBoth,  kBoth,  0x000107ff, 0x00001000},
    {0x350, "LVT LINT0",             kBoth,  kBoth,  0x0001a7ff, 0x00005000},
    {0x360, "LVT LINT1",             kBoth,  kBoth,  0x0001a7ff, 0x00005000},
    {0x370, "LVT error",             kBoth,  kBoth,  0x000100ff, 0x00001000},
    {0x380, "initial count",         kBoth,  kBoth,  0xffffffff},
    {0x390, "current count",         kRead,  kRead},
    {0x3e0, "divide configuration",  kBoth,  kBoth,  0x0000000b},
    {0x3f0, "self IPI",              kNone,  kWrite, 0x000000ff},
  });
}();
// clang-format on

consteval bool sound() {
  for (std::size_t i = 0; i < kRegisters.size(); ++i) {
    const Register& r = kRegisters[i];
    if (r.at % 16 != 0 || r.at >= 0x400) return false;
    if (i > 0 && r.at <= kRegisters[i - 1].at) return false;
    const bool writes = r.xapic > Access::kRead || r.x2apic > Access::kRead;
    if (writes != (r.writable != 0) || (r.writable & r.ignored) != 0) return false;
  }
  return true;
}
static_assert(sound(), "in order, 16-byte aligned, writable bits exactly where writes are allowed");

// By offset / 16; `at` is 0xffff where there is no register.
inline constexpr auto kByIndex = [] {
  std::array<Register, 64> out{};
  for (Register& r : out) r = {0xffff, {}, Access::kNone, Access::kNone, 0, 0};
  for (const Register& r : kRegisters) out[r.at / 16] = r;
  return out;
}();

constexpr bool readable(Access access) {
  return access == Access::kRead || access == Access::kBoth;
}
constexpr bool writable(Access access) {
  return access == Access::kWrite || access == Access::kBoth;
}

}  // namespace hv::lapic

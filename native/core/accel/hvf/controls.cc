#include "accel/hvf/controls.h"

namespace hv::hvf {
namespace {

struct Wish {
  std::uint64_t Capabilities::*offered;
  std::uint32_t Controls::*into;
  std::uint32_t bit;
  const char* required;  // its name, for the operator; nullptr: the guest does without
};

constexpr auto kPin = &Capabilities::pin;
constexpr auto kPrimary = &Capabilities::primary;
constexpr auto kSecondary = &Capabilities::secondary;
constexpr auto kExitCaps = &Capabilities::exit;
constexpr auto kEntryCaps = &Capabilities::entry;

constexpr Wish kWishes[] = {
    {kPin, &Controls::pin, kExternalInterruptExiting, "external-interrupt exiting"},
    {kPin, &Controls::pin, kNmiExiting, "NMI exiting"},
    {kPin, &Controls::pin, kVirtualNmis, "virtual NMIs"},
    {kPrimary, &Controls::primary, kTscOffsetting, "TSC offsetting"},
    {kPrimary, &Controls::primary, kHltExiting, "HLT exiting"},
    {kPrimary, &Controls::primary, kUnconditionalIoExiting, "unconditional I/O exiting"},
    // A guest must not move the host's task priority.
    {kPrimary, &Controls::primary, kCr8LoadExiting, "CR8-load exiting"},
    {kPrimary, &Controls::primary, kCr8StoreExiting, "CR8-store exiting"},
    {kPrimary, &Controls::primary, kSecondaryActive, "secondary controls"},
    {kPrimary, &Controls::primary, kMsrBitmaps, nullptr},
    // CPUID offers neither MONITOR nor counters; the interpreter says so.
    {kPrimary, &Controls::primary, kMwaitExiting, nullptr},
    {kPrimary, &Controls::primary, kMonitorExiting, nullptr},
    {kPrimary, &Controls::primary, kRdpmcExiting, nullptr},
    {kSecondary, &Controls::secondary, kEpt, "extended page tables"},
    {kSecondary, &Controls::secondary, kVpid, nullptr},
    {kSecondary, &Controls::secondary, kUnrestrictedGuest, nullptr},
    {kSecondary, &Controls::secondary, kRdtscpEnabled, nullptr},
    {kSecondary, &Controls::secondary, kInvpcidEnabled, nullptr},
    {kSecondary, &Controls::secondary, kPauseLoopExiting, nullptr},
    {kExitCaps, &Controls::exit, kHost64, "a 64-bit host"},
    {kExitCaps, &Controls::exit, kSaveEfer, "saving of EFER"},
    {kExitCaps, &Controls::exit, kLoadHostEfer, "loading of the host's EFER"},
    {kExitCaps, &Controls::exit, kSaveDebugControls, nullptr},
    {kExitCaps, &Controls::exit, kSavePat, nullptr},
    {kExitCaps, &Controls::exit, kLoadHostPat, nullptr},
    {kEntryCaps, &Controls::entry, kLoadEfer, "loading of EFER"},
    {kEntryCaps, &Controls::entry, kLoadDebugControls, nullptr},
    {kEntryCaps, &Controls::entry, kLoadPat, nullptr},
};

// Set now and then; they must be there and not be forced.
constexpr struct {
  std::uint32_t bit;
  const char* name;
} kWindows[] = {{kInterruptWindowExiting, "interrupt-window exiting"},
                {kNmiWindowExiting, "NMI-window exiting"}};

constexpr std::uint64_t kPe = 1u << 0, kPg = 1u << 31;

bool offers(std::uint64_t capability, std::uint32_t bit) {
  return (capability >> 32 & bit) != 0;
}

void lacks(Controls& controls, const char* what) {
  if (!controls.missing.empty()) controls.missing += ", ";
  controls.missing += what;
}

void take(const Capabilities& offered, const Wish& wish, Controls& out) {
  if (offers(offered.*wish.offered, wish.bit))
    out.*wish.into |= wish.bit;
  else if (wish.required != nullptr)
    lacks(out, wish.required);
}

}  // namespace

Controls negotiate(const Capabilities& offered) {
  Controls out;
  out.pin = static_cast<std::uint32_t>(offered.pin);
  out.primary = static_cast<std::uint32_t>(offered.primary);
  out.secondary = static_cast<std::uint32_t>(offered.secondary);
  out.exit = static_cast<std::uint32_t>(offered.exit);
  out.entry = static_cast<std::uint32_t>(offered.entry);
  for (const Wish& wish : kWishes) take(offered, wish, out);
  for (const auto& window : kWindows)
    if (!offers(offered.primary, window.bit)) lacks(out, window.name);
  out.pause_exits = offers(offered.primary, kPauseExiting);
  out.cr0_must = offered.cr0_fixed0;
  // SDM Vol. 3, "Restrictions on VMX Operation": an unrestricted guest may clear these two.
  if (out.unrestricted()) out.cr0_must &= ~(kPe | kPg);
  out.cr0_may = offered.cr0_fixed1;
  out.cr4_must = offered.cr4_fixed0;
  out.cr4_may = offered.cr4_fixed1;
  return out;
}

}  // namespace hv::hvf

#include "offer.h"

namespace hv::sim {
namespace {

using namespace hvf;

constexpr std::uint64_t may(std::uint32_t bits, std::uint32_t must = 0) {
  return std::uint64_t{bits | must} << 32 | must;
}

// The classes of controls that must be 1 ("default1"), but for those that the "true" MSRs allow to
// be 0: of the primary controls CR3 loads and stores, of the others the debug controls.
constexpr std::uint32_t kPinMust = 0x16, kPrimaryMust = 0x0400'6172, kExitMust = 0x3'6dfb,
                        kEntryMust = 0x11fb;

}  // namespace

Capabilities default_offer() {
  Capabilities out;
  out.pin =
      may(kExternalInterruptExiting | kNmiExiting | kVirtualNmis | kPreemptionTimer, kPinMust);
  out.primary =
      may(kInterruptWindowExiting | kTscOffsetting | kHltExiting | kInvlpgExiting | kMwaitExiting |
              kRdpmcExiting | kRdtscExiting | kCr3LoadExiting | kCr3StoreExiting | kCr8LoadExiting |
              kCr8StoreExiting | kNmiWindowExiting | kMovDrExiting | kUnconditionalIoExiting |
              kMsrBitmaps | kMonitorExiting | kPauseExiting | kSecondaryActive,
          kPrimaryMust);
  out.secondary = may(kEpt | kDescriptorTableExiting | kRdtscpEnabled | kVpid | kWbinvdExiting |
                      kUnrestrictedGuest | kRdrandExiting | kInvpcidEnabled | kRdseedExiting);
  out.exit = may(kSaveDebugControls | kHost64 | kSavePat | kLoadHostPat | kSaveEfer | kLoadHostEfer,
                 kExitMust & ~kSaveDebugControls);
  out.entry = may(kLoadDebugControls | kIa32eGuest | kLoadPat | kLoadEfer,
                  kEntryMust & ~kLoadDebugControls);
  out.cr0_fixed0 = 0x8000'0021;  // PG, NE, PE
  out.cr0_fixed1 = 0xffff'ffff;
  out.cr4_fixed0 = 0x2000;  // VMXE
  // TSD DE PSE PAE MCE PGE PCE OSFXSR OSXMMEXCPT UMIP VMXE FSGSBASE PCIDE SMEP SMAP.
  out.cr4_fixed1 = 0x33'2ffc;
  return out;
}

Capabilities& offer() {
  static Capabilities current = default_offer();
  return current;
}

}  // namespace hv::sim

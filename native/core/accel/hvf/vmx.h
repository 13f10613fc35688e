// VMX by the Intel SDM Vol. 3: fields of the VMCS (appendix "Field Encoding in VMCS"), bits of the
// controls (chapter "Virtual Machine Control Structures"), exit reasons (appendix "VMX Basic Exit
// Reasons").
#pragma once
#include <cstdint>

#include "accel/cpu_state.h"

namespace hv::hvf {

enum class Field : std::uint32_t {
  // 16 bits wide.
  kGuestSelector = 0x0800,  // of ES; CS, SS, DS, FS, GS, LDTR, TR follow in steps of 2
  // 64 bits wide: controls, information, guest.
  kTscOffset = 0x2010,
  kGuestPhysicalAddress = 0x2400,
  kLinkPointer = 0x2800,
  kGuestDebugctl = 0x2802,
  kGuestPat = 0x2804,
  kGuestEfer = 0x2806,
  kGuestPdpte = 0x280a,  // four, in steps of 2
  // 32 bits wide: controls.
  kPinControls = 0x4000,
  kPrimaryControls = 0x4002,
  kExceptionBitmap = 0x4004,
  kPageFaultMask = 0x4006,
  kPageFaultMatch = 0x4008,
  kCr3TargetCount = 0x400a,
  kExitControls = 0x400c,
  kEntryControls = 0x4012,
  kEntryEvent = 0x4016,
  kEntryEventError = 0x4018,
  kEntryInstructionLength = 0x401a,
  kTprThreshold = 0x401c,
  kSecondaryControls = 0x401e,
  kPauseGap = 0x4020,
  kPauseWindow = 0x4022,
  // 32 bits wide: information.
  kInstructionError = 0x4400,
  kExitReason = 0x4402,
  kExitEvent = 0x4404,
  kExitEventError = 0x4406,
  kVectoringEvent = 0x4408,
  kVectoringEventError = 0x440a,
  kInstructionLength = 0x440c,
  kInstructionInformation = 0x440e,
  // 32 bits wide: guest.
  kGuestLimit = 0x4800,  // in the order of the selectors
  kGuestGdtrLimit = 0x4810,
  kGuestIdtrLimit = 0x4812,
  kGuestAccess = 0x4814,  // in the order of the selectors
  kGuestInterruptibility = 0x4824,
  kGuestActivity = 0x4826,
  kGuestSysenterCs = 0x482a,
  // Natural width: controls, information, guest.
  kCr0Mask = 0x6000,
  kCr4Mask = 0x6002,
  kCr0Shadow = 0x6004,
  kCr4Shadow = 0x6006,
  kExitQualification = 0x6400,
  kGuestLinearAddress = 0x640a,
  kGuestCr0 = 0x6800,
  kGuestCr3 = 0x6802,
  kGuestCr4 = 0x6804,
  kGuestBase = 0x6806,  // in the order of the selectors
  kGuestGdtrBase = 0x6816,
  kGuestIdtrBase = 0x6818,
  kGuestDr7 = 0x681a,
  kGuestRsp = 0x681c,
  kGuestRip = 0x681e,
  kGuestRflags = 0x6820,
  kGuestPendingDebug = 0x6822,
  kGuestSysenterEsp = 0x6824,
  kGuestSysenterEip = 0x6826,
};

// One of a row of fields: segment `n` of a selector, limit, access or base; PDPTE `n`.
constexpr Field nth(Field first, unsigned n) {
  return static_cast<Field>(static_cast<std::uint32_t>(first) + 2 * n);
}
// The rows go on behind SegIndex.
inline constexpr unsigned kLdtrNumber = kSegCount, kTrNumber = kSegCount + 1;

enum PinControl : std::uint32_t {
  kExternalInterruptExiting = 1u << 0,
  kNmiExiting = 1u << 3,
  kVirtualNmis = 1u << 5,
  kPreemptionTimer = 1u << 6,
};

enum PrimaryControl : std::uint32_t {
  kInterruptWindowExiting = 1u << 2,
  kTscOffsetting = 1u << 3,
  kHltExiting = 1u << 7,
  kInvlpgExiting = 1u << 9,
  kMwaitExiting = 1u << 10,
  kRdpmcExiting = 1u << 11,
  kRdtscExiting = 1u << 12,
  kCr3LoadExiting = 1u << 15,
  kCr3StoreExiting = 1u << 16,
  kCr8LoadExiting = 1u << 19,
  kCr8StoreExiting = 1u << 20,
  kTprShadow = 1u << 21,
  kNmiWindowExiting = 1u << 22,
  kMovDrExiting = 1u << 23,
  kUnconditionalIoExiting = 1u << 24,
  kIoBitmaps = 1u << 25,
  kMonitorTrapFlag = 1u << 27,
  kMsrBitmaps = 1u << 28,
  kMonitorExiting = 1u << 29,
  kPauseExiting = 1u << 30,
  kSecondaryActive = 1u << 31,
};

enum SecondaryControl : std::uint32_t {
  kVirtualApicAccesses = 1u << 0,
  kEpt = 1u << 1,
  kDescriptorTableExiting = 1u << 2,
  kRdtscpEnabled = 1u << 3,
  kVirtualX2apic = 1u << 4,
  kVpid = 1u << 5,
  kWbinvdExiting = 1u << 6,
  kUnrestrictedGuest = 1u << 7,
  kPauseLoopExiting = 1u << 10,
  kRdrandExiting = 1u << 11,
  kInvpcidEnabled = 1u << 12,
  kRdseedExiting = 1u << 16,
  kXsavesEnabled = 1u << 20,
};

enum ExitControl : std::uint32_t {
  kSaveDebugControls = 1u << 2,
  kHost64 = 1u << 9,
  kSavePat = 1u << 18,
  kLoadHostPat = 1u << 19,
  kSaveEfer = 1u << 20,
  kLoadHostEfer = 1u << 21,
};

enum EntryControl : std::uint32_t {
  kLoadDebugControls = 1u << 2,
  kIa32eGuest = 1u << 9,
  kEntryToSmm = 1u << 10,
  kLoadPat = 1u << 14,
  kLoadEfer = 1u << 15,
};

// "Format of the VM-Entry Interruption-Information Field"; that of exits and of IDT vectoring is
// the same in what is used of it.
enum class EventType : std::uint8_t {
  kExternal = 0,
  kNmi = 2,
  kException = 3,
  kSoftwareInterrupt = 4,
  kPrivilegedException = 5,  // INT1
  kSoftwareException = 6,    // INT3, INTO
};
inline constexpr std::uint32_t kEventValid = 1u << 31, kEventHasError = 1u << 11,
                               kEventTypeShift = 8, kEventTypeMask = 7u << kEventTypeShift;
inline constexpr std::uint32_t kNmiUnblockedByIret = 1u << 12;  // and of an EPT violation

enum Interruptibility : std::uint32_t {
  kBlockedBySti = 1u << 0,
  kBlockedByMovSs = 1u << 1,
  kBlockedBySmi = 1u << 2,
  kBlockedByNmi = 1u << 3,
};

// "Pending Debug Exceptions": B0 to B3 as in DR6.
enum PendingDebug : std::uint64_t {
  kPendingBreakpoints = 0xf,
  kPendingEnabled = 1u << 12,  // at least one of the breakpoints is enabled in DR7
  kPendingStep = 1u << 14,
};

enum class Reason : std::uint16_t {
  kException = 0, kExternalInterrupt = 1, kTripleFault = 2, kInit = 3, kSipi = 4, kIoSmi = 5,
  kOtherSmi = 6, kInterruptWindow = 7, kNmiWindow = 8, kTaskSwitch = 9, kCpuid = 10, kGetsec = 11,
  kHlt = 12, kInvd = 13, kInvlpg = 14, kRdpmc = 15, kRdtsc = 16, kRsm = 17, kVmcall = 18,
  kVmclear = 19, kVmlaunch = 20, kVmptrld = 21, kVmptrst = 22, kVmread = 23, kVmresume = 24,
  kVmwrite = 25, kVmxoff = 26, kVmxon = 27, kControlRegister = 28, kDebugRegister = 29, kIo = 30,
  kRdmsr = 31, kWrmsr = 32, kInvalidGuestState = 33, kMsrLoading = 34, kMwait = 36,
  kMonitorTrap = 37, kMonitor = 39, kPause = 40, kMachineCheck = 41, kTprBelowThreshold = 43,
  kApicAccess = 44, kVirtualEoi = 45, kGdtrIdtr = 46, kLdtrTr = 47, kEptViolation = 48,
  kEptMisconfiguration = 49, kInvept = 50, kRdtscp = 51, kPreemptionTimer = 52, kInvvpid = 53,
  kWbinvd = 54, kXsetbv = 55, kApicWrite = 56, kRdrand = 57, kInvpcid = 58, kVmfunc = 59,
  kEncls = 60, kRdseed = 61, kPmlFull = 62, kXsaves = 63, kXrstors = 64, kPconfig = 65,
  kSubPage = 66, kUmwait = 67, kTpause = 68, kLoadiwkey = 69, kBusLock = 74, kNotify = 75,
};
inline constexpr std::uint32_t kEntryFailed = 1u << 31;  // in the exit reason's field

}  // namespace hv::hvf

// What a vCPU leaves the guest for (SDM Vol. 3, appendix "VMX Basic Exit Reasons"), and the
// answers. What an instruction did that the hardware would not do for the guest, the interpreter
// does: it raises what the processor would where the instruction is not offered.
#include <array>
#include <cstdio>

#include "accel/hvf/vcpu.h"
#include "softcpu/cpu.h"
#include "softcpu/overseer.h"
#include "softcpu/registers.h"

namespace hv::hvf {
namespace {

constexpr std::uint64_t kTrapFlag = 1u << 8;
constexpr std::uint64_t kLow32 = 0xffff'ffff;
constexpr std::uint64_t kEptWrite = 1u << 1;   // "Exit Qualification for EPT Violations"
constexpr std::uint32_t kLongCode = 1u << 13;  // L of CS's access rights
constexpr std::uint8_t kPageFault = 14, kDebugException = 1, kGeneralProtection = 13;

void add(std::uint64_t& counter) { __atomic_store_n(&counter, counter + 1, __ATOMIC_RELAXED); }

// "Exit Qualification for I/O Instructions".
struct IoQualification {
  std::uint64_t bits;
  unsigned size() const { return static_cast<unsigned>(bits & 7) + 1; }
  bool in() const { return (bits >> 3 & 1) != 0; }
  bool string() const { return (bits >> 4 & 1) != 0; }
  std::uint16_t port() const { return static_cast<std::uint16_t>(bits >> 16); }
};

// "Exit Qualification for Control-Register Accesses".
struct CrQualification {
  std::uint64_t bits;
  unsigned number() const { return static_cast<unsigned>(bits & 15); }
  bool moves_to() const { return (bits >> 4 & 3) == 0; }
  unsigned reg() const { return static_cast<unsigned>(bits >> 8 & 15); }
};

// CPUID says the same in the interpreter as in the guest.
struct HardwareCpuid final : softcpu::Overseer {
  softcpu::Handler bind(const softcpu::Insn& insn, softcpu::Handler handler) override {
    return insn.op == softcpu::Op::kCpuid ? run : handler;
  }
  static void run(softcpu::Cpu& cpu, const softcpu::Insn&) {
    const CpuidSubject subject{cpu.index, cpu.vcpu_count, cpu.platform.tsc_frequency(),
                               apic_enabled(cpu.platform, cpu.index)};
    const CpuidRegisters r = host().cpuid(subject, cpu.reg<std::uint32_t>(softcpu::kRax),
                                          cpu.reg<std::uint32_t>(softcpu::kRcx));
    cpu.gpr[softcpu::kRax] = r.eax;
    cpu.gpr[softcpu::kRbx] = r.ebx;
    cpu.gpr[softcpu::kRcx] = r.ecx;
    cpu.gpr[softcpu::kRdx] = r.edx;
  }
  static bool apic_enabled(Platform& platform, VcpuIndex vcpu) {
    const auto base = platform.read_apic_msr(vcpu, kMsrApicBase);
    return !base || (*base >> 11 & 1) != 0;
  }
};
HardwareCpuid hardware_cpuid;

enum class Kind : std::uint8_t {
  kUnexpected,   // nothing of ours asked for it: the VM cannot go on
  kNothing,      // the host's business, or a window that opened
  kInstruction,  // the interpreter's
};
constexpr std::size_t kReasons = 80;

constexpr std::array<Kind, kReasons> kKinds = [] {
  std::array<Kind, kReasons> kinds{};
  for (const Reason reason :
       {Reason::kExternalInterrupt, Reason::kInit, Reason::kSipi, Reason::kIoSmi,
        Reason::kOtherSmi, Reason::kInterruptWindow, Reason::kNmiWindow, Reason::kMonitorTrap,
        Reason::kTprBelowThreshold, Reason::kPreemptionTimer, Reason::kBusLock, Reason::kNotify})
    kinds[static_cast<std::size_t>(reason)] = Kind::kNothing;
  for (const Reason reason :
       {Reason::kGetsec, Reason::kInvd, Reason::kInvlpg, Reason::kRdpmc, Reason::kRdtsc,
        Reason::kRsm, Reason::kVmcall, Reason::kVmclear, Reason::kVmlaunch, Reason::kVmptrld,
        Reason::kVmptrst, Reason::kVmread, Reason::kVmresume, Reason::kVmwrite, Reason::kVmxoff,
        Reason::kVmxon, Reason::kDebugRegister, Reason::kMwait, Reason::kMonitor,
        Reason::kApicAccess, Reason::kGdtrIdtr, Reason::kLdtrTr, Reason::kInvept, Reason::kRdtscp,
        Reason::kInvvpid, Reason::kWbinvd, Reason::kXsetbv, Reason::kRdrand, Reason::kInvpcid,
        Reason::kVmfunc, Reason::kEncls, Reason::kRdseed, Reason::kXsaves, Reason::kXrstors,
        Reason::kPconfig, Reason::kUmwait, Reason::kTpause, Reason::kLoadiwkey})
    kinds[static_cast<std::size_t>(reason)] = Kind::kInstruction;
  return kinds;
}();

// The bytes of RAX that IN leaves alone.
std::uint64_t merge(std::uint64_t rax, std::uint32_t value, unsigned size) {
  if (size == 4) return value;
  const std::uint64_t mask = (1ull << 8 * size) - 1;
  return (rax & ~mask) | (value & mask);
}

}  // namespace

std::optional<Exit> HvfVcpu::answer() {
  const auto field = static_cast<std::uint32_t>(handle_.read(Field::kExitReason));
  if ((field & kEntryFailed) != 0 && cannot_enter(field)) return std::nullopt;
  switch (static_cast<Reason>(field)) {
    case Reason::kException: answer_exception(); return std::nullopt;
    case Reason::kTripleFault: kept_.activity = Activity::kShutdown; return std::nullopt;
    case Reason::kTaskSwitch: answer_task_switch(); return std::nullopt;
    case Reason::kCpuid: answer_cpuid(); return std::nullopt;
    case Reason::kHlt: answer_halt(); return std::nullopt;
    case Reason::kControlRegister: answer_control_register(); return std::nullopt;
    case Reason::kIo: answer_io(); return std::nullopt;
    case Reason::kRdmsr: answer_rdmsr(); return std::nullopt;
    case Reason::kWrmsr: answer_wrmsr(); return std::nullopt;
    case Reason::kPause: answer_pause(); return std::nullopt;
    case Reason::kEptViolation: answer_ept_violation(); return std::nullopt;
    default: break;
  }
  const std::uint32_t reason = field & 0xffff;
  const Kind kind = reason < kReasons ? kKinds[reason] : Kind::kUnexpected;
  if (kind == Kind::kInstruction) answer_instruction();
  if (kind == Kind::kUnexpected) refuse_exit();
  return std::nullopt;
}

// The VM ends as after a triple fault, and the operator is told why.
void HvfVcpu::refuse_exit() {
  const auto hex = [this](Field field) {
    return static_cast<unsigned long long>(handle_.read(field));
  };
  std::fprintf(stderr,
               "hvf: vCPU %u: exit 0x%llx that nothing asked for (qualification 0x%llx, "
               "guest-physical 0x%llx, RIP 0x%llx): the VM shuts down\n",
               wiring_.index, hex(Field::kExitReason), hex(Field::kExitQualification),
               hex(Field::kGuestPhysicalAddress), hex(Field::kGuestRip));
  kept_.activity = Activity::kShutdown;
}

// The interpreter goes on from any state, also from one that VM entry refuses.
bool HvfVcpu::cannot_enter(std::uint32_t field) {
  if (static_cast<Reason>(field) != Reason::kInvalidGuestState) {
    refuse_exit();
    return true;
  }
  if (!refused_)
    std::fprintf(stderr,
                 "hvf: vCPU %u: the hardware refuses the guest's state (check %llu, RIP 0x%llx): "
                 "it is interpreted from there\n",
                 wiring_.index,
                 static_cast<unsigned long long>(handle_.read(Field::kExitQualification)),
                 static_cast<unsigned long long>(handle_.read(Field::kGuestRip)));
  refused_ = true;
  event_ ? deliver_in_software() : interpret();
  return true;
}

// No bit of the exception bitmap is set. An NMI was the host's; anything else goes on to the guest.
void HvfVcpu::answer_exception() {
  const auto information = static_cast<std::uint32_t>(handle_.read(Field::kExitEvent));
  const Event event{information & ~kNmiUnblockedByIret,
                    static_cast<std::uint32_t>(handle_.read(Field::kExitEventError))};
  if ((information & kEventValid) == 0 || event.type() == EventType::kNmi) return;
  const std::uint64_t qualification = handle_.read(Field::kExitQualification);
  if (event.vector() == kPageFault) handle_.set(HV_X86_CR2, qualification);
  if (event.vector() == kDebugException)
    handle_.set(HV_X86_DR6, (handle_.get(HV_X86_DR6) & ~0xfull) | (qualification & 0x600f));
  event_ = event;
  if (event_.by_instruction()) deliver_in_software();
}

void HvfVcpu::answer_cpuid() {
  const CpuidSubject subject{wiring_.index, wiring_.count, host().tsc_hz,
                             HardwareCpuid::apic_enabled(platform_, wiring_.index)};
  const CpuidRegisters r =
      host().cpuid(subject, static_cast<std::uint32_t>(handle_.get(HV_X86_RAX)),
                   static_cast<std::uint32_t>(handle_.get(HV_X86_RCX)));
  handle_.set(HV_X86_RAX, r.eax);
  handle_.set(HV_X86_RBX, r.ebx);
  handle_.set(HV_X86_RCX, r.ecx);
  handle_.set(HV_X86_RDX, r.edx);
  skip();
}

// Whether it sleeps is look_at_signals()'s to say.
void HvfVcpu::answer_halt() {
  add(count_.halts);
  kept_.activity = Activity::kHalted;
  skip();
}

void HvfVcpu::answer_io() {
  const IoQualification io{handle_.read(Field::kExitQualification)};
  add(count_.port_accesses);
  // Strings, and ports that a breakpoint may watch.
  if (io.string() || (handle_.read(Field::kGuestDr7) & 0xff) != 0) return interpret();
  const std::uint64_t rax = handle_.get(HV_X86_RAX);
  if (io.in()) {
    const std::uint32_t value = platform_.in(wiring_.index, io.port(), io.size());
    handle_.set(HV_X86_RAX, merge(rax, value, io.size()));
  } else {
    platform_.out(wiring_.index, io.port(), io.size(),
                  static_cast<std::uint32_t>(merge(0, static_cast<std::uint32_t>(rax), io.size())));
  }
  skip();
}

// The local APIC's registers are what a kernel accesses at every interrupt. The platform's deadline
// is in terms of the counter before IA32_TSC_ADJUST.
void HvfVcpu::answer_rdmsr() {
  const auto index = static_cast<std::uint32_t>(handle_.get(HV_X86_RCX));
  auto value = is_apic_msr(index) ? guest_.read_apic_msr(wiring_.index, index) : std::nullopt;
  if (!value) return answer_instruction();
  if (index == kMsrTscDeadline && *value != 0) *value += kept_.tsc_adjust;
  handle_.set(HV_X86_RAX, *value & kLow32);
  handle_.set(HV_X86_RDX, *value >> 32);
  skip();
}

void HvfVcpu::answer_wrmsr() {
  const auto index = static_cast<std::uint32_t>(handle_.get(HV_X86_RCX));
  if (!is_apic_msr(index)) return answer_instruction();
  std::uint64_t value = (handle_.get(HV_X86_RAX) & kLow32) | handle_.get(HV_X86_RDX) << 32;
  if (index == kMsrTscDeadline && value != 0) {
    value -= kept_.tsc_adjust;
    if (value == 0) value = 1;  // 0 would disarm
  }
  if (!guest_.write_apic_msr(wiring_.index, index, value)) return answer_instruction();
  skip();
}

// A bit of CR4 that this processor does not have faults here as there.
void HvfVcpu::answer_control_register() {
  const CrQualification cr{handle_.read(Field::kExitQualification)};
  const bool to_cr4 = cr.moves_to() && cr.number() == 4;
  constexpr hv_x86_reg_t kByEncoding[16] = {
      HV_X86_RAX, HV_X86_RCX, HV_X86_RDX, HV_X86_RBX, HV_X86_RSP, HV_X86_RBP,
      HV_X86_RSI, HV_X86_RDI, HV_X86_R8,  HV_X86_R9,  HV_X86_R10, HV_X86_R11,
      HV_X86_R12, HV_X86_R13, HV_X86_R14, HV_X86_R15};
  if (to_cr4 && (handle_.get(kByEncoding[cr.reg()]) & kLow32 & ~controls_.cr4_may) != 0) {
    event_ = Event::of(EventType::kException, kGeneralProtection);
    event_.information |= kEventHasError;
    event_.error = 0;
    return;
  }
  answer_instruction();
}

void HvfVcpu::answer_pause() {
  platform_.spin_hint(wiring_.index);
  skip();
}

// RAM is mapped whole, but read-only where the log waits for a page's first write. Where the
// framework still wants to put a page in place, entering again is enough. What is no RAM is a
// device.
void HvfVcpu::answer_ept_violation() {
  const std::uint64_t qualification = handle_.read(Field::kExitQualification);
  if ((qualification & kNmiUnblockedByIret) != 0 && !event_) {
    const std::uint64_t blocked = handle_.read(Field::kGuestInterruptibility);
    handle_.write(Field::kGuestInterruptibility, blocked | kBlockedByNmi);
  }
  const Gpa at{handle_.read(Field::kGuestPhysicalAddress)};
  if (machine_.memory().host(at) != nullptr) {
    if ((qualification & kEptWrite) != 0 && !machine_.note_write(at)) refuse_exit();
    return;
  }
  add(count_.mmio_accesses);
  event_ ? deliver_in_software() : interpret();
}

void HvfVcpu::answer_task_switch() {
  event_ ? deliver_in_software() : interpret();
  handle_.invalidate_tlb();
}

// It may have changed how memory is translated.
void HvfVcpu::answer_instruction() {
  interpret();
  handle_.invalidate_tlb();
}

void HvfVcpu::skip() {
  const std::uint64_t length = handle_.read(Field::kInstructionLength);
  std::uint64_t rip = handle_.read(Field::kGuestRip) + length;
  const auto cs = static_cast<std::uint32_t>(handle_.read(nth(Field::kGuestAccess, kCs)));
  if (rip >> 32 != 0 && (cs & kLongCode) == 0) rip &= kLow32;
  handle_.write(Field::kGuestRip, rip);
  constexpr std::uint64_t kShadows = kBlockedBySti | kBlockedByMovSs;
  const std::uint64_t blocked = handle_.read(Field::kGuestInterruptibility);
  if ((blocked & kShadows) != 0) handle_.write(Field::kGuestInterruptibility, blocked & ~kShadows);
  if ((handle_.read(Field::kGuestRflags) & kTrapFlag) != 0)
    handle_.write(Field::kGuestPendingDebug,
                  handle_.read(Field::kGuestPendingDebug) | kPendingStep);
}

softcpu::Cpu& HvfVcpu::interpreter() {
  if (interpreter_ == nullptr) {
    const VcpuWiring wiring{wiring_.index, wiring_.count, guest_, signals_, {}};
    interpreter_ = std::make_unique<softcpu::Cpu>(wiring, machine_.memory());
    interpreter_->choose_translator({.enabled = false});
    interpreter_->overseer = &hardware_cpuid;
  }
  return *interpreter_;
}

template <class Step>
void HvfVcpu::in_software(Step&& step) {
  CpuState before = kept_;
  read_state(before);
  before.accepted_interrupt = 0;
  softcpu::Cpu& cpu = interpreter();
  cpu.set_state(before);
  step(cpu);
  write_state(cpu.state(), &before);
}

void HvfVcpu::interpret() {
  in_software([](softcpu::Cpu& cpu) { cpu.run_one(); });
}

void HvfVcpu::deliver_in_software() {
  const Event event = event_;
  event_ = {};
  if (event.by_instruction()) return interpret();
  using Source = softcpu::Cpu::Source;
  const Source source = event.type() == EventType::kException ? Source::kException
                        : event.type() == EventType::kNmi     ? Source::kNmi
                                                              : Source::kHardware;
  const bool has_error = (event.information & kEventHasError) != 0;
  in_software([&](softcpu::Cpu& cpu) {
    cpu.run_event({event.vector(), source, has_error, event.error});
  });
}

}  // namespace hv::hvf

#include "virtual_cpu.h"

#include <algorithm>
#include <iterator>

#include "accel/host_counter.h"
#include "accel/msr_policy.h"
#include "entry_checks.h"
#include "offer.h"
#include "softcpu/opcodes.h"
#include "softcpu/system_ops.h"

namespace hv::sim {

using namespace hvf;

namespace {

// The code epochs of guest memory (memory/code_pages.h) know two CPUs of each vCPU here: this one,
// and the interpreter of the accelerator under test.
constexpr VcpuIndex kFirstIndex = kMaxVcpus / 2;

// What the framework gives a guest when asked.
constexpr std::uint32_t kGivable[] = {0x10,        0x174,       0x175,       0x176,
                                      0xc000'0081, 0xc000'0082, 0xc000'0083, 0xc000'0084,
                                      0xc000'0100, 0xc000'0101, 0xc000'0102, 0xc000'0103};

std::uint64_t bit_of(std::uint32_t msr) {
  const auto* const found = std::find(std::begin(kGivable), std::end(kGivable), msr);
  return found == std::end(kGivable) ? 0 : 1ull << (found - std::begin(kGivable));
}

// Everything that may exit is left to its handler.
softcpu::TranslatorOptions translator_options() {
  softcpu::TranslatorOptions options = softcpu::TranslatorOptions::from_environment();
  using softcpu::Op;
  for (std::size_t op = 0; op < options.off.size(); ++op)
    if (softcpu::family(static_cast<Op>(op)) == softcpu::Family::kSystem) options.off.set(op);
  options.off.set(static_cast<std::size_t>(Op::kPause));
  return options;
}

}  // namespace

std::optional<std::uint8_t> HostPlatform::acknowledge_interrupt(VcpuIndex) {
  cpu->interrupt_window();
}

std::uint64_t HostPlatform::tsc() {
  const bool offsets = (vmcs_.get32(Field::kPrimaryControls) & kTscOffsetting) != 0;
  return host_tsc() + (offsets ? vmcs_.get(Field::kTscOffset) : 0);
}

VirtualCpu::VirtualCpu(Space& space, unsigned number, std::span<VcpuSignals* const> all)
    : space_{space},
      cpu{{kFirstIndex + number, 1, platform_, *all[number], all}, *space.memory()},
      signals_{*all[number]} {
  platform_.cpu = this;
  cpu.overseer = this;
  cpu.choose_translator(translator_options());
  cpu.slow.activity = Activity::kRunning;
}

// ---- entry and exit -----------------------------------------------------------------------------

bool VirtualCpu::run(std::uint64_t deadline) {
  if (!owned()) return false;
  left_ = {};
  if (wrong_controls(vmcs, offer()) != nullptr) {
    vmcs.put(Field::kInstructionError, 7);
    return false;
  }
  if (const WrongState wrong = wrong_state(vmcs, offer()); wrong.what != nullptr) {
    vmcs.put(Field::kExitReason,
             kEntryFailed | static_cast<std::uint32_t>(Reason::kInvalidGuestState));
    vmcs.put(Field::kExitQualification, wrong.qualification);
    return true;
  }
  deadline_.store(deadline);
  load_guest();
  inject();
  ask_for_windows();
  explain(run_guest());
  save_guest();
  report();
  return true;
}

Exit VirtualCpu::run_guest() {
  signals_.clear(Signal::kExit);
  interrupted_.store(false);
  expired_.store(false);
  inside_.store(true);
  Exit exit = cpu.run();
  // HLT without exiting: the activity state "HLT", until the host wants its processor back.
  while (!left_.known && exit == Exit::kHalted) {
    const std::uint32_t seen = signals_.pending();
    constexpr auto kEnds = static_cast<std::uint32_t>(Signal::kExit);
    if ((seen & kEnds) == 0) signals_.sleep(seen);
    exit = cpu.run();
  }
  inside_.store(false);
  return exit;
}

void VirtualCpu::interrupt() {
  if (!inside_.load()) return;
  interrupted_.store(true);
  signals_.raise(Signal::kExit);
}

void VirtualCpu::tick(std::uint64_t now) {
  if (!inside_.load() || now < deadline_.load()) return;
  expired_.store(true);
  signals_.raise(Signal::kExit);
}

// The exits that no instruction and no event made.
void VirtualCpu::explain(Exit exit) {
  if (left_.known) return;
  left_.known = true;
  Reason reason = Reason::kExternalInterrupt;
  if (exit == Exit::kTripleFault)
    reason = Reason::kTripleFault;
  else if (expired_.load() && !interrupted_.load())
    reason = Reason::kPreemptionTimer;
  left_.reason = static_cast<std::uint32_t>(reason);
}

void VirtualCpu::exit(Reason reason, std::uint64_t qualification, unsigned length) {
  left_.known = true;
  left_.reason = static_cast<std::uint32_t>(reason);
  left_.qualification = qualification;
  left_.length = length;
  left_.vectoring = vectoring();
  left_.vectoring_error = cpu.delivering.error;
  cpu.system.in_delivery = cpu.system.delivering = false;
  cpu.leave_run();
}

// "Information for VM Exits That Occur During Event Delivery".
std::uint32_t VirtualCpu::vectoring() const {
  if (!cpu.system.in_delivery) return 0;
  using Source = softcpu::Cpu::Source;
  const softcpu::Cpu::Event& event = cpu.delivering;
  EventType type = EventType::kExternal;
  switch (event.source) {
    case Source::kException: type = EventType::kException; break;
    case Source::kHardware: break;
    case Source::kNmi: type = EventType::kNmi; break;
    case Source::kInt1: type = EventType::kPrivilegedException; break;
    case Source::kSoftware:
      type = cpu.insn->op == softcpu::Op::kIntN ? EventType::kSoftwareInterrupt
                                                : EventType::kSoftwareException;
      break;
  }
  return kEventValid | (event.has_error ? kEventHasError : 0u) |
         static_cast<std::uint32_t>(type) << kEventTypeShift | event.vector;
}

void VirtualCpu::report() {
  vmcs.put(Field::kEntryEvent, vmcs.get(Field::kEntryEvent) & ~std::uint64_t{kEventValid});
  vmcs.put(Field::kExitReason, left_.reason);
  vmcs.put(Field::kExitQualification, left_.qualification);
  vmcs.put(Field::kInstructionLength, left_.length);
  vmcs.put(Field::kGuestPhysicalAddress, left_.physical);
  vmcs.put(Field::kGuestLinearAddress, left_.linear);
  vmcs.put(Field::kExitEvent, left_.event);
  vmcs.put(Field::kExitEventError, left_.event_error);
  vmcs.put(Field::kVectoringEvent, left_.vectoring);
  vmcs.put(Field::kVectoringEventError, left_.vectoring_error);
}

// "Event Injection".
void VirtualCpu::inject() {
  using Source = softcpu::Cpu::Source;
  const std::uint32_t event = vmcs.get32(Field::kEntryEvent);
  if ((event & kEventValid) == 0) return;
  const auto type = static_cast<EventType>((event & kEventTypeMask) >> kEventTypeShift);
  const auto vector = static_cast<std::uint8_t>(event);
  if (type >= EventType::kSoftwareInterrupt)
    cpu.gpr[softcpu::kRip] += vmcs.get(Field::kEntryInstructionLength);
  Source source = Source::kHardware;
  if (type == EventType::kNmi) source = Source::kNmi;
  if (type == EventType::kException) source = Source::kException;
  if (type == EventType::kPrivilegedException) source = Source::kInt1;
  if (type == EventType::kSoftwareInterrupt || type == EventType::kSoftwareException)
    source = Source::kSoftware;
  cpu.inject({vector, source, (event & kEventHasError) != 0,
              vmcs.get32(Field::kEntryEventError)});
}

// A window opens where the software CPU would take the interrupt or NMI.
void VirtualCpu::ask_for_windows() {
  const auto set = [this](Signal signal, bool wanted) {
    if (wanted)
      signals_.raise(signal);
    else
      signals_.clear(signal);
  };
  set(Signal::kInterrupt, primary(kInterruptWindowExiting));
  set(Signal::kNmi, primary(kNmiWindowExiting));
}

// ---- what the framework holds beside the VMCS ---------------------------------------------------

bool VirtualCpu::give_msr(std::uint32_t index, bool given) {
  const std::uint64_t bit = bit_of(index);
  given_ = given ? given_ | bit : given_ & ~bit;
  return bit != 0;
}

bool VirtualCpu::gives(std::uint32_t msr) const {
  return primary(kMsrBitmaps) && (given_ & bit_of(msr)) != 0;
}

bool VirtualCpu::read_msr(std::uint32_t index, std::uint64_t& value) const {
  if (bit_of(index) == 0) return false;
  auto& changeable = const_cast<softcpu::Cpu&>(cpu);
  return softcpu::read_msr(changeable, index, value);
}

bool VirtualCpu::write_msr(std::uint32_t index, std::uint64_t value) {
  return bit_of(index) != 0 && softcpu::write_msr(cpu, index, value);
}

void VirtualCpu::read_fpu(XsaveArea& out) const {
  CpuState state;
  state.fpu = cpu.fpu;
  std::copy_n(cpu.sse.xmm, state.fpu.xmm.size(), state.fpu.xmm.begin());
  state.fpu.mxcsr = cpu.mxcsr;
  put_fpu(state, out);
}

void VirtualCpu::write_fpu(const XsaveArea& in) {
  CpuState state;
  get_fpu(in, state);
  cpu.fpu = state.fpu;
  std::copy_n(state.fpu.xmm.begin(), state.fpu.xmm.size(), cpu.sse.xmm);
  cpu.mxcsr = state.fpu.mxcsr;
}

}  // namespace hv::sim

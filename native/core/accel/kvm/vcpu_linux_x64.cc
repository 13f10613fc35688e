#include "accel/kvm/vcpu.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "accel/kvm/limits.h"
#include "accel/kvm/state.h"

namespace hv::kvm {
namespace {

constexpr std::uint64_t kInterruptFlag = 1u << 9;
constexpr std::uint64_t kPaging = 1ull << 31, kPae = 1u << 5, kLongModeActive = 1u << 10;
constexpr std::uint32_t bit(Signal signal) { return static_cast<std::uint32_t>(signal); }

// A real-time signal that neither the C library nor a JavaScript runtime uses. Its handler is
// there so that the signal ends KVM_RUN instead of the process; it never runs, since vCPU threads
// block the signal everywhere else.
int kick_signal() { return SIGRTMIN + 9; }

void install_handler() {
  struct sigaction action {};
  action.sa_handler = [](int) {};
  ::sigaction(kick_signal(), &action, nullptr);
}

sigset_t kick_set() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, kick_signal());
  return set;
}

// A thread that is no more is not found, or a later one of this process has its number, blocks
// the signal or runs the handler, and goes on.
void kick_thread(std::uint64_t thread) noexcept {
  ::syscall(SYS_tgkill, ::getpid(), static_cast<pid_t>(thread), kick_signal());
}

void add(std::uint64_t& counter) { __atomic_store_n(&counter, counter + 1, __ATOMIC_RELAXED); }

}  // namespace

KvmVcpu::KvmVcpu(KvmMachine& machine, const VcpuWiring& wiring)
    : machine_{machine}, wiring_{wiring}, platform_{wiring.platform}, signals_{wiring.signals} {
  open_vcpu();
  if (!broken_) publish_kick();
  if (!broken_) set_cpuid();
  set_state(reset_state(wiring.index == 0));
  if (has_kernel_apic()) machine_.split_irqchip()->add(wiring.index, *this);
}

KvmVcpu::~KvmVcpu() {
  if (run_ != nullptr) ::munmap(run_, machine_.run_length());
}

// A kernel that refuses what it did before leaves a vCPU that cannot run: it shuts down, and the
// reason is told once.
void KvmVcpu::must(int result, const char* what) {
  if (result >= 0 || broken_) return;
  broken_ = true;
  std::fprintf(stderr, "kvm: vCPU %u: %s: %s\n", wiring_.index, what, std::strerror(errno));
}

void KvmVcpu::open_vcpu() {
  const int fd = machine_.vm().call(KVM_CREATE_VCPU, static_cast<unsigned long>(wiring_.index));
  vcpu_ = Handle{fd};
  must(fd, "KVM_CREATE_VCPU");
  if (broken_) return;
  void* const at =
      ::mmap(nullptr, machine_.run_length(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  must(at == MAP_FAILED ? -1 : 0, "mapping kvm_run");
  if (broken_) return;
  run_ = static_cast<kvm_run*>(at);
  const int khz = vcpu_.call(KVM_GET_TSC_KHZ);
  must(khz > 0 ? 0 : -1, "KVM_GET_TSC_KHZ");
  tsc_hz_ = static_cast<std::uint64_t>(khz) * 1000;
}

void KvmVcpu::publish_kick() {
  install_handler();
  const sigset_t kick = kick_set();
  pthread_sigmask(SIG_BLOCK, &kick, nullptr);
  sigset_t inside;
  sigfillset(&inside);
  sigdelset(&inside, kick_signal());
  SignalMask mask;
  std::memcpy(mask.set.data(), &inside, mask.set.size());
  must(vcpu_.call(kSetSignalMask, &mask), "KVM_SET_SIGNAL_MASK");
  signals_.set_kick(kick_thread, static_cast<std::uint64_t>(::syscall(SYS_gettid)));
}

void KvmVcpu::set_cpuid() {
  const CpuidSubject cpu{wiring_.index, wiring_.count, tsc_hz_};
  const CpuidTable table = machine_.host_cpu() ? host_cpuid_table(cpu) : cpuid_table(cpu);
  must(vcpu_.call(kSetCpuid2, &table), "KVM_SET_CPUID2");
}

VcpuCounters KvmVcpu::counters() const { return count_.snapshot(); }

// --- running ------------------------------------------------------------------------------------

Exit KvmVcpu::run() {
  if (broken_) return Exit::kTripleFault;
  sync_tsc();
  for (;;) {
    const std::uint32_t seen = signals_.pending();
    if (const auto exit = look_at_signals()) return leave(*exit);
    // What look_at_signals() took is gone from the word, so that only news keeps us out.
    const std::uint32_t taken = bit(Signal::kNmi) | bit(Signal::kFlushTlb) | bit(Signal::kProtectCode);
    if (!enter(seen & ~taken)) continue;
    if (const auto exit = answer()) return leave(*exit);
    if (broken_) return Exit::kTripleFault;
  }
}

std::optional<Exit> KvmVcpu::look_at_signals() {
  const std::uint32_t pending = signals_.pending();
  // The TLB is the hardware's, and code that it runs was decoded by nobody.
  signals_.clear(Signal::kFlushTlb);
  signals_.clear(Signal::kProtectCode);
  if ((pending & bit(Signal::kInit)) != 0) return Exit::kInit;
  if ((pending & bit(Signal::kExit)) != 0) {
    signals_.clear(Signal::kExit);
    return Exit::kKicked;
  }
  if (kept_.activity == Activity::kShutdown) return Exit::kTripleFault;
  if (kept_.activity != Activity::kRunning && !wakes()) return Exit::kHalted;
  kept_.activity = Activity::kRunning;
  if (signals_.has(Signal::kNmi)) offer_nmi();
  offer_interrupt(signals_.pending());
  return std::nullopt;
}

bool KvmVcpu::wakes() {
  if (kept_.activity != Activity::kHalted) return false;
  if (nmi_offered_) take_back_nmi();
  const std::uint32_t pending = signals_.pending();
  if (kept_.accepted_interrupt != 0) return true;
  if ((pending & bit(Signal::kNmi)) != 0) {
    kvm_vcpu_events events{};
    must(vcpu_.call(KVM_GET_VCPU_EVENTS, &events), "KVM_GET_VCPU_EVENTS");
    if (events.nmi.masked == 0) return true;
  }
  if ((pending & bit(Signal::kInterrupt)) == 0) return false;
  kvm_regs regs{};
  must(vcpu_.call(KVM_GET_REGS, &regs), "KVM_GET_REGS");
  return (regs.rflags & kInterruptFlag) != 0;
}

void KvmVcpu::offer_nmi() {
  signals_.clear(Signal::kNmi);
  nmi_offered_ = true;
  add(count_.interrupts);
  must(vcpu_.call(KVM_NMI), "KVM_NMI");
}

// One interrupt an entry; while more wait, or the guest takes none, it asks for the window.
void KvmVcpu::offer_interrupt(std::uint32_t pending) {
  run_->request_interrupt_window = 0;
  if ((pending & bit(Signal::kInterrupt)) == 0) return;
  if (run_->ready_for_interrupt_injection == 0 || run_->if_flag == 0) {
    run_->request_interrupt_window = 1;
    return;
  }
  const auto vector = platform_.acknowledge_interrupt(wiring_.index);
  if (!vector) return;
  add(count_.interrupts);
  inject(*vector);
  run_->ready_for_interrupt_injection = 0;
  run_->request_interrupt_window = signals_.has(Signal::kInterrupt);
}

void KvmVcpu::inject(std::uint8_t vector) {
  if (!has_kernel_apic()) {
    kvm_interrupt interrupt{vector};
    return must(vcpu_.call(KVM_INTERRUPT, &interrupt), "KVM_INTERRUPT");
  }
  // Beside a local APIC, KVM_INTERRUPT leaves the vector where no state shows it until the vCPU takes
  // it. It is taken at once as an event, which is state; and that ends no HLT by itself.
  kvm_vcpu_events events{};
  must(vcpu_.call(KVM_GET_VCPU_EVENTS, &events), "KVM_GET_VCPU_EVENTS");
  events.flags = 0;
  events.interrupt.injected = 1;
  events.interrupt.nr = vector;
  events.interrupt.soft = 0;
  must(vcpu_.call(KVM_SET_VCPU_EVENTS, &events), "KVM_SET_VCPU_EVENTS");
  set_kernel_activity(Activity::kRunning);
}

Exit KvmVcpu::leave(Exit exit) {
  finish_access();
  if (nmi_offered_) take_back_nmi();
  if (has_kernel_apic()) notice_timer();
  return exit;
}

// An NMI that the kernel has not delivered is a signal again, where it is saved and seen.
void KvmVcpu::take_back_nmi() {
  nmi_offered_ = false;
  kvm_vcpu_events events{};
  must(vcpu_.call(KVM_GET_VCPU_EVENTS, &events), "KVM_GET_VCPU_EVENTS");
  if (events.nmi.pending == 0 && events.nmi.injected == 0) return;
  if (events.nmi.injected != 0) events.nmi.masked = 0;
  events.nmi.pending = events.nmi.injected = 0;
  events.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
  must(vcpu_.call(KVM_SET_VCPU_EVENTS, &events), "KVM_SET_VCPU_EVENTS");
  signals_.raise(Signal::kNmi);
}

bool KvmVcpu::enter(std::uint32_t seen) {
  signals_.enter();
  const bool quiet = (signals_.pending() & ~seen) == 0;
  const bool answered = quiet && enter_kernel();
  const int error = errno;
  if (signals_.leave() || !answered) drain_kicks();
  if (quiet && !answered && error != EINTR && error != EAGAIN) {
    errno = error;
    must(-1, "KVM_RUN");
    run_->exit_reason = KVM_EXIT_SHUTDOWN;
    return true;
  }
  return answered;
}

bool KvmVcpu::enter_kernel() {
  if (!has_kernel_apic()) run_->cr8 = platform_.cr8(wiring_.index);
  const std::uint64_t given = run_->cr8;
  const int result = vcpu_.call(KVM_RUN);
  const int error = errno;
  access_open_ = false;
  if (run_->cr8 != given && !has_kernel_apic())
    platform_.set_cr8(wiring_.index, static_cast<std::uint8_t>(run_->cr8 & 15));
  errno = error;
  return result == 0;
}

// The kernel does all that it does before an entry, and turns back: the guest gets no instruction, or
// on some hosts a few.
void KvmVcpu::turn_back_at_entry() {
  kick_thread(static_cast<std::uint64_t>(::syscall(SYS_gettid)));
  while (!broken_ && enter_kernel()) (void)answer();
  drain_kicks();
}

void KvmVcpu::drain_kicks() {
  const sigset_t kick = kick_set();
  constexpr timespec kAtOnce{};
  while (::sigtimedwait(&kick, nullptr, &kAtOnce) > 0) {
  }
}

// The instruction of the last access ends only at the next entry (api.rst, KVM_EXIT_MMIO), and
// may ask for more on the way.
void KvmVcpu::finish_access() {
  run_->immediate_exit = 1;
  while (access_open_ && !broken_ && enter_kernel()) (void)answer();
  run_->immediate_exit = 0;
}

// --- state --------------------------------------------------------------------------------------

CpuState KvmVcpu::state() const {
  CpuState s = kept_;
  if (broken_) return s;
  // First: what comes to the vCPU with it may be a reset of all the others.
  if (has_kernel_apic() && s.activity != Activity::kShutdown) s.activity = kernel_activity();
  kvm_regs regs{};
  kvm_sregs system{};
  XsaveArea fpu;
  kvm_debugregs debug{};
  kvm_vcpu_events events{};
  vcpu_.call(KVM_GET_REGS, &regs);
  vcpu_.call(KVM_GET_SREGS, &system);
  vcpu_.call(kGetXsave, &fpu);
  vcpu_.call(KVM_GET_DEBUGREGS, &debug);
  vcpu_.call(KVM_GET_VCPU_EVENTS, &events);
  get_registers(regs, s);
  get_system(system, s);
  get_fpu(fpu, s);
  get_debug(debug, s);
  get_events(events, s);
  get_msrs(s);
  load_pdptes(s);
  return s;
}

void KvmVcpu::set_state(const CpuState& s) {
  const bool adjusted = s.tsc_adjust != kept_.tsc_adjust;
  kept_ = s;
  kept_.accepted_interrupt = 0;
  if (broken_) return;
  kvm_regs regs{};
  kvm_sregs system{};
  XsaveArea fpu;
  kvm_debugregs debug{};
  kvm_vcpu_events events{};
  must(vcpu_.call(KVM_GET_SREGS, &system), "KVM_GET_SREGS");
  put_registers(s, regs);
  put_system(s, system);
  set_apic_base(system);
  put_fpu(s, fpu);
  put_debug(s, debug);
  put_events(s, events);
  must(vcpu_.call(KVM_SET_SREGS, &system), "KVM_SET_SREGS");
  must(vcpu_.call(KVM_SET_REGS, &regs), "KVM_SET_REGS");
  must(vcpu_.call(kSetXsave, &fpu), "KVM_SET_XSAVE");
  must(vcpu_.call(KVM_SET_DEBUGREGS, &debug), "KVM_SET_DEBUGREGS");
  set_msrs();
  set_system_time();
  if (has_kernel_apic()) events.flags &= ~static_cast<std::uint32_t>(KVM_VCPUEVENT_VALID_NMI_PENDING);
  must(vcpu_.call(KVM_SET_VCPU_EVENTS, &events), "KVM_SET_VCPU_EVENTS");
  if (s.accepted_interrupt != 0) kept_.activity = Activity::kRunning;
  run_->ready_for_interrupt_injection = 0;
  if (adjusted) tsc_round_ = ~0ull;
  if (has_kernel_apic()) set_kernel_activity(kept_.activity);
}

void KvmVcpu::set_msrs() {
  MsrTable table;
  for (const HardwareMsr& msr : kHardwareMsrs)
    if (host().has_msr(msr.index))
      table.entries[table.count++] = {msr.index, 0, kept_.*msr.at};
  const int done = vcpu_.call(kSetMsrs, &table);
  if (done != static_cast<int>(table.count)) must(-1, "KVM_SET_MSRS");
}

void KvmVcpu::get_msrs(CpuState& s) const {
  MsrTable table;
  for (const HardwareMsr& msr : kHardwareMsrs)
    if (host().has_msr(msr.index)) table.entries[table.count++].index = msr.index;
  vcpu_.call(kGetMsrs, &table);
  std::uint32_t n = 0;
  for (const HardwareMsr& msr : kHardwareMsrs)
    if (host().has_msr(msr.index)) s.*msr.at = table.entries[n++].data;
}

// The kernel keeps them to itself (but for KVM_GET_SREGS2): they are what the guest loaded with
// CR3, which is what lies there but for a guest that rewrote them and has not reloaded.
void KvmVcpu::load_pdptes(CpuState& s) const {
  const bool pae = (s.cr0 & kPaging) != 0 && (s.cr4 & kPae) != 0;
  if (!pae || (s.efer & kLongModeActive) != 0) return;
  const auto* const at = machine_.memory().host(Gpa{s.cr3 & 0xffff'ffe0}, sizeof s.pdpte);
  if (at != nullptr) std::memcpy(s.pdpte.data(), at, sizeof s.pdpte);
}

// The kernel answers CPUID.1:EDX.APIC from it; the APIC itself is ours.
void KvmVcpu::set_apic_base(kvm_sregs& out) {
  if (has_kernel_apic()) return;
  constexpr std::uint64_t kEnable = 1u << 11, kBootstrap = 1u << 8, kAddress = 0xfee0'0000;
  const auto base = platform_.read_apic_msr(wiring_.index, kMsrApicBase);
  out.apic_base = kAddress | (wiring_.index == 0 ? kBootstrap : 0) | (base.value_or(kEnable) & kEnable);
  out.cr8 = platform_.cr8(wiring_.index);
}

// The counter runs on in the hardware while the guest's clock stands: at each round it is set to
// where the clock is.
void KvmVcpu::sync_tsc() {
  const std::uint64_t round = platform_.clock_rounds();
  if (round == tsc_round_) return;
  tsc_round_ = round;
  // The guest may see that it was stopped (msr.rst, flags): no watchdog of its own need bark.
  if (kept_.kvm_system_time != 0) (void)vcpu_.call(KVM_KVMCLOCK_CTRL);
  // KVM's clock and its APICs' deadlines are in terms of the counter as the kernel takes the guest to
  // see it.
  if (!counter_can_be_offset()) {
    if (machine_.clock() != nullptr || has_kernel_apic()) set_tsc_offset(0);
    return;
  }
  tsc_offset_ = machine_.counter().offset(platform_, tsc_hz_);
  set_tsc_offset(tsc_offset_ + kept_.tsc_adjust);
}

void KvmVcpu::set_tsc_offset(std::uint64_t value) {
  kvm_device_attr attribute{};
  attribute.group = KVM_VCPU_TSC_CTRL;
  attribute.attr = KVM_VCPU_TSC_OFFSET;
  attribute.addr = reinterpret_cast<std::uint64_t>(&value);
  if (vcpu_.call(KVM_SET_DEVICE_ATTR, &attribute) == 0) return;
  set_msr(kMsrTsc, guest_tsc());  // before Linux 5.16: close enough, and the kernel aligns the vCPUs
}

// The page that the guest named is the kernel's to write; once, since the kernel forgets what it knew of
// it each time.
void KvmVcpu::set_system_time() {
  if (machine_.clock() == nullptr || system_time_ == kept_.kvm_system_time) return;
  system_time_ = kept_.kvm_system_time;
  set_msr(kMsrSystemTime, system_time_);
}

void KvmVcpu::set_msr(std::uint32_t index, std::uint64_t value) {
  MsrTable table;
  table.count = 1;
  table.entries[0] = {index, 0, value};
  if (vcpu_.call(kSetMsrs, &table) != 1) must(-1, "KVM_SET_MSRS");
}

}  // namespace hv::kvm

// A vCPU's local APIC where the kernel has it (split_irqchip.h): its registers from and to our one
// form (irq/lapic.h), and what of the vCPU goes with it, HLT and the wait for a SIPI.
//
// The kernel's has no register for CMCI, gathers no errors for the next write of the ESR, and shows
// an initial count of 0 where one shot has fired before it was given; each comes back as it was.
#include <cstring>

#include "accel/frequencies.h"
#include "accel/kvm/vcpu.h"
#include "irq/lapic_bits.h"

namespace hv::kvm {
namespace {

using namespace lapic;

struct NamedRegister {
  unsigned at;
  std::uint32_t LapicState::*member;
};
constexpr NamedRegister kNamed[] = {{kTpr, &LapicState::tpr},
                                    {kSvr, &LapicState::svr},
                                    {kEsr, &LapicState::esr},
                                    {kInitialCount, &LapicState::initial_count},
                                    {kDivide, &LapicState::divide}};
// In x2APIC mode the kernel makes up the first from the id, and has no second.
constexpr NamedRegister kXapicOnly[] = {{kLdr, &LapicState::ldr}, {kDfr, &LapicState::dfr}};

struct NamedBits {
  unsigned at;
  ApicBits LapicState::*member;
};
constexpr NamedBits kVectors[] = {
    {kIsr, &LapicState::isr}, {kTmr, &LapicState::tmr}, {kIrr, &LapicState::irr}};

constexpr unsigned kStride = 16;

std::uint32_t get(const kvm_lapic_state& registers, unsigned at) {
  std::uint32_t value;
  std::memcpy(&value, registers.regs + at, sizeof value);
  return value;
}

void put(kvm_lapic_state& registers, unsigned at, std::uint32_t value) {
  std::memcpy(registers.regs + at, &value, sizeof value);
}

bool in_x2apic(const LapicState& s) {
  return (s.base & (kBaseEnable | kBaseX2apic)) == (kBaseEnable | kBaseX2apic);
}

constexpr unsigned kLvtTimerAt = kLvtFirst;
constexpr std::uint32_t timer_mode(std::uint32_t entry) { return entry >> 17 & 3; }
bool in_one_shot(const LapicState& s) { return timer_mode(s.lvt[kLvtTimer]) == kOneShot; }

// api.rst, KVM_GET_LAPIC: the register page, with the 8-bit id in bits 31:24 in either mode.
void put_registers(const LentLapic& from, kvm_lapic_state& to) {
  const LapicState& s = from.state;
  put(to, kId, s.id << 24);
  for (const NamedRegister& r : kNamed) put(to, r.at, s.*r.member);
  for (const NamedRegister& r : kXapicOnly) put(to, r.at, s.*r.member);
  for (const NamedBits& b : kVectors)
    for (unsigned i = 0; i < (s.*b.member).size(); ++i) put(to, b.at + kStride * i, (s.*b.member)[i]);
  put(to, kIcr, static_cast<std::uint32_t>(s.icr));
  put(to, kIcrHigh, static_cast<std::uint32_t>(s.icr >> 32));
  for (unsigned i = 0; i <= kLvtError; ++i) put(to, kLvtFirst + kStride * i, s.lvt[i]);
  put(to, kCurrentCount, from.current_count);
  // The kernel would take the rest of a shot that has fired for one that is due now.
  if (in_one_shot(s) && !s.counting) put(to, kInitialCount, 0);
}

// `to` has the state that was given, and its base as it is now.
void get_registers(const kvm_lapic_state& from, LentLapic& to) {
  LapicState& s = to.state;
  const std::uint32_t fired = in_one_shot(s) && !s.counting ? s.initial_count : 0;
  for (const NamedRegister& r : kNamed) s.*r.member = get(from, r.at);
  if (!in_x2apic(s))
    for (const NamedRegister& r : kXapicOnly) s.*r.member = get(from, r.at);
  for (const NamedBits& b : kVectors)
    for (unsigned i = 0; i < (s.*b.member).size(); ++i) (s.*b.member)[i] = get(from, b.at + kStride * i);
  s.icr = std::uint64_t{get(from, kIcrHigh)} << 32 | get(from, kIcr);
  for (unsigned i = 0; i <= kLvtError; ++i) s.lvt[i] = get(from, kLvtFirst + kStride * i);
  to.current_count = get(from, kCurrentCount);
  s.counting = s.initial_count != 0 && (!in_one_shot(s) || to.current_count != 0);
  if (in_one_shot(s) && s.initial_count == 0) s.initial_count = fired;
  if (to.current_count > s.initial_count) to.current_count = s.initial_count;
}

// Since the count was `noted` no instruction of the guest's has run.
bool expired_since(std::uint32_t noted, const kvm_lapic_state& now) {
  const std::uint32_t count = get(now, kCurrentCount);
  switch (timer_mode(get(now, kLvtTimerAt))) {
    case kOneShot: return noted != 0 && count == 0;
    case kPeriodic: return count > noted;
    default: return false;
  }
}

void request_timer_interrupt(LapicState& s) {
  const std::uint32_t entry = s.lvt[kLvtTimer], vector = entry & 0xff;
  if ((entry & kLvtMasked) != 0 || vector < 16) return;
  s.irr[vector / 32] |= 1u << vector % 32;
  s.tmr[vector / 32] &= ~(1u << vector % 32);
}

}  // namespace

// --- HLT and wait-for-SIPI ------------------------------------------------------------------------

Activity KvmVcpu::kernel_activity() const {
  kvm_mp_state state{};
  vcpu_.call(KVM_GET_MP_STATE, &state);
  switch (state.mp_state) {
    case KVM_MP_STATE_HALTED: return Activity::kHalted;
    case KVM_MP_STATE_UNINITIALIZED:
    case KVM_MP_STATE_INIT_RECEIVED: return Activity::kWaitForSipi;
    default: return Activity::kRunning;
  }
}

void KvmVcpu::set_kernel_activity(Activity activity) {
  kvm_mp_state state{};
  switch (activity) {
    case Activity::kHalted: state.mp_state = KVM_MP_STATE_HALTED; break;
    case Activity::kWaitForSipi: state.mp_state = KVM_MP_STATE_INIT_RECEIVED; break;
    default: state.mp_state = KVM_MP_STATE_RUNNABLE; break;
  }
  must(vcpu_.call(KVM_SET_MP_STATE, &state), "KVM_SET_MP_STATE");
  if (activity != Activity::kShutdown) kept_.activity = Activity::kRunning;
}

void KvmVcpu::settle_apic() {
  if (broken_) return;
  (void)kernel_activity();  // KVM_GET_MP_STATE lets INIT and SIPI take effect
  take_back_nmi();
}

// --- the timer that counts ---------------------------------------------------------------------------

// An expiry that the vCPU has not noticed is in no register, and it notices only on its way into the
// guest. So it goes there once more; what expires after that is seen in the count (take_apic()).
void KvmVcpu::notice_timer() {
  noted_count_ = 0;
  kvm_lapic_state registers{};
  if (broken_ || vcpu_.call(KVM_GET_LAPIC, &registers) != 0) return;
  if (timer_mode(get(registers, kLvtTimerAt)) > kPeriodic || get(registers, kInitialCount) == 0)
    return;
  turn_back_at_entry();
  if (vcpu_.call(KVM_GET_LAPIC, &registers) == 0) noted_count_ = get(registers, kCurrentCount);
}

// --- registers ------------------------------------------------------------------------------------

std::uint64_t KvmVcpu::kernel_msr(std::uint32_t index) const {
  MsrTable table;
  table.count = 1;
  table.entries[0].index = index;
  vcpu_.call(kGetMsrs, &table);
  return table.entries[0].data;
}

void KvmVcpu::give_apic(const LentLapic& apic) {
  if (broken_) return;
  given_apic_ = apic.state;
  noted_count_ = apic.current_count;
  sync_tsc();
  kvm_lapic_state registers{};
  put_registers(apic, registers);
  set_msr(kMsrApicBase, apic.state.base);
  must(vcpu_.call(KVM_SET_LAPIC, &registers), "KVM_SET_LAPIC");
  give_deadline(apic.state.tsc_deadline);
}

LentLapic KvmVcpu::take_apic() {
  LentLapic apic{given_apic_};
  if (broken_) return apic;
  kvm_lapic_state registers{};
  must(vcpu_.call(KVM_GET_LAPIC, &registers), "KVM_GET_LAPIC");
  apic.state.base = kernel_msr(kMsrApicBase);
  get_registers(registers, apic);
  if (expired_since(noted_count_, registers)) request_timer_interrupt(apic.state);
  apic.state.tsc_deadline = take_deadline();
  return apic;
}

// --- IA32_TSC_DEADLINE, which is the guest's counter here and Platform's in the saved form ----------

void KvmVcpu::give_deadline(std::uint64_t platform_deadline) {
  std::uint64_t value = 0;
  if (platform_deadline != 0) {
    const auto ahead = static_cast<std::int64_t>(platform_deadline - platform_.tsc());
    const std::uint64_t wait =
        ahead <= 0 ? 0 : scale(static_cast<std::uint64_t>(ahead), tsc_hz_, platform_.tsc_frequency());
    value = guest_tsc() + wait;
    if (platform_deadline == platform_deadline_ && counter_can_be_offset()) value = deadline_;
  }
  set_msr(kMsrTscDeadline, value);
}

std::uint64_t KvmVcpu::take_deadline() {
  deadline_ = kernel_msr(kMsrTscDeadline);
  platform_deadline_ = deadline_ == 0 ? 0 : to_platform(deadline_);
  return platform_deadline_;
}

}  // namespace hv::kvm

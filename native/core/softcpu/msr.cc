// RDMSR and WRMSR. The registers that act on this CPU are here, those that only keep a value in
// accel/msr_policy.h.
#include "accel/msr_policy.h"
#include "softcpu/system_ops.h"

namespace hv::softcpu {

namespace {

bool write_efer(Cpu& cpu, std::uint64_t value) {
  constexpr std::uint64_t kKnown = kEferSce | kEferLme | kEferLma | kEferNxe;
  if ((value & ~kKnown) != 0) return false;
  const std::uint64_t next = (value & ~std::uint64_t{kEferLma}) | (cpu.efer & kEferLma);
  const std::uint64_t changed = next ^ cpu.efer;
  if ((changed & kEferLme) != 0 && (cpu.cr0 & kCr0Pg) != 0) return false;
  cpu.efer = next;
  if ((changed & kEferNxe) != 0) cpu.flush_tlb(false);
  cpu.mode_changed();
  return true;
}

bool write_base(Cpu& cpu, unsigned segment, std::uint64_t value) {
  if (!canonical(value)) return false;
  cpu.segments[segment].base = value;
  cpu.update_window(segment);
  return true;
}

// The platform's deadline is in terms of its own counter, without IA32_TSC_ADJUST.
bool read_apic(Cpu& cpu, std::uint32_t index, std::uint64_t& value) {
  const auto found = cpu.platform.read_apic_msr(cpu.index, index);
  if (!found) return false;
  value = *found;
  if (index == kMsrTscDeadline && value != 0) value += cpu.slow.tsc_adjust;
  return true;
}
bool write_apic(Cpu& cpu, std::uint32_t index, std::uint64_t value) {
  if (index == kMsrTscDeadline && value != 0) {
    value -= cpu.slow.tsc_adjust;
    if (value == 0) value = 1;  // 0 would disarm
  }
  return cpu.platform.write_apic_msr(cpu.index, index, value);
}

// Those with a meaning of their own. False in `known`: not one of them.
bool read_special(Cpu& cpu, std::uint32_t index, std::uint64_t& value) {
  switch (index) {
    case kMsrTsc: value = cpu.guest_tsc(); return true;
    case kMsrTscAdjust: value = cpu.slow.tsc_adjust; return true;
    case kMsrEfer: value = cpu.efer; return true;
    case kMsrFsBase: value = cpu.segments[kFs].base; return true;
    case kMsrGsBase: value = cpu.segments[kGs].base; return true;
    default: return false;
  }
}

MsrWrite result(bool ok) { return ok ? MsrWrite::kDone : MsrWrite::kRefused; }

MsrWrite write_special(Cpu& cpu, std::uint32_t index, std::uint64_t value) {
  switch (index) {
    case kMsrTsc: cpu.slow.tsc_adjust = value - cpu.platform.tsc(); return MsrWrite::kDone;
    case kMsrTscAdjust: cpu.slow.tsc_adjust = value; return MsrWrite::kDone;
    case kMsrEfer: return result(write_efer(cpu, value));
    case kMsrFsBase: return result(write_base(cpu, kFs, value));
    case kMsrGsBase: return result(write_base(cpu, kGs, value));
    default: return MsrWrite::kUnknown;
  }
}

}  // namespace

std::uint64_t Cpu::guest_tsc() { return platform.tsc() + slow.tsc_adjust; }

bool read_msr(Cpu& cpu, std::uint32_t index, std::uint64_t& value) {
  if (is_apic_msr(index)) return read_apic(cpu, index, value);
  if (read_special(cpu, index, value)) return true;
  if (const auto kept = read_kept_msr(cpu.slow, index)) {
    value = *kept;
    return true;
  }
  value = 0;
  return cpu.platform.ignore_unknown_msrs();
}

bool write_msr(Cpu& cpu, std::uint32_t index, std::uint64_t value) {
  if (is_apic_msr(index)) return write_apic(cpu, index, value);
  const MsrWrite special = write_special(cpu, index, value);
  if (special != MsrWrite::kUnknown) return special == MsrWrite::kDone;
  const MsrWrite kept = write_kept_msr(cpu.slow, index, value);
  if (kept != MsrWrite::kUnknown) return kept == MsrWrite::kDone;
  return cpu.platform.ignore_unknown_msrs();
}

}  // namespace hv::softcpu

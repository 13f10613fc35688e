// Debug registers and the exceptions they ask for: SDM Vol. 3, "Debug, Branch Profile, TSC…".
#include "softcpu/system_ops.h"

namespace hv::softcpu {

namespace {

constexpr std::uint64_t kDr6Step = 1u << 14, kDr6Fixed = 0xffff0ff0;
enum class Condition : std::uint8_t { kExecute = 0, kWrite = 1, kIo = 2, kReadWrite = 3 };

bool enabled(const Cpu& cpu, unsigned n) { return (cpu.dr7 >> (2 * n) & 3) != 0; }
Condition condition(const Cpu& cpu, unsigned n) {
  return static_cast<Condition>(cpu.dr7 >> (16 + 4 * n) & 3);
}
// LEN: 1, 2, 8 or 4 bytes; the address is taken as aligned to it.
unsigned length(const Cpu& cpu, unsigned n) {
  static constexpr unsigned kLength[4] = {1, 2, 8, 4};
  return kLength[cpu.dr7 >> (18 + 4 * n) & 3];
}

bool overlaps(const Cpu& cpu, unsigned n, std::uint64_t at, std::uint64_t bytes) {
  const std::uint64_t size = length(cpu, n), first = cpu.dr[n] & ~(size - 1);
  return at < first + size && first < at + bytes;
}

}  // namespace

void Cpu::check_instruction_breakpoints() {
  system.stepping = (system_flags & kTf) != 0;
  system.keep_resume_flag = false;
  system.debug_hits = 0;
  if ((dr7 & 0xff) == 0 || (system_flags & kRf) != 0) return;
  const std::uint64_t start = instruction_start();
  const std::uint64_t at = long64 ? start : (segments[kCs].base + start) & 0xffff'ffff;
  std::uint64_t hits = 0;
  for (unsigned n = 0; n < 4; ++n)
    if (enabled(*this, n) && condition(*this, n) == Condition::kExecute && dr[n] == at)
      hits |= 1ull << n;
  if (hits == 0 || slow.shadow_blocks_debug) return;
  dr6 = (dr6 & ~0xfull) | hits;
  raise(Vector::kDb);
}

void Cpu::after_instruction() {
  if (!system.keep_resume_flag) system_flags &= ~std::uint64_t{kRf};
  std::uint64_t hits = system.debug_hits | slow.pending_debug;
  if (system.stepping) hits |= kDr6Step;
  system.debug_hits = 0;
  system.stepping = false;
  system.keep_resume_flag = false;
  slow.pending_debug = 0;
  if (hits == 0) return;
  // MOV SS and POP SS hold #DB until the next instruction has retired; a single step is lost.
  if (slow.shadow_blocks_debug) {
    slow.pending_debug = hits & ~kDr6Step;
    return;
  }
  dr6 = (dr6 & ~0xfull) | hits;
  raise(Vector::kDb);
}

void Cpu::match_data_breakpoints(std::uint64_t linear_address, unsigned bytes, AccessKind kind) {
  for (unsigned n = 0; n < 4; ++n) {
    if (!enabled(*this, n) || !overlaps(*this, n, linear_address, bytes)) continue;
    const Condition on = condition(*this, n);
    const bool write = kind == AccessKind::kWrite;
    if (on == Condition::kReadWrite || (on == Condition::kWrite && write))
      system.debug_hits |= 1ull << n;
  }
}

bool Cpu::page_has_breakpoint(std::uint64_t linear_address) const {
  if ((dr7 & 0xff) == 0) return false;
  for (unsigned n = 0; n < 4; ++n)
    if (enabled(*this, n) && condition(*this, n) != Condition::kExecute &&
        ((dr[n] ^ linear_address) & kPageMask) == 0)
      return true;
  return false;
}

void match_io_breakpoints(Cpu& cpu, std::uint16_t port, unsigned bytes) {
  if ((cpu.dr7 & 0xff) == 0 || (cpu.cr4 & kCr4De) == 0) return;
  for (unsigned n = 0; n < 4; ++n)
    if (enabled(cpu, n) && condition(cpu, n) == Condition::kIo && overlaps(cpu, n, port, bytes))
      cpu.system.debug_hits |= 1ull << n;
}

bool general_detect(Cpu& cpu) {
  constexpr std::uint64_t kGd = 1u << 13, kBd = 1u << 13;
  if ((cpu.dr7 & kGd) == 0) return false;
  cpu.dr7 &= ~kGd;
  cpu.dr6 |= kBd;
  return true;
}

std::uint64_t read_debug_register(const Cpu& cpu, unsigned number) {
  if (number < 4) return cpu.dr[number];
  return (number & 1) == 0 ? cpu.dr6 : cpu.dr7;
}

// False: #GP(0), the upper half of DR6 and DR7 is reserved.
bool write_debug_register(Cpu& cpu, unsigned number, std::uint64_t value) {
  constexpr std::uint64_t kDr6Writable = 0xe00f, kDr7Fixed = 0x400, kDr7Reserved = 0xd800;
  if (number >= 4 && value >> 32 != 0) return false;
  if (number < 4)
    cpu.dr[number] = value;
  else if ((number & 1) == 0)
    cpu.dr6 = kDr6Fixed | (value & kDr6Writable);
  else
    cpu.dr7 = (value & ~kDr7Reserved) | kDr7Fixed;
  cpu.flush_tlb(false);  // pages with breakpoints have no entries
  return true;
}

}  // namespace hv::softcpu

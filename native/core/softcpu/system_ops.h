// What the files of the system half share among themselves.
#pragma once
#include <cstdint>

#include "softcpu/cpu.h"
#include "softcpu/descriptor.h"
#include "softcpu/paging.h"

namespace hv::softcpu {


// A fault that names a selector, or 0; adds EXT while an event is being delivered.
[[noreturn]] void raise_selector(Cpu& cpu, Vector vector, std::uint32_t selector);
inline void require(Cpu& cpu, bool condition, Vector vector, std::uint32_t selector) {
  if (!condition) [[unlikely]] raise_selector(cpu, vector, selector);
}
inline void require_cpl0(Cpu& cpu) {
  if (cpu.cpl != 0) cpu.protection_fault();
}

struct Found {
  Descriptor d;
  std::uint64_t linear = 0;  // where it lies
};
// False: the selector is past the end of its table. `wide`: 16 bytes.
bool find_descriptor(Cpu& cpu, std::uint16_t selector, Found& out, bool wide = false);
// Raises vector(selector) instead.
Found need_descriptor(Cpu& cpu, std::uint16_t selector, Vector vector, bool wide = false);
// Sets or clears bits of byte 5 (the type), atomically: the accessed and the busy bit.
void change_type(Cpu& cpu, std::uint64_t descriptor, std::uint8_t set, std::uint8_t clear);
// Sets the accessed bit in the table and in `f`.
void touch_descriptor(Cpu& cpu, Found& f);

// The checks of SS at a change of privilege to `cpl`; `vector` is #TS or #GP. Returns SS.
Segment stack_segment(Cpu& cpu, std::uint16_t selector, unsigned cpl, Vector vector);
// SS of 64-bit code at a privilege below 3.
Segment null_stack_segment(unsigned cpl);
Segment null_segment(std::uint16_t selector);
Segment real_segment(const Segment& before, std::uint16_t selector);
Segment v86_segment(std::uint16_t selector);

// Pushes to a stack that is not yet SS:RSP, with the rights that `cpl` gives.
class NewStack {
 public:
  NewStack(Cpu& cpu, const Segment& ss, std::uint64_t sp, unsigned cpl, bool is64);
  void push(std::uint64_t value, unsigned bytes);
  std::uint64_t sp() const { return sp_; }
  // RSP with what the stack's width leaves alone of `before`.
  std::uint64_t merged(std::uint64_t before) const { return (before & ~mask_) | (sp_ & mask_); }

 private:
  std::uint64_t linear(unsigned bytes);
  Cpu& cpu_;
  const Segment& ss_;
  std::uint64_t sp_, mask_;
  bool own_rights_, is64_;
};

// The stack pointer (and selector) for `cpl` from the current TSS.
struct StackPointer {
  std::uint16_t ss = 0;
  std::uint64_t sp = 0;
};
StackPointer tss_stack(Cpu& cpu, unsigned cpl);
// RSP0 … RSP2 (slot 0 to 2) and IST1 … IST7 (slot 4 to 10) of a 64-bit TSS.
std::uint64_t tss64_stack(Cpu& cpu, unsigned slot);

// May RIP be `rip` in the segment? Raises #GP(0).
void check_target(Cpu& cpu, const Descriptor& code, std::uint64_t rip);
void set_code(Cpu& cpu, const Found& code, std::uint16_t selector, unsigned cpl);
// Data segments that the new, lower privilege may not hold become null.
void drop_inaccessible_segments(Cpu& cpu);

enum class SwitchReason : std::uint8_t { kJump, kCall, kReturn, kGate };
// `tss`: its descriptor, checked for type and presence. `error`: pushed on the new stack.
void task_switch(Cpu& cpu, const Found& tss, std::uint16_t selector, SwitchReason reason,
                 const std::uint32_t* error);
// Through a task gate's selector or a TSS selector with its checks.
void task_switch_to(Cpu& cpu, std::uint16_t selector, SwitchReason reason,
                    const std::uint32_t* error);

// RFLAGS with the bits in `mask` from `value`.
void change_flags(Cpu& cpu, std::uint64_t value, std::uint64_t mask);
// Which of IF, IOPL and the rest POPF and IRET may change at this CPL.
std::uint64_t poppable_flags(const Cpu& cpu, unsigned size);
// Points the TLB at the bank that CPL, AC and SMAP ask for.
void select_bank(Cpu& cpu);

// debug.cc. MOV DR with DR7.GD: true, and the #DB is the caller's to raise.
bool general_detect(Cpu& cpu);
std::uint64_t read_debug_register(const Cpu& cpu, unsigned number);
bool write_debug_register(Cpu& cpu, unsigned number, std::uint64_t value);
void match_io_breakpoints(Cpu& cpu, std::uint16_t port, unsigned bytes);

// #GP(0) where neither IOPL nor the TSS's bitmap lets the program at the port (exec_io.cc).
void require_port(Cpu& cpu, std::uint16_t port, unsigned bytes);

void cpuid(Cpu& cpu);
bool read_msr(Cpu& cpu, std::uint32_t index, std::uint64_t& value);
bool write_msr(Cpu& cpu, std::uint32_t index, std::uint64_t value);

// Handlers by operation; nullptr where the operation is not theirs.
Handler bind_segment_ops(const Insn& insn);
Handler bind_far_ops(const Insn& insn);
Handler bind_control_ops(const Insn& insn);
Handler bind_privileged_ops(const Insn& insn);
Handler bind_io_ops(const Insn& insn);

}  // namespace hv::softcpu

// How one instruction is run natively: INT3 enters a signal handler, which swaps the frame's
// registers for the case's and returns; the instruction runs, and its fault, or the INT3 behind
// it, enters the handler again, which takes the registers out and puts the old ones back. The
// kernel's signal frame carries everything: general registers, flags, CS, SS, x87 and SSE.
#include "native_run.h"

#include <asm/ldt.h>
#include <asm/prctl.h>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

namespace oracle {
namespace {

// SDM Vol. 1, "FXSAVE Area": the part of the frame's FPU state that is ours to set.
constexpr std::size_t kFxsaveUsed = 416;
constexpr std::size_t kXstateBv = 512;  // XSAVE header, right behind the legacy area
constexpr std::uint64_t kX87AndSse = 3;

const int kGregs[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                        REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

const Case* current = nullptr;
Outcome* result = nullptr;
bool inside = false;
gregset_t home;
std::uint8_t home_fpu[kFxsaveUsed];

std::uint8_t* fpu_of(ucontext_t* context) {
  return reinterpret_cast<std::uint8_t*>(context->uc_mcontext.fpregs);
}

void put_fpu(std::uint8_t* area, const Registers& from) {
  std::memset(area, 0, 24);
  std::memcpy(area + 0, &from.control, 2);
  std::memcpy(area + 2, &from.status, 2);
  std::memcpy(area + 4, &from.tags, 1);
  std::memcpy(area + 24, &from.mxcsr, 4);
  for (unsigned i = 0; i < 8; ++i) {
    std::memset(area + 32 + 16 * i, 0, 16);
    std::memcpy(area + 32 + 16 * i, &from.st[i].significand, 8);
    std::memcpy(area + 40 + 16 * i, &from.st[i].sign_exponent, 2);
  }
  std::memcpy(area + 160, from.xmm.data(), 256);
  std::uint64_t present;
  std::memcpy(&present, area + kXstateBv, 8);
  present |= kX87AndSse;
  std::memcpy(area + kXstateBv, &present, 8);
}

void get_fpu(const std::uint8_t* area, Registers& into) {
  std::memcpy(&into.control, area + 0, 2);
  std::memcpy(&into.status, area + 2, 2);
  std::memcpy(&into.tags, area + 4, 1);
  std::memcpy(&into.mxcsr, area + 24, 4);
  for (unsigned i = 0; i < 8; ++i) {
    std::memcpy(&into.st[i].significand, area + 32 + 16 * i, 8);
    std::memcpy(&into.st[i].sign_exponent, area + 40 + 16 * i, 2);
  }
  std::memcpy(into.xmm.data(), area + 160, 256);
}

std::uint64_t code_selector(CodeSize mode) {
  if (mode == CodeSize::k64) return kUserCode64;
  return mode == CodeSize::k32 ? kUserCode32 : kLdtCode16;
}

void enter(ucontext_t* context) {
  auto& gregs = context->uc_mcontext.gregs;
  std::memcpy(home, gregs, sizeof home);
  std::memcpy(home_fpu, fpu_of(context), kFxsaveUsed);
  for (unsigned i = 0; i < 16; ++i)
    gregs[kGregs[i]] = static_cast<greg_t>(current->registers.gpr[i]);
  gregs[REG_RIP] = static_cast<greg_t>(current->registers.rip);
  gregs[REG_EFL] = static_cast<greg_t>(current->registers.rflags);
  // CS in the low word, SS in the high one (asm/sigcontext.h).
  const std::uint64_t kept = static_cast<std::uint64_t>(gregs[REG_CSGSFS]) & 0x0000'ffff'ffff'0000;
  gregs[REG_CSGSFS] = static_cast<greg_t>(kept | code_selector(current->mode) |
                                          std::uint64_t{kUserData} << 48);
  put_fpu(fpu_of(context), current->registers);
}

void leave(ucontext_t* context) {
  auto& gregs = context->uc_mcontext.gregs;
  for (unsigned i = 0; i < 16; ++i)
    result->registers.gpr[i] = static_cast<std::uint64_t>(gregs[kGregs[i]]);
  result->registers.rip = static_cast<std::uint64_t>(gregs[REG_RIP]);
  result->registers.rflags = static_cast<std::uint64_t>(gregs[REG_EFL]);
  result->vector = static_cast<unsigned>(gregs[REG_TRAPNO]);
  result->error = static_cast<std::uint64_t>(gregs[REG_ERR]);
  result->fault_address = static_cast<std::uint64_t>(gregs[REG_CR2]);
  get_fpu(fpu_of(context), result->registers);
  std::memcpy(gregs, home, sizeof home);
  std::memcpy(fpu_of(context), home_fpu, kFxsaveUsed);
}

void on_signal(int, siginfo_t*, void* raw) {
  auto* context = static_cast<ucontext_t*>(raw);
  if (current == nullptr) {  // a fault of the oracle itself
    std::signal(SIGSEGV, SIG_DFL);
    return;
  }
  if (inside) {
    leave(context);
  } else {
    enter(context);
  }
  inside = !inside;
}

void map_fixed(std::uint64_t at, std::uint64_t length, int protection) {
  void* wanted = reinterpret_cast<void*>(at);
  void* got = mmap(wanted, length, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
                   -1, 0);
  if (got == wanted) return;
  std::perror("oracle: mmap");
  std::exit(2);
}

bool make_ldt_entry(unsigned number, std::uint64_t base, bool code) {
  user_desc entry{};
  entry.entry_number = number;
  entry.base_addr = static_cast<unsigned>(base);
  entry.limit = 0xffff;
  entry.seg_32bit = 0;
  entry.contents = code ? MODIFY_LDT_CONTENTS_CODE : MODIFY_LDT_CONTENTS_DATA;
  entry.useable = 1;
  return syscall(SYS_modify_ldt, 1, &entry, sizeof entry) == 0;
}

void load_data_segments(std::uint16_t selector) {
  asm volatile("mov %0, %%ds\n\tmov %0, %%es" : : "r"(std::uint32_t{selector}));
}

void install_handlers() {
  static std::uint8_t stack[64 * 1024];
  stack_t alternate{};
  alternate.ss_sp = stack;
  alternate.ss_size = sizeof stack;
  sigaltstack(&alternate, nullptr);
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  for (const int number : {SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE})
    sigaction(number, &action, nullptr);
}

}  // namespace

NativeModes native_setup() {
  map_fixed(kCode, kCodeSize, PROT_READ | PROT_WRITE | PROT_EXEC);
  map_fixed(kData, kDataSize, PROT_READ | PROT_WRITE);
  std::memset(reinterpret_cast<void*>(kCode), kInt3, kCodeSize);
  install_handlers();
  syscall(SYS_arch_prctl, ARCH_SET_GS, kGsBase);
  NativeModes modes;
  modes.code32 = true;
  modes.code16 = make_ldt_entry(0, kCode, true) && make_ldt_entry(1, kData, false);
  return modes;
}

void native_run(const Case& given, Outcome& outcome) {
  auto* code = reinterpret_cast<std::uint8_t*>(
      given.mode == CodeSize::k16 ? kCode + given.registers.rip : given.registers.rip);
  auto* data = reinterpret_cast<std::uint8_t*>(kData);
  std::memcpy(code, given.bytes.data(), given.length);
  std::memcpy(data, given.data.data(), kDataSize);
  mprotect(data + kWritable, kDataSize - kWritable, PROT_READ);
  load_data_segments(given.mode == CodeSize::k16 ? kLdtData16 : kUserData);
  current = &given;
  result = &outcome;
  asm volatile("int3" : : : "memory");
  current = nullptr;
  std::memcpy(outcome.data.data(), data, kDataSize);
  mprotect(data + kWritable, kDataSize - kWritable, PROT_READ | PROT_WRITE);
  std::memset(code, kInt3, given.length);
  outcome.code = take_stray_code(reinterpret_cast<std::uint8_t*>(kCode));
}

}  // namespace oracle

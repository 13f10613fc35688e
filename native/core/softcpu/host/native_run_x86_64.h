// native_run.h on x86-64 Linux. Included by one file of a test: it defines assembler symbols.
#pragma once
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace hv::softcpu::host {

// What the assembler loads and stores. `fx` as FXSAVE has it (SDM Vol. 1, "FXSAVE Area").
struct alignas(16) NativeFrame {
  std::uint8_t fx[512];
  std::uint64_t gpr[16];
  std::uint64_t rflags;
  std::uint64_t host_rsp;
  std::uint64_t code;
  std::uint32_t host_mxcsr;
};
static_assert(offsetof(NativeFrame, gpr) == 512 && offsetof(NativeFrame, rflags) == 640 &&
              offsetof(NativeFrame, host_rsp) == 648 && offsetof(NativeFrame, code) == 656 &&
              offsetof(NativeFrame, host_mxcsr) == 664);

}  // namespace hv::softcpu::host

extern "C" {
extern hv::softcpu::host::NativeFrame hv_native_frame;
void hv_native_enter();
void hv_native_exit();
}
hv::softcpu::host::NativeFrame hv_native_frame;

// Registers but RSP in the order of Gpr.
#define HV_EACH_REGISTER(f)                                                              \
  f(rax, 512) f(rcx, 520) f(rdx, 528) f(rbx, 536) f(rbp, 552) f(rsi, 560) f(rdi, 568)    \
  f(r8, 576) f(r9, 584) f(r10, 592) f(r11, 600) f(r12, 608) f(r13, 616) f(r14, 624) f(r15, 632)
#define HV_LOAD(name, at) "mov hv_native_frame+" #at "(%rip), %" #name "\n"
#define HV_STORE(name, at) "mov %" #name ", hv_native_frame+" #at "(%rip)\n"
asm(".text\n"
    "hv_native_enter:\n"
    "push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
    "mov %rsp, hv_native_frame+648(%rip)\n"
    "stmxcsr hv_native_frame+664(%rip)\n"
    "fxrstor64 hv_native_frame(%rip)\n"
    "push hv_native_frame+640(%rip)\n popfq\n"
    HV_EACH_REGISTER(HV_LOAD)
    "jmp *hv_native_frame+656(%rip)\n"
    "hv_native_exit:\n"
    HV_EACH_REGISTER(HV_STORE)
    "pushfq\n pop hv_native_frame+640(%rip)\n"
    "mov hv_native_frame+648(%rip), %rsp\n"
    "fxsave64 hv_native_frame(%rip)\n"
    "fninit\n cld\n"
    "ldmxcsr hv_native_frame+664(%rip)\n"
    "pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n"
    "ret\n");
#undef HV_LOAD
#undef HV_STORE
#undef HV_EACH_REGISTER

namespace hv::softcpu::host {

class NativeRunner {
 public:
  static constexpr bool kRuns = true;

  explicit NativeRunner(std::uint64_t data) : data_(reinterpret_cast<std::uint8_t*>(data)) {
    void* const mapped = mmap(data_, 4096, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    void* const code = mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped != data_ || code == MAP_FAILED) {
      std::perror("mmap for native instructions");
      std::exit(1);
    }
    code_ = static_cast<std::uint8_t*>(code);
    struct sigaction action {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    for (std::size_t i = 0; i < kSignals.size(); ++i)
      sigaction(kSignals[i], &action, &before_[i]);
  }
  ~NativeRunner() {
    for (std::size_t i = 0; i < kSignals.size(); ++i)
      sigaction(kSignals[i], &before_[i], nullptr);
    munmap(code_, 4096);
    munmap(data_, 4096);
  }
  NativeRunner(const NativeRunner&) = delete;
  NativeRunner& operator=(const NativeRunner&) = delete;

  // Runs `code`, one instruction, on the state with `bytes` at the data page's start. The vector
  // of the fault it ended with, or -1.
  int run(std::span<const std::uint8_t> code, NativeState& state, std::span<std::uint8_t> bytes) {
    place(code);
    std::memcpy(data_, bytes.data(), bytes.size());
    load(state);
    vector_ = -1;
    hv_native_enter();
    store(state);
    std::memcpy(bytes.data(), data_, bytes.size());
    return vector_;
  }

 private:
  static constexpr std::array kSignals = {SIGSEGV, SIGFPE, SIGILL, SIGBUS};

  static void on_fault(int, siginfo_t*, void* context) {
    auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    vector_ = static_cast<int>(registers[REG_TRAPNO]);
    registers[REG_RIP] = static_cast<greg_t>(reinterpret_cast<std::uintptr_t>(&hv_native_exit));
  }
  void place(std::span<const std::uint8_t> code) {
    const auto exit = reinterpret_cast<std::uintptr_t>(&hv_native_exit);
    static constexpr std::uint8_t kJump[] = {0xff, 0x25, 0, 0, 0, 0};  // jmp *(%rip)
    std::memcpy(code_, code.data(), code.size());
    std::memcpy(code_ + code.size(), kJump, sizeof kJump);
    std::memcpy(code_ + code.size() + sizeof kJump, &exit, sizeof exit);
    hv_native_frame.code = reinterpret_cast<std::uintptr_t>(code_);
  }
  static void load(const NativeState& s) {
    NativeFrame& f = hv_native_frame;
    std::memset(f.fx, 0, sizeof f.fx);
    const std::uint16_t control = 0x37f, status = static_cast<std::uint16_t>(s.top << 11);
    std::memcpy(f.fx, &control, 2);
    std::memcpy(f.fx + 2, &status, 2);
    f.fx[4] = s.valid;
    std::memcpy(f.fx + 24, &s.mxcsr, 4);
    for (std::size_t i = 0; i < 8; ++i) {
      std::memcpy(f.fx + 32 + 16 * i, &s.st[i].significand, 8);
      std::memcpy(f.fx + 40 + 16 * i, &s.st[i].sign_exponent, 2);
    }
    std::memcpy(f.fx + 160, s.xmm.data(), 256);
    std::memcpy(f.gpr, s.gpr.data(), sizeof f.gpr);
    f.rflags = s.rflags;
  }
  static void store(NativeState& s) {
    const NativeFrame& f = hv_native_frame;
    std::uint16_t status;
    std::memcpy(&status, f.fx + 2, 2);
    s.top = static_cast<std::uint8_t>(status >> 11 & 7);
    s.valid = f.fx[4];
    std::memcpy(&s.mxcsr, f.fx + 24, 4);
    for (std::size_t i = 0; i < 8; ++i) {
      std::memcpy(&s.st[i].significand, f.fx + 32 + 16 * i, 8);
      std::memcpy(&s.st[i].sign_exponent, f.fx + 40 + 16 * i, 2);
    }
    std::memcpy(s.xmm.data(), f.fx + 160, 256);
    const std::uint64_t rsp = s.gpr[4];
    std::memcpy(s.gpr.data(), f.gpr, sizeof f.gpr);
    s.gpr[4] = rsp;
    s.rflags = f.rflags;
  }

  std::uint8_t* const data_;
  std::uint8_t* code_ = nullptr;
  struct sigaction before_[kSignals.size()] = {};
  static inline volatile int vector_ = -1;
};

}  // namespace hv::softcpu::host

// What the CPU keeps for translated code, near its registers.
#pragma once
#include <cstdint>

namespace hv::softcpu {

struct Insn;

namespace translator {

// An instruction within translated code, for whoever needs to know where a fault happened.
struct Site {
  const Insn* insn;
  std::uint64_t next_rip;
  std::uint64_t remaining;  // instructions of its block from this one on; all count at the entry
};

// Where a call will return to, for RET to predict it.
struct Return {
  std::uint64_t rip = 0;
  const void* const* code = nullptr;  // of the block there: a cell of the call's own
};

struct State {
  // The arithmetic flags as LAHF and SETO give them: AH, and AL. True where `flags_here` says so,
  // and Cpu::flags is stale then.
  std::uint64_t flags_image = 0;
  const Site* site = nullptr;  // set: translated code runs, and this instruction may fault
  std::uint64_t pushed = 0;    // on its way from memory to the stack
  std::uint64_t jump_tag = 0;  // see BlockCache::tag()
  const void* pending = nullptr;  // the word of signals
  std::uint32_t poll_mask = 0;    // which of them matter now
  std::uint32_t host_mxcsr = 0x1f80;  // what compiled code runs under
  bool flags_here = false;
  bool fpu_here = false;  // the x87 is in the host's (host_fpu.h)
  // A ring of the last calls. An entry holds while linear addresses and CPL do.
  static constexpr unsigned kReturns = 16;
  Return returns[kReturns];
  std::uint8_t return_top = 0;     // in bytes, from `returns`
  const void* nowhere = nullptr;   // the cell of entries without a call
  const void* jumps = nullptr;     // BlockCache::jump_table()
  void forget_returns() {
    for (Return& entry : returns) entry = {0, &nowhere};
  }
  std::uint64_t addends[8] = {};  // of the pages that groups of accesses go to (access_plan.h)
  // Where in its bank of the TLB, in bytes, a recurrent load (recurrence.h) found its entry last
  // time and looks first. No more than that: entries are compared wherever they are found, and any
  // place within the bank will do. Loads share them when there are many.
  static constexpr unsigned kGuesses = 512;
  std::uint32_t guesses[kGuesses] = {};
  // XMM registers and MXCSR, of which the Cpu's copies are stale then. Never while C++ runs.
  std::uint8_t xmm_here = 0;  // kXmmHere, kFloatHere
};
inline constexpr std::uint8_t kXmmHere = 1;
inline constexpr std::uint8_t kFloatHere = 2;  // … and no floating-point exception is unmasked

// AH of LAHF has the bits of RFLAGS' low byte.
constexpr std::uint64_t rflags_of_image(std::uint64_t image) {
  return (image >> 8 & 0xd5) | (image & 1) << 11;
}
constexpr std::uint64_t image_of_rflags(std::uint64_t rflags) {
  return ((rflags & 0xd5) | 2) << 8 | (rflags >> 11 & 1);
}

}  // namespace translator
}  // namespace hv::softcpu

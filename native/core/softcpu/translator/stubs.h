// The code around translated blocks, and the conventions between them.
//
// Eleven guest registers live in host registers wherever translated code runs; the other five and
// RIP stay in the Cpu. RBP points into the Cpu, 128 bytes past gpr[0], so that gpr[] is reached by
// short displacements. RAX, R14 and R15 are scratch.
//
// The guest's XMM registers are the host's, number by number, from the first SSE instruction that
// runs until C++ does: kernels that never use them never pay for them. MXCSR goes with them, so
// that exception flags gather where the host puts them.
#pragma once
#include <array>
#include <cstdint>

#include "softcpu/translator/assembler.h"
#include "softcpu/translator/code_cache.h"

namespace hv::softcpu {
class Cpu;
}

namespace hv::softcpu::translator {

inline constexpr Host kScratch = Host::kRax, kAddress = Host::kR14, kScratch2 = Host::kR15,
                      kCpuBase = Host::kRbp;
inline constexpr std::int32_t kBaseBias = 128;

// By guest register; kRsp: in the Cpu. RCX, RDX, RBX, RSI, RDI keep their names, for shifts by CL
// and for multiplication.
inline constexpr std::array<Host, 16> kHome = {
    Host::kR10, Host::kRcx, Host::kRdx, Host::kRbx, Host::kR12, Host::kR11, Host::kRsi, Host::kRdi,
    Host::kR8,  Host::kR9,  Host::kRsp, Host::kRsp, Host::kR13, Host::kRsp, Host::kRsp, Host::kRsp};
constexpr bool pinned(unsigned guest) { return kHome[guest] != Host::kRsp; }

struct Stubs {
  // void* enter(base, code): what the code left with.
  void* (*enter)(void* base, const std::uint8_t* code) = nullptr;
  // Jumped to, with RAX what to leave with; and the same with RAX = 0.
  std::uint8_t* leave = nullptr;
  std::uint8_t* leave_at_rip = nullptr;
  // Called, with R15 the Site: the handler of its instruction runs. The second is for operations
  // that read or write the arithmetic flags.
  std::uint8_t* handler = nullptr;
  std::uint8_t* handler_with_flags = nullptr;
  // … that may change the mode; the run loop's variables follow.
  std::uint8_t* handler_for_mode = nullptr;
  // Called: brings the XMM registers and MXCSR, if SSE may be used; State::xmm_here tells. Spoils
  // RAX and the flags.
  std::uint8_t* load_xmm = nullptr;

  void build(CodeCache& cache, Cpu& cpu);
};

}  // namespace hv::softcpu::translator

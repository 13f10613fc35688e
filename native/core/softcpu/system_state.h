// What the system half of the CPU remembers between its own functions; nothing here outlives the
// instruction or the delivery in progress, so none of it is saved.
#pragma once
#include <array>
#include <cstdint>

#include "base/types.h"

namespace hv::softcpu {

// One page's share of an access: RAM has a host address, the rest goes to the platform.
struct Piece {
  std::uint8_t* host = nullptr;
  Gpa gpa{};
  std::uint64_t linear = 0;
  unsigned length = 0;  // 0: no such piece
};
using Pieces = std::array<Piece, 2>;

struct SystemState {
  // An event whose delivery has begun: another fault now is judged against it (#DF, shutdown).
  bool delivering = false;
  std::uint8_t delivering_vector = 0;
  bool delivering_exception = false;  // else an interrupt, which is benign
  bool in_delivery = false;           // Cpu::delivering has begun and not ended
  std::uint32_t external = 0;         // EXT, bit 0 of error codes of faults on the way

  bool stepping = false;         // TF was set when the instruction began
  bool keep_resume_flag = false;  // IRET and task switches load RF, and it counts for the next
  std::uint64_t debug_hits = 0;  // DR6 bits of data breakpoints that the instruction met

  // begin_modify() to finish_modify().
  Pieces modify{};
  bool modify_staged = false, modify_locked = false;
  alignas(16) std::array<std::uint8_t, 16> staging{};
};

}  // namespace hv::softcpu

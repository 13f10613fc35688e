// What is translated as one piece: a block and, where that is worth it, those that it usually goes
// on to in the same page; a loop of one block several times over.
//
// Within a trace flags and what is known of registers go on from block to block, nothing is counted
// or looked at in between, and accesses of all its blocks share looks into the TLB. Where the
// program goes another way, an exit puts right what was foreseen.
//
// A trace follows branches forward only, but for the repeated loop: so each way round of any other
// loop has a link that looks at signals.
#pragma once
#include <bitset>
#include <vector>

#include "softcpu/block_cache.h"

namespace hv::softcpu::translator {

struct Step {
  // How it goes on behind a branch in the middle: along it or past it, or the trace ends.
  enum class Way : std::uint8_t { kNext, kPast, kAlong } way = Way::kNext;
  const Insn* insn = nullptr;
};

struct Trace {
  static constexpr unsigned kMaxSteps = 64, kMaxBlocks = 3, kMaxTurns = 4, kMaxLoop = 20;

  std::vector<Step> steps;
  std::vector<Block*> others;  // beside the first, without repetition
  bool changes_mode = false;   // as Block's, of the last

  using Ops = std::bitset<static_cast<std::size_t>(Op::kCount)>;
  // `off`: operations that no emitter translates. `alone`: one block is all.
  void form(const BlockCache& blocks, Block& first, std::uint64_t rip, const Ops& off, bool alone);

 private:
  void append(const Block& block);
};

}  // namespace hv::softcpu::translator

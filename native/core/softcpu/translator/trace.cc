#include "softcpu/translator/trace.h"

#include <algorithm>

namespace hv::softcpu::translator {

namespace {

bool is_jcc(const Insn& insn) { return insn.op >= Op::kJo && insn.op <= Op::kJnle; }

// The block at `rip`, which lies in the page of `first`, if it may follow.
Block* follower(const BlockCache& blocks, const Block& first, std::uint64_t rip) {
  const std::uint64_t physical = (first.physical & kPageMask) | (rip & ~kPageMask);
  Block* const found = blocks.find(physical, first.size);
  if (found == nullptr || found->page != first.page || found->page2 != nullptr) return nullptr;
  return found->fresh() && found->version == first.version ? found : nullptr;
}

}  // namespace

void Trace::append(const Block& block) {
  for (unsigned n = 0; n < block.count; ++n) steps.push_back({Step::Way::kNext, &block.insns[n]});
  changes_mode = block.changes_mode;
}

void Trace::form(const BlockCache& blocks, Block& first, std::uint64_t rip, const Ops& off,
                 bool alone) {
  const std::uint64_t head = rip;
  unsigned turns = 1;
  steps.clear();
  others.clear();
  append(first);
  if (alone) return;
  for (Block* block = &first;;) {
    const Insn& branch = *steps.back().insn;
    const std::uint64_t past = rip + block->bytes, along = past + branch.imm;
    if ((!is_jcc(branch) && branch.op != Op::kJmp) ||
        off.test(static_cast<std::size_t>(branch.op)))
      return;
    if (is_jcc(branch) && along == head && others.empty() && first.count <= kMaxLoop) {
      if (turns++ == kMaxTurns || steps.size() + first.count > kMaxSteps) return;
      steps.back().way = Step::Way::kAlong;
      append(first);
      rip = head;
      continue;
    }
    if (turns > 1) return;
    const auto usable = [&](std::uint64_t at) -> Block* {
      if (at < past || ((at ^ head) & kPageMask) != 0) return nullptr;
      Block* const next = follower(blocks, first, at);
      const bool again = next == &first || std::find(others.begin(), others.end(), next) != others.end();
      return next != nullptr && !again && steps.size() + next->count <= kMaxSteps ? next : nullptr;
    };
    Block* const there = usable(along);
    Block* const here = is_jcc(branch) ? usable(past) : nullptr;
    if ((there == nullptr && here == nullptr) || others.size() + 1 == kMaxBlocks) return;
    const bool goes = here == nullptr || (there != nullptr && there->heat > here->heat);
    block = goes ? there : here;
    rip = goes ? along : past;
    steps.back().way = goes ? Step::Way::kAlong : Step::Way::kPast;
    others.push_back(block);
    append(*block);
  }
}

}  // namespace hv::softcpu::translator

// Which accesses of a block can share one look into the TLB.
//
// Code goes to memory by the same register again and again: a frame, an object, a row of pushes.
// When the register is unchanged, or moved by a constant, the distance between two such accesses
// is known beforehand; so the first of them may check the range that all of them span, as if it
// were one wide access, and keep the page's addend. The others then only add it. A range across
// two pages fails that check, and its block is gone through otherwise (BlockTranslator).
#pragma once
#include <bitset>
#include <cstdint>
#include <vector>

#include "softcpu/translator/trace.h"

namespace hv::softcpu::translator {

// One access: base + index << scale + offset, or `offset` alone.
struct Use {
  std::uint8_t insn = 0;  // which of the trace
  std::uint8_t base = kNoRegister, index = kNoRegister, scale = 0;
  std::int64_t offset = 0;
  std::uint16_t bytes = 0;
  bool writes = false;
  bool groupable = false;  // a plain 64-bit address
};

// What the accesses of one group span: offsets from what the base was before constants moved it.
struct Group {
  std::int64_t first = 0, last = 0;  // of the first byte and behind the last
  std::int64_t leader = 0;           // of the first access
  std::int64_t moved = 0;            // by how much the base has moved behind its instruction
  std::uint8_t base = kNoRegister, index = kNoRegister, scale = 0;
  unsigned members = 0;
  bool writes = false;
};

class AccessPlan {
 public:
  static constexpr unsigned kGroups = 8;  // State::addends
  static constexpr std::int64_t kSpan = 512;

  // First the block is translated without groups, and says what it does …
  void clear();
  void add(const Use& use) { uses_.push_back(use); }
  void handler_at(unsigned insn) { handlers_.set(insn); }
  // … then groups are formed; false: there is none, and the code may stay.
  bool form(const std::vector<Step>& steps);
  // … and it is translated again, asking for each access in turn.
  struct Role {
    const Group* group = nullptr;  // nullptr: it goes alone
    unsigned slot = 0;
    bool leads = false;
  };
  Role next(unsigned insn);

 private:
  struct Open {
    unsigned base_version, index_version, leader_insn;
    Group group;
  };
  void place(const Use& use);
  void step(const Insn& insn, unsigned number);
  std::int64_t moved(unsigned base, unsigned index, unsigned scale) const;

  std::vector<Use> uses_;
  std::vector<Open> groups_;
  std::vector<std::int8_t> of_use_;  // -1: none
  std::bitset<Trace::kMaxSteps> handlers_;
  std::size_t first_open_ = 0, next_ = 0;
  // Of each register: how often it was set to who knows what, and the sum of constants added since.
  unsigned version_[16] = {};
  std::int64_t moved_[16] = {};
};

// The general registers that translated code of this instruction may change (a bit for each).
std::uint32_t registers_written(const Insn& insn);

}  // namespace hv::softcpu::translator

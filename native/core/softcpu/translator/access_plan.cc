#include "softcpu/translator/access_plan.h"

#include <algorithm>

#include "softcpu/cpu.h"
#include "softcpu/opcodes.h"

namespace hv::softcpu::translator {

namespace {

constexpr std::uint32_t kAll = 0xffff;

bool between(const Insn& i, Op first, Op last) { return i.op >= first && i.op <= last; }
// Byte registers above 15 are AH to BH, of RAX to RBX.
std::uint32_t bit(unsigned number) { return 1u << (number < 16 ? number : number & 3); }

std::uint32_t written_by_simd(const Insn& i) {
  switch (i.op) {
    case Op::kMovmskps: case Op::kMovmskpd: case Op::kPmovmskb: case Op::kPextrwReg:
    case Op::kCvtss2si: case Op::kCvttss2si: case Op::kCvtsd2si: case Op::kCvttsd2si:
      return bit(i.reg);
    case Op::kPextrb: case Op::kPextrw: case Op::kPextrd: case Op::kExtractps:
    case Op::kMovdFromXmm:
      return i.memory != 0 ? 0 : bit(i.rm);
    case Op::kPcmpestri: case Op::kPcmpistri: return bit(kRcx);
    default: return 0;
  }
}

// AddMr AddRm AddMi … CmpMi, in this order.
std::uint32_t written_by_alu(const Insn& i) {
  if (i.op >= Op::kCmpMr) return 0;
  const bool to_register = (static_cast<unsigned>(i.op) - static_cast<unsigned>(Op::kAddMr)) % 3 == 1;
  if (to_register) return bit(i.reg);
  return i.memory != 0 ? 0 : bit(i.rm);
}

// Sets of one constant: what register, and by how much. Nothing else happens to any register.
struct Move {
  unsigned reg;
  std::int64_t by;
};
Move moved_by(const Insn& i) {
  constexpr Move kNone{kNoRegister, 0};
  const auto number = static_cast<std::int64_t>(i.imm);
  switch (i.op) {
    case Op::kCall: case Op::kCallM: return {kRsp, -8};
    case Op::kPushR: case Op::kPushM: case Op::kPushI: case Op::kPushf:
      return i.size == k64 ? Move{kRsp, -8} : kNone;
    case Op::kPopR: return i.size == k64 && i.reg != kRsp ? Move{kRsp, 8} : kNone;
    case Op::kAddMi: case Op::kSubMi:
      if (i.size != k64 || i.memory != 0) return kNone;
      return {i.rm, i.op == Op::kAddMi ? number : -number};
    case Op::kInc: case Op::kDec:
      if (i.size != k64 || i.memory != 0) return kNone;
      return {i.rm, i.op == Op::kInc ? 1 : -1};
    case Op::kLea:
      if (i.size != k64 || i.address != k64 || i.base != i.reg || i.index != kNoRegister)
        return kNone;
      return {i.reg, i.disp};
    default: return kNone;
  }
}

}  // namespace

std::uint32_t registers_written(const Insn& i) {
  const std::uint32_t rm = i.memory != 0 ? 0 : bit(i.rm);
  if (between(i, Op::kAddMr, Op::kCmpMi)) return written_by_alu(i);
  if (between(i, Op::kRolMc, Op::kShrdC)) return rm;
  if (between(i, Op::kSeto, Op::kSetnle)) return rm;
  if (between(i, Op::kCmovo, Op::kCmovnle)) return bit(i.reg);
  if (between(i, Op::kJo, Op::kJnle)) return 0;
  switch (i.op) {
    case Op::kTestMr: case Op::kTestMi: case Op::kBtMr: case Op::kBtMi: case Op::kJmp:
    case Op::kJmpM: case Op::kNop: case Op::kFence: case Op::kCli: case Op::kSwapgs: case Op::kClc: case Op::kStc: case Op::kCmc:
      return 0;
    case Op::kNot: case Op::kNeg: case Op::kInc: case Op::kDec: case Op::kMovMr: case Op::kMovMi:
    case Op::kBtsMr: case Op::kBtrMr: case Op::kBtcMr: case Op::kBtsMi: case Op::kBtrMi:
    case Op::kBtcMi:
      return rm;
    case Op::kIncR: case Op::kDecR: case Op::kMovRm: case Op::kMovRi: case Op::kMovzx8:
    case Op::kMovzx16: case Op::kMovsx8: case Op::kMovsx16: case Op::kMovsxd: case Op::kLea:
    case Op::kBswap: case Op::kImulRm: case Op::kImulRmi: case Op::kBsf: case Op::kBsr:
    case Op::kPopcnt:
      return bit(i.reg);
    case Op::kXchgMr: case Op::kXadd: return rm | bit(i.reg);
    case Op::kCmpxchg: return rm | bit(kRax);
    case Op::kXchgAr: return bit(i.reg) | bit(kRax);
    case Op::kMul: case Op::kImulA: case Op::kDiv: case Op::kIdiv: case Op::kCbw: case Op::kCwd:
      return bit(kRax) | bit(kRdx);
    case Op::kPushR: case Op::kPushM: case Op::kPushI: case Op::kCall: case Op::kCallM:
    case Op::kPushf:
      return bit(kRsp);
    case Op::kPopR: return bit(kRsp) | bit(i.reg);
    default: break;
  }
  switch (family(i.op)) {
    case Family::kSimd: return written_by_simd(i);
    case Family::kX87: return bit(kRax);  // FNSTSW
    default: return kAll;
  }
}

void AccessPlan::clear() {
  uses_.clear();
  groups_.clear();
  of_use_.clear();
  handlers_.reset();
  first_open_ = next_ = 0;
  std::fill_n(version_, 16, 0u);
  std::fill_n(moved_, 16, std::int64_t{0});
}

bool AccessPlan::form(const std::vector<Step>& steps) {
  std::size_t use = 0;
  for (unsigned n = 0; n < steps.size(); ++n) {
    for (; use < uses_.size() && uses_[use].insn == n; ++use) place(uses_[use]);
    step(*steps[n].insn, n);
  }
  // What has a single member is no group; the others get the slots there are.
  std::vector<std::int8_t> slot(groups_.size(), -1);
  unsigned slots = 0;
  for (std::size_t g = 0; g < groups_.size(); ++g)
    if (groups_[g].group.members > 1 && slots < kGroups) {
      slot[g] = static_cast<std::int8_t>(slots);
      groups_[slots++] = groups_[g];
    }
  for (std::int8_t& of : of_use_)
    if (of >= 0) of = slot[static_cast<std::size_t>(of)];
  for (unsigned g = 0; g < slots; ++g) groups_[g].group.members = 0;  // next() counts anew
  return slots != 0;
}

std::int64_t AccessPlan::moved(unsigned base, unsigned index, unsigned scale) const {
  const std::int64_t by_base = base != kNoRegister ? moved_[base] : 0;
  return by_base + (index != kNoRegister ? moved_[index] << scale : 0);
}

// To a group whose base has the same origin, if the range that results stays small.
void AccessPlan::place(const Use& use) {
  of_use_.push_back(-1);
  if (!use.groupable) return;
  const bool has_base = use.base != kNoRegister, has_index = use.index != kNoRegister;
  const unsigned base_version = has_base ? version_[use.base] : 0;
  const unsigned index_version = has_index ? version_[use.index] : 0;
  const std::int64_t start = use.offset + moved(use.base, use.index, use.scale);
  const std::int64_t end = start + use.bytes;
  for (std::size_t g = first_open_; g < groups_.size(); ++g) {
    Open& open = groups_[g];
    if (open.group.base != use.base || open.group.index != use.index ||
        open.group.scale != use.scale || open.base_version != base_version ||
        open.index_version != index_version)
      continue;
    const std::int64_t first = std::min(start, open.group.first);
    const std::int64_t last = std::max(end, open.group.last);
    const bool fits = has_base || has_index ? last - first <= kSpan : first >> 12 == (last - 1) >> 12;
    if (!fits) continue;
    open.group.first = first;
    open.group.last = last;
    open.group.writes |= use.writes;
    ++open.group.members;
    of_use_.back() = static_cast<std::int8_t>(g);
    return;
  }
  // An instruction leads one group at most: what its handler skips is then done once.
  if (groups_.size() == 127 || (!groups_.empty() && groups_.back().leader_insn == use.insn)) return;
  of_use_.back() = static_cast<std::int8_t>(groups_.size());
  groups_.push_back({base_version, index_version, use.insn,
                     Group{.first = start, .last = end, .leader = start, .base = use.base,
                           .index = use.index, .scale = use.scale, .members = 1,
                           .writes = use.writes}});
}

void AccessPlan::step(const Insn& insn, unsigned number) {
  std::uint32_t written = registers_written(insn);
  const bool handled = handlers_.test(number);
  if (handled) {
    written = kAll;
    first_open_ = groups_.size();  // it may have dropped what the TLB held
  }
  const Move move = handled ? Move{kNoRegister, 0} : moved_by(insn);
  if (move.reg != kNoRegister) {
    written &= ~bit(move.reg);
    moved_[move.reg] += move.by;
  }
  for (unsigned n = 0; n < 16; ++n)
    if ((written >> n & 1) != 0) {
      ++version_[n];
      moved_[n] = 0;
    }
  // Where a group's range begins for those that look at it behind its leader.
  for (std::size_t g = first_open_; g < groups_.size(); ++g) {
    Open& open = groups_[g];
    if (open.leader_insn != number) continue;
    open.group.moved = moved(open.group.base, open.group.index, open.group.scale);
  }
}

AccessPlan::Role AccessPlan::next(unsigned insn) {
  const std::size_t use = next_++;
  if (use >= of_use_.size() || of_use_[use] < 0 || uses_[use].insn != insn) return {};
  const auto slot = static_cast<unsigned>(of_use_[use]);
  Group& group = groups_[slot].group;
  return {&group, slot, group.members++ == 0};
}

}  // namespace hv::softcpu::translator

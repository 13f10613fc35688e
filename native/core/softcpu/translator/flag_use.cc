#include "softcpu/translator/flag_use.h"

namespace hv::softcpu::translator {

namespace {

enum class Use : std::uint8_t { kLooks, kIgnores, kOverwrites };

// Of instructions that stay within registers; whatever else there is looks.
Use use_of(const Insn& i) {
  if (i.op == Op::kLea || i.op == Op::kNop) return Use::kIgnores;
  if (i.memory != 0) return Use::kLooks;
  const bool with_carry = i.op >= Op::kAdcMr && i.op <= Op::kSbbMi;
  if (i.op <= Op::kTestMi && i.op >= Op::kAddMr) return with_carry ? Use::kLooks : Use::kOverwrites;
  switch (i.op) {
    case Op::kNeg: return Use::kOverwrites;
    case Op::kNot: case Op::kMovMr: case Op::kMovRm: case Op::kMovMi: case Op::kMovRi:
    case Op::kMovzx8: case Op::kMovzx16: case Op::kMovsx8: case Op::kMovsx16: case Op::kMovsxd:
    case Op::kBswap: case Op::kXchgMr: case Op::kXchgAr: case Op::kCbw: case Op::kCwd:
      return Use::kIgnores;
    default: return Use::kLooks;
  }
}

}  // namespace

bool flags_matter(const std::vector<Step>& steps, unsigned at) {
  for (std::size_t n = at + 1; n < steps.size(); ++n) {
    const Use use = use_of(*steps[n].insn);
    if (use != Use::kIgnores) return use == Use::kLooks;
  }
  return true;
}

}  // namespace hv::softcpu::translator

#include "softcpu/translator/recurrence.h"

#include <array>

#include "softcpu/cpu.h"
#include "softcpu/translator/access_plan.h"

namespace hv::softcpu::translator {

namespace {

static_assert(Trace::kMaxSteps <= 64, "a bit for each step");

// What a value was made from: registers as the turn begins, and what steps of it loaded.
struct Origin {
  std::uint32_t registers = 0;
  std::uint64_t loads = 0;
  Origin& operator|=(const Origin& other) {
    registers |= other.registers;
    loads |= other.loads;
    return *this;
  }
};
using Origins = std::array<Origin, 16>;

std::uint32_t bit(unsigned number) { return number < 16 ? 1u << number : 0; }

// Byte registers above 15 are AH to BH, of RAX to RBX.
std::uint32_t operand_bit(unsigned number) { return 1u << (number < 16 ? number : number & 3); }

std::uint32_t address_registers(const Insn& i) { return bit(i.base) | bit(i.index); }

bool between(const Insn& i, Op first, Op last) { return i.op >= first && i.op <= last; }

// What ModRM.reg (or the opcode) names is read. AddMr AddRm AddMi … CmpMi, in this order.
bool reads_reg(const Insn& i) {
  if (between(i, Op::kAddMr, Op::kCmpMi))
    return (static_cast<unsigned>(i.op) - static_cast<unsigned>(Op::kAddMr)) % 3 != 2;
  if (between(i, Op::kCmovo, Op::kCmovnle) || between(i, Op::kShldI, Op::kShrdC)) return true;
  switch (i.op) {
    case Op::kMovRm: return i.size < k32;
    case Op::kTestMr: case Op::kMovMr: case Op::kIncR: case Op::kDecR: case Op::kXchgMr:
    case Op::kXchgAr: case Op::kPushR: case Op::kBswap: case Op::kImulRm: case Op::kXadd:
    case Op::kCmpxchg: case Op::kCrc32: return true;
    default: return false;
  }
}

std::uint32_t implied_registers(const Insn& i) {
  switch (i.op) {
    case Op::kMul: case Op::kImulA: case Op::kCbw: case Op::kCwd: case Op::kXchgAr:
    case Op::kCmpxchg: return bit(kRax);
    case Op::kDiv: case Op::kIdiv: return bit(kRax) | bit(kRdx);
    default: return between(i, Op::kRolMc, Op::kSarMc) ? bit(kRcx) : 0;
  }
}

bool reads_rm(const Insn& i) {
  return i.op != Op::kMovMr && i.op != Op::kMovMi && i.op != Op::kMovRi &&
         !between(i, Op::kJo, Op::kJmp);
}

bool loads(const Insn& i) { return i.memory != 0 && i.op != Op::kLea && reads_rm(i); }

std::uint32_t registers_read(const Insn& i) {
  std::uint32_t read = implied_registers(i);
  if (i.memory != 0)
    read |= address_registers(i);
  else if (reads_rm(i))
    read |= operand_bit(i.rm);
  return reads_reg(i) ? read | operand_bit(i.reg) : read;
}

Origin origin_of(const Origins& all, std::uint32_t registers) {
  Origin out;
  for (unsigned n = 0; n < 16; ++n)
    if ((registers >> n & 1) != 0) out |= all[n];
  return out;
}

bool returns_to(const std::vector<Step>& steps, std::uint64_t rip) {
  const std::uint64_t head = rip;
  for (const Step& step : steps) {
    rip += step.insn->length;
    if (&step != &steps.back() && step.way == Step::Way::kAlong) rip += step.insn->imm;
  }
  const Insn& last = *steps.back().insn;
  const bool branches = (last.op >= Op::kJo && last.op <= Op::kJnle) || last.op == Op::kJmp;
  return branches && rip + last.imm == head;
}

}  // namespace

std::uint64_t recurrent_loads(const std::vector<Step>& steps, std::uint64_t rip) {
  if (!returns_to(steps, rip)) return 0;
  Origins now;
  for (unsigned n = 0; n < 16; ++n) now[n].registers = 1u << n;
  std::array<std::uint32_t, Trace::kMaxSteps> address{};  // of each load: from which registers
  std::uint64_t all = 0;
  for (unsigned step = 0; step < steps.size(); ++step) {
    const Insn& insn = *steps[step].insn;
    Origin value = origin_of(now, registers_read(insn));
    if (loads(insn)) {
      address[step] = origin_of(now, address_registers(insn)).registers;
      value.loads |= 1ull << step;
      all |= 1ull << step;
    }
    const std::uint32_t written = registers_written(insn);
    for (unsigned n = 0; n < 16; ++n)
      if ((written >> n & 1) != 0) now[n] = value;
  }
  for (unsigned step = 0; step < steps.size(); ++step) {
    if ((all >> step & 1) == 0) continue;
    // Turn by turn back, to all that the address comes from.
    Origin origin{address[step], 0};
    for (std::uint32_t before = 0; before != origin.registers;) {
      before = origin.registers;
      origin |= origin_of(now, before);
    }
    if ((origin.loads >> step & 1) == 0) all &= ~(1ull << step);
  }
  return all;
}

}  // namespace hv::softcpu::translator

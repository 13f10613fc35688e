// Every x87 instruction against the host's FPU: random stacks, tags, control words (exceptions
// masked and not), operands and flags; all registers, the status and tag words, memory and EFLAGS
// are compared. SOFTFLOAT_CASES=n in the environment sets the number of cases of an instruction.
#include "softcpu/test_machine.h"

#if defined(__x86_64__)
#include "softcpu/exec_x87.h"
#include "softcpu/host/x86_64/run_x87.h"
#include "softcpu/opcodes.h"
#include "softcpu/softfloat/test_operands.h"

using namespace hv;
using namespace hv::softcpu;
using namespace hv::softfloat::test;

namespace {

constexpr std::uint64_t kFlagsMask = 0x8d5;

// Room for FNSAVE's image.
constexpr std::size_t kMemory = 112;

struct Case {
  FpuState fpu;
  std::uint8_t memory[kMemory] = {};
  std::uint64_t flags = 0;
};

// FNSTENV and FNSAVE store pointers, and each maker of CPUs keeps its own.
void forget_pointers(const Row& row, std::uint8_t* memory) {
  if (row.op == Op::kFnstenv || row.op == Op::kFnsave) std::memset(memory + 12, 0, 16);
}

std::uint64_t bcd_digits(Random& random) {
  std::uint64_t value = 0;
  for (unsigned i = 0; i < 16; ++i) value = value << 4 | random.below(10);
  return value;
}

void fill_memory(Random& random, const Row& row, std::uint8_t* memory) {
  if (row.args[0] == Arg::M) {
    for (std::size_t i = 0; i < kMemory; ++i) memory[i] = static_cast<std::uint8_t>(random.next());
    return;
  }
  const bool integer = row.name.starts_with("fi");
  std::uint64_t low = random.next();
  std::uint16_t high = static_cast<std::uint16_t>(random.next());
  switch (row.args[0]) {
    case Arg::Md: low = integer ? static_cast<std::uint64_t>(softfloat::test::integer(random))
                                : float32(random); break;
    case Arg::Mq: low = integer ? static_cast<std::uint64_t>(softfloat::test::integer(random))
                                : float64(random); break;
    case Arg::Mw: low = static_cast<std::uint64_t>(softfloat::test::integer(random)); break;
    case Arg::Mt:
      if (row.op == Op::kFbld) {
        low = bcd_digits(random);
        high = static_cast<std::uint16_t>(random.below(10) | random.below(10) << 4 |
                                          (random.next() & 1) << 15);
      } else {
        const F80 value = float80(random);
        low = value.significand;
        high = value.sign_exponent;
      }
      break;
    default: break;
  }
  std::memcpy(memory, &low, 8);
  std::memcpy(memory + 8, &high, 2);
}

F80 register_value(Random& random) {
  switch (random.below(8)) {
    case 0: return softfloat::f80_of_integer(softfloat::test::integer(random));
    case 1: return softfloat::f80_of_integer(static_cast<std::int64_t>(random.below(64)) - 32);
    default: return float80(random);
  }
}

Case make_case(Random& random, const Row& row) {
  Case c;
  for (F80& value : c.fpu.physical) value = register_value(random);
  std::uint64_t draw = random.next();
  // Mostly everything masked.
  const unsigned masks = (draw & 3) != 0 ? 63u : static_cast<unsigned>(draw >> 2) & 63;
  c.fpu.control = static_cast<std::uint16_t>((draw >> 8 & 0x1f00) | 0x40 | masks);
  draw = random.next();
  const unsigned flags = static_cast<unsigned>(draw) & masks & static_cast<unsigned>(draw >> 8);
  c.fpu.status = static_cast<std::uint16_t>((draw >> 16 & 0x7f00) | flags);
  // Four in five have a full (but for one) or an all valid stack.
  const unsigned top = c.fpu.status >> 11 & 7;
  c.fpu.tags = 0;
  switch (random.below(5)) {
    case 0: X87{c.fpu}.set_tags(static_cast<std::uint16_t>(random.next())); break;
    case 1: break;
    default: c.fpu.tags = static_cast<std::uint16_t>(3u << (((top + 7) & 7) * 2)); break;
  }
  fill_memory(random, row, c.memory);
  c.flags = random.next() & kFlagsMask;
  return c;
}

host::FpuImage image_of(FpuState fpu) {
  X87 stack{fpu};
  host::FpuImage image{};
  image.control = fpu.control;
  image.status = fpu.status;
  image.tags = stack.shown_tags();
  for (unsigned i = 0; i < 8; ++i)
    image.st[i] = {stack.st(i).significand, stack.st(i).sign_exponent};
  return image;
}

void print(const char* who, const host::FpuImage& image, const std::uint8_t* memory,
           std::uint64_t flags) {
  std::fprintf(stderr, "  %s cw %04x sw %04x tw %04x fl %llx st", who, image.control & 0xffff,
               image.status & 0xffff, image.tags & 0xffff,
               static_cast<unsigned long long>(flags & kFlagsMask));
  for (unsigned i : {0u, 1u, 7u, 2u})
    std::fprintf(stderr, " %04x:%016llx", unsigned{image.st[i].sign_exponent},
                 static_cast<unsigned long long>(image.st[i].significand));
  std::fprintf(stderr, " mem ");
  for (int i = 9; i >= 0; --i) std::fprintf(stderr, "%02x", memory[i]);
  std::fprintf(stderr, "\n");
}

bool same(const host::FpuImage& a, const host::FpuImage& b) {
  return ((a.control ^ b.control) & 0xffff) == 0 && ((a.status ^ b.status) & 0xffff) == 0 &&
         ((a.tags ^ b.tags) & 0xffff) == 0 && std::memcmp(a.st, b.st, sizeof a.st) == 0;
}

class Bench {
 public:
  Bench() { machine_.enter_long64(); }

  // False on a difference, which is printed.
  bool compare(const Row& row, std::uint8_t modrm, const Case& c) {
    const host::FpuImage before = image_of(c.fpu);
    host::FpuImage theirs = before;
    std::uint8_t their_memory[kMemory];
    std::memcpy(their_memory, c.memory, kMemory);
    const std::uint64_t their_flags =
        runner_.run(row.opcode, modrm, theirs, their_memory, c.flags | 2);

    Cpu& cpu = machine_.cpu();
    cpu.fpu = c.fpu;
    cpu.flags.set(c.flags);
    cpu.gpr[kRsi] = TestMachine::kData;
    std::uint8_t* const memory = machine_.memory().host(Gpa{TestMachine::kData});
    std::memcpy(memory, c.memory, kMemory);
    execute(row.opcode, modrm);
    const host::FpuImage ours = image_of(cpu.fpu);
    const std::uint64_t our_flags = cpu.flags.value();
    forget_pointers(row, their_memory);
    forget_pointers(row, memory);
    if (same(ours, theirs) && std::memcmp(memory, their_memory, kMemory) == 0 &&
        ((our_flags ^ their_flags) & kFlagsMask) == 0)
      return true;
    std::fprintf(stderr, "%.*s %02x %02x\n", static_cast<int>(row.name.size()), row.name.data(),
                 row.opcode, modrm);
    print("from", before, c.memory, c.flags);
    print("host", theirs, their_memory, their_flags);
    print("ours", ours, memory, our_flags);
    return false;
  }

 private:
  void execute(std::uint8_t opcode, std::uint8_t modrm) {
    const std::uint8_t bytes[] = {opcode, modrm};
    Decoded decoded = decode(bytes, CodeSize::k64);
    EXPECT(decoded.status == DecodeStatus::kOk);
    Cpu& cpu = machine_.cpu();
    cpu.insn = &decoded.insn;
    cpu.rip() = TestMachine::kCode + 2;
    if (_setjmp(cpu.leave) != 0) {
      EXPECT(false);
      return;
    }
    bind_x87(decoded.insn)(cpu, decoded.insn);
  }

  TestMachine machine_;
  host::X87Runner runner_;
};

std::uint8_t modrm_of(Random& random, const Row& row) {
  if (row.modrm != kAnyModrm) return static_cast<std::uint8_t>(row.modrm);
  const unsigned digit = static_cast<unsigned>(row.digit) << 3;
  if (row.form == Form::kMemory) return static_cast<std::uint8_t>(digit | 6);
  return static_cast<std::uint8_t>(0xc0 | digit | random.below(8));
}

void compare_row(Bench& bench, const Row& row) {
  Random random{row.opcode * 0x10001u + static_cast<unsigned>(row.digit) * 8u +
                static_cast<unsigned>(row.modrm)};
  int shown = 0;
  const unsigned count = cases() / 4;
  for (unsigned i = 0; i < count && shown < 4; ++i) {
    const std::uint8_t modrm = modrm_of(random, row);
    if (bench.compare(row, modrm, make_case(random, row))) continue;
    ++shown;
    EXPECT(false);
  }
}

}  // namespace

TEST(every_instruction_agrees_with_the_host) {
  Bench bench;
  const char* const only = std::getenv("X87_ONLY");
  for (const Row& row : rows(Family::kX87)) {
    if (row.map != Map::kOne || row.opcode < 0xd8) continue;
    if (only != nullptr && row.name != only) continue;
    compare_row(bench, row);
  }
}
#else
TEST(every_instruction_agrees_with_the_host) { std::puts("skipped: this host has no x87"); }
#endif

TEST_MAIN()

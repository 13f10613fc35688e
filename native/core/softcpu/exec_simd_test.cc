// Every MMX and SSE row against the host's own instruction: random encodings of the row, random
// operands with many special values, registers, memory, MXCSR and flags compared to the bit. The
// data page lies at the guest's address in this process too, so that both see the same pointers.
//
// HV_SIMD_ROUNDS multiplies the work; HV_SIMD_SEED starts another sequence.
#include <bit>
#include <cmath>
#include <cstdlib>
#include <random>

#include "softcpu/decoder.h"
#include "softcpu/host/native_run.h"
#include "softcpu/host/simd.h"
#include "softcpu/opcodes.h"
#include "softcpu/rows_simd.h"
#include "softcpu/test_machine.h"

TEST_MAIN()

namespace hv::softcpu {
namespace {

using host::NativeState;

constexpr std::uint64_t kData = TestMachine::kData;
constexpr unsigned kDataBytes = 256;
constexpr std::uint64_t kArithmetic = 0x8d5;  // CF PF AF ZF SF OF

unsigned from_environment(const char* name, unsigned otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? static_cast<unsigned>(std::strtoul(text, nullptr, 0)) : otherwise;
}

// ---- random operands --------------------------------------------------------------------------
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  std::uint64_t bits() { return engine_(); }
  unsigned below(unsigned n) { return static_cast<unsigned>(engine_() % n); }
  bool one_in(unsigned n) { return below(n) == 0; }

  std::uint32_t float32() {
    static constexpr std::uint32_t kSpecial[] = {
        0, 1, 0x007f'ffff, 0x0080'0000, 0x0080'0001, 0x3f80'0000, 0x3f80'0001, 0x4000'0000,
        0x3f00'0000, 0x3fc0'0000, 0x4b00'0000, 0x4b7f'ffff, 0x4f00'0000, 0x4eff'ffff, 0x5f00'0000,
        0x7f7f'ffff, 0x7f80'0000, 0x7f80'0001, 0x7fa0'1234, 0x7fc0'0000, 0x7fc1'2345, 0x7fff'ffff,
        0x1f80'0000, 0x2000'0001, 0x0040'0000, 0x4f80'0000, 0x4efffff8, 0x3eff'ffff};
    const auto sign = static_cast<std::uint32_t>(bits()) & 0x8000'0000;
    switch (below(4)) {
      case 0: return static_cast<std::uint32_t>(bits());
      case 1: return sign | (0x3f80'0000 + (below(64) << 23) - (32u << 23)) | below(1u << 23);
      default: return sign | kSpecial[below(std::size(kSpecial))];
    }
  }
  std::uint64_t float64() {
    static constexpr std::uint64_t kSpecial[] = {
        0, 1, 0x000f'ffff'ffff'ffff, 0x0010'0000'0000'0000, 0x0010'0000'0000'0001,
        0x3ff0'0000'0000'0000, 0x3ff0'0000'0000'0001, 0x4000'0000'0000'0000, 0x3fe0'0000'0000'0000,
        0x3ff8'0000'0000'0000, 0x4330'0000'0000'0000, 0x41df'ffff'ffc0'0000, 0x41e0'0000'0000'0000,
        0x41df'ffff'ffe0'0000, 0x43e0'0000'0000'0000, 0x43df'ffff'ffff'ffff, 0x7fef'ffff'ffff'ffff,
        0x7ff0'0000'0000'0000, 0x7ff0'0000'0000'0001, 0x7ff4'1234'5678'9abc, 0x7ff8'0000'0000'0000,
        0x7fff'ffff'ffff'ffff, 0x3680'0000'0000'0000, 0x36a0'0000'0000'0000, 0x380f'ffff'f000'0000,
        0x3810'0000'0000'0000, 0x47ef'ffff'e000'0000, 0x47ef'ffff'f000'0000, 0x1ff0'0000'0000'0000,
        0x41e0'0000'0010'0000, 0x3fdf'ffff'ffff'ffff};
    const std::uint64_t sign = bits() & 1ull << 63;
    switch (below(4)) {
      case 0: return bits();
      case 1:
        return sign | (std::uint64_t{1023 - 160 + below(320)} << 52) | (bits() >> 12);
      default: return sign | kSpecial[below(std::size(kSpecial))];
    }
  }
  std::uint64_t two_float32() { return std::uint64_t{float32()} << 32 | float32(); }
  std::uint64_t qword() {
    switch (below(6)) {
      case 0: return bits();
      case 1: return two_float32();
      case 2: return float64();
      case 3: return bits() & bits() & 0x0303'0303'0303'0303;  // text with zero bytes
      case 4: return (bits() & 0x8080'8080'8080'8080) | (one_in(2) ? 0x7f7f'7f7f'7f7f'7f7f : 0);
      default: return below(70);
    }
  }
  Xmm xmm() {
    switch (below(4)) {
      case 0: return {two_float32(), two_float32()};
      case 1: return {float64(), float64()};
      default: return {qword(), qword()};
    }
  }
  std::uint32_t mxcsr() {
    auto value = static_cast<std::uint32_t>(bits());
    if (!one_in(3)) value |= 0x1f80;
    if (!one_in(3)) value &= ~0x8040u;
    return one_in(3) ? 0x1f80 : value & 0xffff;
  }

 private:
  std::mt19937_64 engine_;
};

// ---- encodings --------------------------------------------------------------------------------
struct Encoding {
  std::vector<std::uint8_t> bytes;
  bool memory = false;
  unsigned base = 3, width = 16;
  std::int32_t disp = 0;
};

bool has(const Row& row, std::initializer_list<Arg> any) {
  for (const Arg have : row.args)
    for (const Arg one : any)
      if (have == one) return true;
  return false;
}

Encoding encode(const Row& row, Random& random) {
  Encoding e;
  e.memory = row.form == Form::kMemory || (row.form == Form::kAny && random.one_in(2));
  if (row.prefix == Prefix::k66) e.bytes.push_back(0x66);
  if (row.prefix == Prefix::kF3) e.bytes.push_back(0xf3);
  if (row.prefix == Prefix::kF2) e.bytes.push_back(0xf2);
  const auto rex = static_cast<std::uint8_t>(random.below(16));
  unsigned reg = row.digit != kAnyDigit ? static_cast<unsigned>(row.digit) : random.below(8);
  unsigned rm = random.below(8);
  const bool rex_r = (rex & 4) != 0, rex_b = (rex & 1) != 0 && !e.memory;
  // The stack pointer stays the host's own.
  if (reg == 4 && !rex_r && has(row, {Arg::Gd, Arg::Gy})) reg = 5;
  if (rm == 4 && !rex_b && has(row, {Arg::Ew, Arg::Ed, Arg::Ey, Arg::Ry})) rm = 6;
  if (e.memory) {
    static constexpr unsigned kBases[] = {3, 6, 7};
    rm = e.base = kBases[random.below(3)];
    e.disp = static_cast<std::int32_t>(random.below(2000)) - 1000;
  }
  e.bytes.push_back(static_cast<std::uint8_t>(0x40 | (rex & 0xe) | (rex_b ? 1u : 0u)));
  e.bytes.push_back(0x0f);
  if (row.map == Map::k0F38) e.bytes.push_back(0x38);
  if (row.map == Map::k0F3A) e.bytes.push_back(0x3a);
  e.bytes.push_back(row.opcode);
  if (row.form == Form::kNoModrm) return e;
  e.bytes.push_back(static_cast<std::uint8_t>((e.memory ? 0x80u : 0xc0u) | reg << 3 | rm));
  if (e.memory)
    for (unsigned i = 0; i < 4; ++i)
      e.bytes.push_back(static_cast<std::uint8_t>(static_cast<std::uint32_t>(e.disp) >> 8 * i));
  if (has(row, {Arg::Ib}))
    e.bytes.push_back(static_cast<std::uint8_t>(random.below(random.one_in(2) ? 256 : 20)));
  return e;
}

// ---- one comparison ---------------------------------------------------------------------------
struct Data {
  std::array<std::uint8_t, kDataBytes> bytes;
};

NativeState random_state(const Row& row, const Encoding& e, Random& random, Data& data) {
  NativeState s;
  for (auto& value : s.gpr) value = random.one_in(2) ? random.qword() : random.below(20);
  for (auto& value : s.xmm) value = random.xmm();
  if (random.one_in(4)) s.xmm[random.below(16)] = s.xmm[random.below(16)];
  for (auto& value : s.st) value = {random.qword(), static_cast<std::uint16_t>(random.bits())};
  s.mxcsr = random.mxcsr();
  s.top = static_cast<std::uint8_t>(random.below(8));
  s.valid = static_cast<std::uint8_t>(random.bits());
  s.rflags = 0x202 | (random.bits() & kArithmetic);
  for (unsigned i = 0; i < kDataBytes; i += 16) {
    const Xmm value = random.xmm();
    std::memcpy(&data.bytes[i], &value, 16);
  }
  const bool aligned = (row.traits & kAligned) != 0 && !random.one_in(16);
  const std::uint64_t at = kData + 64 + random.below(4) * 16 + (aligned ? 0 : random.below(16));
  if (e.memory) s.gpr[e.base] = at - static_cast<std::uint64_t>(std::int64_t{e.disp});
  if (row.op == Op::kMaskmovq || row.op == Op::kMaskmovdqu) s.gpr[kRdi] = at;
  if (row.op == Op::kLdmxcsr) {
    // The host may know more bits than the SDM: only what is plainly defined, or bit 31.
    const std::uint32_t value = random.mxcsr() | (random.one_in(8) ? 0x8000'0000 : 0);
    std::memcpy(&data.bytes[at - kData], &value, 4);
  }
  return s;
}

class Comparison {
 public:
  Comparison() { machine_.enter_long64(); }
  // Empty when both agree.
  std::string run(const Row& row, const Encoding& e, Random& random);

 private:
  void enter(const NativeState& s, const Data& data);
  NativeState leave(const NativeState& before);
  int step(const Insn& insn);
  std::string differences(const NativeState& wanted, const NativeState& got) const;

  TestMachine machine_;
  host::NativeRunner native_{kData};
};

void Comparison::enter(const NativeState& s, const Data& data) {
  Cpu& cpu = machine_.cpu();
  for (unsigned i = 0; i < 16; ++i) cpu.gpr[i] = s.gpr[i];
  for (unsigned i = 0; i < 16; ++i) cpu.sse.xmm[i] = s.xmm[i];
  cpu.mxcsr = s.mxcsr;
  cpu.flags.set(s.rflags);
  cpu.fpu.status = static_cast<std::uint16_t>(s.top << 11);
  cpu.fpu.tags = 0;
  for (unsigned i = 0; i < 8; ++i) {
    cpu.fpu.physical[i] = s.st[(i - s.top) & 7];
    if ((s.valid >> i & 1) == 0) cpu.fpu.tags |= static_cast<std::uint16_t>(3u << 2 * i);
  }
  std::memcpy(machine_.memory().host(Gpa{kData}), data.bytes.data(), kDataBytes);
}

NativeState Comparison::leave(const NativeState& before) {
  Cpu& cpu = machine_.cpu();
  NativeState s = before;
  for (unsigned i = 0; i < 16; ++i) s.gpr[i] = cpu.gpr[i];
  for (unsigned i = 0; i < 16; ++i) s.xmm[i] = cpu.sse.xmm[i];
  s.mxcsr = cpu.mxcsr;
  s.rflags = (before.rflags & ~kArithmetic) | cpu.flags.value();
  s.top = static_cast<std::uint8_t>(cpu.fpu.status >> 11 & 7);
  s.valid = 0;
  for (unsigned i = 0; i < 8; ++i) {
    s.st[(i - s.top) & 7] = cpu.fpu.physical[i];
    if ((cpu.fpu.tags >> 2 * i & 3) != 3) s.valid |= static_cast<std::uint8_t>(1u << i);
  }
  return s;
}

// The vector, or -1.
int Comparison::step(const Insn& insn) {
  Cpu& cpu = machine_.cpu();
  cpu.insn = &insn;
  cpu.gpr[kRip] = TestMachine::kCode + insn.length;
  if (setjmp(cpu.leave) != 0) return cpu.pending.vector;
  insn.run(cpu, insn);
  return -1;
}

std::string Comparison::differences(const NativeState& wanted, const NativeState& got) const {
  std::string out;
  char line[200];
  const auto compare = [&](const char* what, unsigned n, Xmm is, Xmm host_has) {
    if (is == host_has) return;
    const auto number = [](std::uint64_t value) { return static_cast<unsigned long long>(value); };
    std::snprintf(line, sizeof line, "  %s %u is %016llx_%016llx, host has %016llx_%016llx\n",
                  what, n, number(is.qword[1]), number(is.qword[0]), number(host_has.qword[1]),
                  number(host_has.qword[0]));
    out += line;
  };
  const auto wide = [](const F80& value) { return Xmm{value.significand, value.sign_exponent}; };
  for (unsigned i = 0; i < 16; ++i) {
    compare("xmm", i, got.xmm[i], wanted.xmm[i]);
    if (i != kRsp) compare("gpr", i, {got.gpr[i], 0}, {wanted.gpr[i], 0});
    if (i < 8) compare("st", i, wide(got.st[i]), wide(wanted.st[i]));
  }
  compare("mxcsr", 0, {got.mxcsr, 0}, {wanted.mxcsr, 0});
  compare("rflags", 0, {got.rflags & kArithmetic, 0}, {wanted.rflags & kArithmetic, 0});
  compare("top, valid", 0, {got.top, got.valid}, {wanted.top, wanted.valid});
  return out;
}

std::string describe(const Row& row, const Encoding& e, const Insn& insn, const NativeState& s) {
  char line[200];
  std::string out{row.name};
  for (const auto byte : e.bytes) {
    std::snprintf(line, sizeof line, " %02x", byte);
    out += line;
  }
  std::snprintf(line, sizeof line, "  mxcsr %04x\n", s.mxcsr);
  out += line;
  for (const unsigned n : {unsigned{insn.reg}, unsigned{insn.rm}}) {
    std::snprintf(line, sizeof line, "  before: xmm%u %016llx_%016llx gpr%u %016llx\n", n,
                  static_cast<unsigned long long>(s.xmm[n].qword[1]),
                  static_cast<unsigned long long>(s.xmm[n].qword[0]), n,
                  static_cast<unsigned long long>(s.gpr[n]));
    out += line;
  }
  return out;
}

std::string Comparison::run(const Row& row, const Encoding& e, Random& random) {
  const Decoded decoded = decode(e.bytes, CodeSize::k64);
  if (decoded.status != DecodeStatus::kOk || decoded.row != &row) return "decodes otherwise\n";
  Insn insn = decoded.insn;
  insn.run = bind_simd(insn);
  if (insn.run == nullptr) return "has no handler\n";
  Data data;
  const NativeState before = random_state(row, e, random, data);
  enter(before, data);
  const int vector = step(insn);
  const NativeState got = leave(before);
  Data got_data, wanted_data = data;
  std::memcpy(got_data.bytes.data(), machine_.memory().host(Gpa{kData}), kDataBytes);
  NativeState wanted = before;
  const int wanted_vector = native_.run(e.bytes, wanted, wanted_data.bytes);
  std::string out = differences(wanted, got);
  if (vector != wanted_vector)
    out += "  vector " + std::to_string(vector) + ", host has " + std::to_string(wanted_vector);
  if (got_data.bytes != wanted_data.bytes) out += "  memory differs\n";
  return out.empty() ? out : describe(row, e, insn, before) + out;
}

bool estimates(const Row& row) {
  return row.op == Op::kRcpps || row.op == Op::kRcpss || row.op == Op::kRsqrtps ||
         row.op == Op::kRsqrtss;
}

void compare_all(std::uint64_t seed, unsigned rounds, bool with_estimates) {
  if (!host::NativeRunner::kRuns) {
    std::printf("skipped: the host has no SSE to compare with\n");
    return;
  }
  Random random{seed};
  Comparison comparison;
  for (const Row& row : kSimdRows) {
    if (estimates(row) && !with_estimates) continue;
    unsigned shown = 0;
    for (unsigned i = 0; i < rounds; ++i) {
      const std::string bad = comparison.run(row, encode(row, random), random);
      if (bad.empty()) continue;
      test::fail(__FILE__, __LINE__, std::string{row.name} + ": " + bad);
      if (++shown == 2) break;
    }
  }
}

TEST(every_row_as_the_host) {
  compare_all(from_environment("HV_SIMD_SEED", 1), 400 * from_environment("HV_SIMD_ROUNDS", 1),
              true);
}

TEST(every_row_in_portable_arithmetic) {
  host::use_sse = false;
  compare_all(from_environment("HV_SIMD_SEED", 1) + 1000,
              400 * from_environment("HV_SIMD_ROUNDS", 1), false);
  host::use_sse = true;
}

// ---- what random runs in user mode cannot show ------------------------------------------------
// One instruction in a machine whose state the test has changed: the vector, or -1.
int vector_of(TestMachine& m, std::vector<std::uint8_t> bytes) {
  const Decoded decoded = decode(bytes, m.cpu().code_size());
  if (!EXPECT(decoded.status == DecodeStatus::kOk)) return -2;
  Insn insn = decoded.insn;
  insn.run = bind_simd(insn);
  Cpu& cpu = m.cpu();
  cpu.insn = &insn;
  cpu.gpr[kRip] = TestMachine::kCode + insn.length;
  if (setjmp(cpu.leave) != 0) return cpu.pending.vector;
  insn.run(cpu, insn);
  return -1;
}

const std::vector<std::uint8_t> kAddps = {0x0f, 0x58, 0xc1}, kPaddb = {0x0f, 0xfc, 0xc1},
                                kEmms = {0x0f, 0x77}, kMovapsFromRbx = {0x0f, 0x28, 0x03};

TEST(control_registers_forbid_sse) {
  TestMachine m;
  m.enter_long64();
  EXPECT_EQ(vector_of(m, kAddps), -1);
  m.change([](CpuState& s) { s.cr4 &= ~0x200ull; });  // OSFXSR
  EXPECT_EQ(vector_of(m, kAddps), 6);
  m.change([](CpuState& s) { s.cr4 |= 0x200; s.cr0 |= 8; });  // TS
  EXPECT_EQ(vector_of(m, kAddps), 7);
  m.change([](CpuState& s) { s.cr0 |= 4; });  // EM comes before TS
  EXPECT_EQ(vector_of(m, kAddps), 6);
}

TEST(control_registers_forbid_mmx) {
  TestMachine m;
  m.enter_long64();
  m.change([](CpuState& s) { s.cr4 &= ~0x200ull; });  // MMX needs no OSFXSR
  EXPECT_EQ(vector_of(m, kPaddb), -1);
  m.change([](CpuState& s) { s.cr0 |= 8; });
  EXPECT_EQ(vector_of(m, kPaddb), 7);
  EXPECT_EQ(vector_of(m, kEmms), 7);
  m.change([](CpuState& s) { s.cr0 |= 4; });
  EXPECT_EQ(vector_of(m, kPaddb), 6);
}

TEST(mmx_reports_a_pending_x87_exception) {
  TestMachine m;
  m.enter_long64();
  m.cpu().fpu.status = 0x8081;   // B, ES, IE
  m.cpu().fpu.control = 0x37e;   // IM clear
  EXPECT_EQ(vector_of(m, kPaddb), 16);
  EXPECT_EQ(vector_of(m, kAddps), -1);
}

TEST(unmasked_exceptions_need_osxmmexcpt) {
  TestMachine m;
  m.enter_long64();
  Cpu& cpu = m.cpu();
  const std::vector<std::uint8_t> divss = {0xf3, 0x0f, 0x5e, 0xc1};
  cpu.sse.xmm[0] = {0x3f80'0000, 7};
  cpu.sse.xmm[1] = {0, 0};
  cpu.mxcsr = 0x1f80 & ~0x200u;  // zero-divide is unmasked
  EXPECT_EQ(vector_of(m, divss), 19);
  EXPECT(cpu.sse.xmm[0] == (Xmm{0x3f80'0000, 7}));
  EXPECT_EQ(cpu.mxcsr, 0x1d84u);
  m.change([](CpuState& s) { s.cr4 &= ~0x400ull; });
  EXPECT_EQ(vector_of(m, divss), 6);
}

// The linear address counts, not the offset.
TEST(alignment_is_of_the_linear_address) {
  TestMachine m;
  m.enter_flat32();
  m.change([](CpuState& s) {
    s.segments[kDs].base = 8;
    s.gpr[kRbx] = kData + 8;
  });
  EXPECT_EQ(vector_of(m, kMovapsFromRbx), -1);
  m.change([](CpuState& s) { s.gpr[kRbx] = kData; });
  EXPECT_EQ(vector_of(m, kMovapsFromRbx), 13);
}

// MASKMOVDQU touches no byte that its mask does not choose: the page after need not be there.
TEST(maskmovdqu_writes_only_chosen_bytes) {
  TestMachine m;
  m.enter_long64();
  Cpu& cpu = m.cpu();
  m.put64(kData, 0x1111'1111'1111'1111);
  cpu.gpr[kRdi] = kData;
  cpu.sse.xmm[0] = {0xaaaa'aaaa'aaaa'aabb, 0};
  cpu.sse.xmm[1] = {0x0000'8000'0000'0080, 0};
  EXPECT_EQ(vector_of(m, {0x66, 0x0f, 0xf7, 0xc1}), -1);
  EXPECT_EQ(m.get64(kData), 0x1111'aa11'1111'11bbull);
  cpu.gpr[kRdi] = 0x8000'0000'0000 - 1;  // the next byte is not canonical
  cpu.sse.xmm[1] = {0, 0};
  EXPECT_EQ(vector_of(m, {0x66, 0x0f, 0xf7, 0xc1}), -1);
}

// SDM Vol. 2, "RCPPS" and "RSQRTPS": relative error at most 1.5 * 2^-12.
TEST(portable_estimates_are_close) {
  host::use_sse = false;
  TestMachine m;
  m.enter_long64();
  Cpu& cpu = m.cpu();
  Random random{5};
  for (int i = 0; i < 1000; ++i) {
    const auto x = std::bit_cast<float>((random.float32() & 0x007f'ffff) + 0x3f00'0000 +
                                        (random.below(40) << 23));
    cpu.sse.xmm[1] = {std::bit_cast<std::uint32_t>(x), 0};
    const auto error_of = [&](std::uint8_t opcode, double wanted) {
      EXPECT_EQ(vector_of(m, {0xf3, 0x0f, opcode, 0xc1}), -1);
      const auto bits = static_cast<std::uint32_t>(cpu.sse.xmm[0].qword[0]);
      return std::fabs(double{std::bit_cast<float>(bits)} / wanted - 1);
    };
    EXPECT(error_of(0x53, 1 / double{x}) <= 1.5 / 4096);
    EXPECT(error_of(0x52, 1 / std::sqrt(double{x})) <= 1.5 / 4096);
  }
  host::use_sse = true;
}

}  // namespace
}  // namespace hv::softcpu

// Interpreter and translator in lock step: random programs on two machines, whose whole states are
// compared wherever a program says OUT, and at its end with all memory.
//
// A program is a row of stretches of random instructions (from the opcode table) with loops, jumps,
// calls, code that rewrites itself or other code, excursions to user mode and to 32-bit code, and
// interrupts. Whatever faults is logged by the guest's own handler, which goes on with the next
// stretch. Undefined flags are mostly overwritten before anything looks at them; but both sides
// have them as this host's CPU does (host/undefined_flags.h), and LOCKSTEP_SETTLE=0 looks at all.
//
//   LOCKSTEP_PROGRAMS=100000 LOCKSTEP_SEED=7 lockstep_test   more of them
#include <sys/time.h>

#include <algorithm>
#include <cinttypes>
#include <csignal>
#include <cstdlib>

#include "base/test_random.h"
#include "softcpu/opcodes.h"
#include "softcpu/test_machine.h"
#include "softcpu/translator/translator.h"

namespace {

using namespace hv;
using namespace hv::softcpu;
using test::Random;  // a program follows from its number

// The memory map (physical and, but for the data, linear).
constexpr std::uint64_t kPtLow = 0x4000, kPtData = 0x5000;
constexpr std::uint64_t kCode = TestMachine::kCode, kCodeBytes = 0x4000;
constexpr std::uint64_t kStackTop = 0x40000, kIst = 0x4a000, kHandlers = 0x70000,
                        kCommon = 0x72000, kTick = 0x72800;
constexpr std::uint64_t kVars = 0x60000, kNextStretch = kVars, kLogAt = kVars + 8,
                        kTicks = kVars + 16, kCounter = kVars + 24, kLog = 0x61000,
                        kLogEnd = 0x62800;
constexpr std::uint64_t kData = 0x200000, kDataBytes = 0x8000, kAliasPage = 0x123;
constexpr std::uint64_t kAlias = kData + (kAliasPage << 12);
constexpr std::uint8_t kTickVector = 0x90;

class Bytes : public std::vector<std::uint8_t> {
 public:
  void add(std::initializer_list<unsigned> list) {
    for (const unsigned value : list) push_back(static_cast<std::uint8_t>(value));
  }
  void number(std::uint64_t value, unsigned count) {
    for (unsigned i = 0; i < count; ++i) push_back(static_cast<std::uint8_t>(value >> 8 * i));
  }
};

// ---- the guest's system ---------------------------------------------------------------------------

void map_pages(TestMachine& m) {
  m.put64(TestMachine::kPd, kPtLow | 7);
  m.put64(TestMachine::kPd + 8, kPtData | 7);
  for (std::uint64_t i = 0; i < 512; ++i) {
    const std::uint64_t at = i << 12;
    const bool code = at >= kCode && at < kCode + kCodeBytes;
    const bool writable = (at >= 0x20000 && at < 0x70000) || at == TestMachine::kTss;
    const bool present = code || writable || (at >= 0x7000 && at < 0xd000) || at >= 0x70000;
    m.put64(kPtLow + 8 * i, present ? at | (writable ? 7u : 5u) : 0);
  }
  const auto data = [&](unsigned page, std::uint64_t entry) { m.put64(kPtData + 8 * page, entry); };
  for (unsigned i = 0; i < 512; ++i) data(i, i < 8 ? (kData + 0x1000ull * i) | 7 : 0);
  data(2, (kData + 0x2000) | 5);
  data(3, 0);
  data(5, kData | 7);             // the first page once more
  // Code is written by other addresses only, so that strays do not write what nobody can foresee.
  for (unsigned i = 0; i < kCodeBytes >> 12; ++i)
    data(kAliasPage + i, (kCode + 0x1000ull * i) | 7);
}

// Vector, error code, RIP, RFLAGS, CR2, RSP of each exception; then on with the next stretch, in
// ring 0, on a fresh stack.
Bytes common_handler() {
  Bytes b;
  const auto log = [&b](unsigned from, unsigned to) {
    b.add({0x48, 0x8b, 0x44, 0x24, from});  // mov rax, [rsp + from]
    b.add({0x48, 0x89, 0x43, to});          // mov [rbx + to], rax
  };
  const auto set = [&b](unsigned at, std::uint32_t value) {
    b.add({0x48, 0xc7, 0x44, 0x24, at});  // mov qword [rsp + at], value
    b.number(value, 4);
  };
  b.add({0x50, 0x53, 0x48, 0x8b, 0x1c, 0x25});  // push rax; push rbx; mov rbx, [kLogAt]
  b.number(kLogAt, 4);
  log(16, 0), log(24, 8), log(32, 16), log(48, 24), log(56, 40);
  b.add({0x0f, 0x20, 0xd0, 0x48, 0x89, 0x43, 32});  // mov rax, cr2; mov [rbx + 32], rax
  b.add({0x48, 0x83, 0xc3, 48, 0x48, 0x81, 0xfb});  // add rbx, 48; cmp rbx, kLogEnd
  b.number(kLogEnd, 4);
  b.add({0x72, 7, 0x48, 0xc7, 0xc3});  // jb +7; mov rbx, kLog
  b.number(kLog, 4);
  b.add({0x48, 0x89, 0x1c, 0x25});  // mov [kLogAt], rbx
  b.number(kLogAt, 4);
  b.add({0x48, 0x8b, 0x04, 0x25});  // mov rax, [kNextStretch]
  b.number(kNextStretch, 4);
  b.add({0x48, 0x89, 0x44, 0x24, 32});
  set(40, TestMachine::kCode64), set(48, 0x202), set(56, kStackTop - 0x100);
  set(64, TestMachine::kDataSel);
  b.add({0xe6, 3});  // out 3, al: a stop, so that faults without end end the program
  b.add({0x5b, 0x58, 0x48, 0x83, 0xc4, 16, 0x48, 0xcf});  // pop rbx; pop rax; add rsp, 16; iretq
  return b;
}

bool pushes_error(unsigned vector) {
  return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}

void make_handlers(TestMachine& m) {
  for (unsigned v = 0; v < 256; ++v) {
    Bytes b;
    if (!pushes_error(v)) b.add({0x6a, 0});
    b.add({0x68, v, 0, 0, 0, 0xe9});
    b.number(kCommon - (kHandlers + v * 16 + b.size() + 4), 4);
    m.put(kHandlers + v * 16, b);
    const std::uint64_t at = v == kTickVector ? kTick : kHandlers + v * 16;
    m.put64(TestMachine::kIdt + v * 16, (at & 0xffff) | std::uint64_t{TestMachine::kCode64} << 16 |
                                            0xee01ull << 32 | (at >> 16) << 48);
  }
  m.put(kCommon, common_handler());
  Bytes tick;
  tick.add({0x48, 0x83, 0x04, 0x25});  // add qword [kTicks], 1
  tick.number(kTicks, 4);
  tick.add({1, 0x48, 0xcf});
  m.put(kTick, tick);
  m.put64(TestMachine::kTss + 0x24, kIst);
}

// ---- programs -------------------------------------------------------------------------------------

const std::vector<const Row*>& usable_rows(Family family) {
  static const auto kAll = [] {
    std::array<std::vector<const Row*>, kFamilies> all;
    constexpr std::uint32_t kNever = kPrivileged | kUserVisible | kNotUser | kEndsBlock | kNot64 |
                                     kNewerReads | kNeedsVex;
    for (std::size_t f = 0; f < kFamilies; ++f)
      for (const Row& row : rows(static_cast<Family>(f)))
        if ((row.traits & kNever) == 0) all[f].push_back(&row);
    return all;
  }();
  return kAll[static_cast<std::size_t>(family)];
}

class Program {
 public:
  explicit Program(std::uint64_t seed, bool settle) : random_(seed), settle_(settle) { write(); }
  const Bytes& bytes() const { return code_; }

 private:
  std::uint64_t here() const { return kCode + code_.size(); }
  void write();
  void stretch();
  void body(unsigned count);
  void instruction();
  void piece();
  bool encode(const Row& row, Bytes& out);
  void modrm(const Row& row, Bytes& out);
  void settle_flags();
  void pointer();
  void loop();
  void skip();
  void subroutine();
  void indirect();
  void rewrite();
  void out();
  void user_mode();
  void compatibility();
  void jump_across();

  Random random_;
  Bytes code_;
  std::vector<std::uint64_t> immediates_;  // where a MOV's 32 bits lie
  bool in_loop_ = false;
  const bool settle_;
};

void Program::write() {
  code_.reserve(kCodeBytes);
  const unsigned stretches = 4 + random_.below(8);
  for (unsigned i = 0; i < stretches && code_.size() < kCodeBytes - 2500; ++i) stretch();
  out();
  code_.add({0xf4});
}

// mov qword [kNextStretch], the address behind it; a few pointers; instructions.
void Program::stretch() {
  code_.add({0x48, 0xc7, 0x04, 0x25});
  code_.number(kNextStretch, 4);
  const std::size_t next = code_.size();
  code_.number(0, 4);
  for (unsigned i = 0; i < 4; ++i) pointer();
  if (random_.percent(15)) jump_across();
  body(2 + random_.below(14));
  for (unsigned i = 0; i < 4; ++i) code_[next + i] = static_cast<std::uint8_t>(here() >> 8 * i);
}

void Program::body(unsigned count) {
  for (unsigned i = 0; i < count; ++i)
    if (random_.percent(85))
      instruction();
    else
      piece();
}

void Program::piece() {
  switch (random_.below(11)) {
    case 0: return loop();
    case 1: return skip();
    case 2: return subroutine();
    case 3: return indirect();
    case 4: case 5: return rewrite();
    case 6: return out();
    case 7: return in_loop_ ? pointer() : user_mode();
    case 8: return in_loop_ ? pointer() : compatibility();
    case 9: return code_.add({0xf3, 0x90});  // PAUSE: an interrupt comes soon
    default: return pointer();
  }
}

// mov r64, a place in the data, often near the end of a page
void Program::pointer() {
  static constexpr std::uint8_t kRegisters[] = {3, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15};
  const unsigned reg = kRegisters[random_.below(sizeof kRegisters)];
  const std::uint64_t page = kData + 0x1000ull * random_.below(8);
  const std::uint64_t at = page + (random_.percent(40) ? 0xff0 + random_.below(16)
                                                       : random_.below(0x200) * 8);
  code_.add({reg >= 8 ? 0x49u : 0x48u, 0xc7, 0xc0 | (reg & 7)});
  immediates_.push_back(here());
  code_.number(at, 4);
}

void Program::settle_flags() {  // cmp r, r
  code_.add({0x48, 0x39, 0xc0u | random_.below(64)});
}

void Program::modrm(const Row& row, Bytes& out) {
  unsigned reg = row.digit != kAnyDigit ? static_cast<unsigned>(row.digit) : random_.below(8);
  const bool in_register =
      row.form == Form::kRegister || (row.form == Form::kAny && random_.percent(50));
  if (row.modrm != kAnyModrm) return out.add({static_cast<unsigned>(row.modrm)});
  if (in_register) return out.add({0xc0 | reg << 3 | random_.below(8)});
  static constexpr std::uint8_t kBases[] = {3, 5, 6, 7, 3, 6, 7, 4, 1};
  const unsigned base = kBases[random_.below(sizeof kBases)];
  if (random_.percent(6)) {  // RIP-relative, into the code around
    out.add({reg << 3 | 5});
    return out.number(random_.below(256) - 128ull, 4);
  }
  if (base == 4) {  // SIB: a base and a scaled index
    out.add({0x44 | reg << 3, random_.below(4) << 6 | random_.below(8) << 3 | (3 + random_.below(5))});
    return out.add({random_.below(256)});
  }
  out.add({0x40 | reg << 3 | base, random_.percent(50) ? random_.below(32) : random_.below(256)});
}

bool Program::encode(const Row& row, Bytes& out) {
  if (random_.percent(6)) out.add({random_.percent(50) ? 0x64u : 0x65u});
  if (random_.percent(4)) out.add({0x67});
  if (row.prefix == Prefix::k66 || (row.prefix == Prefix::kNone && random_.percent(15)))
    out.add({0x66});
  if (row.prefix == Prefix::kF3) out.add({0xf3});
  if (row.prefix == Prefix::kF2) out.add({0xf2});
  if ((row.traits & kRepeats) != 0 && random_.percent(50)) out.add({0xf2 | random_.below(2)});
  if ((row.traits & kLockable) != 0 && random_.percent(30)) out.add({0xf0});
  if (random_.percent(65)) out.add({0x40 | random_.below(16)});
  if (row.map != softcpu::Map::kOne) out.add({0x0f});
  if (row.map == softcpu::Map::k0F38) out.add({0x38});
  if (row.map == softcpu::Map::k0F3A) out.add({0x3a});
  out.add({row.opcode});
  if (row.form != Form::kNoModrm) modrm(row, out);
  for (unsigned i = 0; i < 10; ++i) out.add({random_.percent(30) ? 0u : random_.byte()});
  const Decoded decoded = decode(out, CodeSize::k64);
  if (decoded.status != DecodeStatus::kOk || decoded.row != &row) return false;
  out.resize(decoded.insn.length);
  return true;
}

// A string operation gets a small count first.
void Program::instruction() {
  const unsigned kind = random_.below(100);
  const Family family = kind < 78 ? Family::kInteger : kind < 92 ? Family::kSimd : kind < 97
                                  ? Family::kX87 : Family::kSystem;
  const auto& table = usable_rows(family);
  for (;;) {
    const Row& row = *table[random_.below(static_cast<unsigned>(table.size()))];
    Bytes out;
    if (!encode(row, out)) continue;
    if ((row.traits & kRepeats) != 0) {
      code_.add({0xb9});  // mov ecx, a few
      code_.number(random_.below(20), 4);
    }
    code_.insert(code_.end(), out.begin(), out.end());
    const bool defined = (row.undefined & ~std::uint32_t{kAf}) == 0 && row.op != Op::kShldI;
    const bool logic = defined && (row.undefined == 0 || row.op <= Op::kTestMi);
    if (!logic && settle_) settle_flags();
    return;
  }
}

void Program::loop() {
  if (in_loop_) return;
  in_loop_ = true;
  code_.add({0xc7, 0x04, 0x25});  // mov dword [kCounter], n
  code_.number(kCounter, 4);
  code_.number(1 + random_.below(30), 4);
  const std::uint64_t start = here();
  body(1 + random_.below(6));
  code_.add({0xff, 0x0c, 0x25});  // dec dword [kCounter]
  code_.number(kCounter, 4);
  code_.add({0x0f, 0x85});
  code_.number(start - (here() + 4), 4);
  in_loop_ = false;
}

void Program::skip() {  // jcc over a few instructions
  code_.add({0x0f, 0x80 | random_.below(16)});
  const std::size_t at = code_.size();
  code_.number(0, 4);
  const unsigned count = 1 + random_.below(4);
  for (unsigned i = 0; i < count; ++i) instruction();
  const std::size_t distance = code_.size() - at - 4;
  for (unsigned i = 0; i < 4; ++i) code_[at + i] = static_cast<std::uint8_t>(distance >> 8 * i);
}

void Program::subroutine() {  // call over a body that returns
  code_.add({0xe8, 5, 0, 0, 0, 0xe9});
  const std::size_t at = code_.size();
  code_.number(0, 4);
  const unsigned count = random_.below(4);
  for (unsigned i = 0; i < count; ++i) instruction();
  if (random_.percent(30))
    code_.add({0xc2, 0, 0});
  else
    code_.add({0xc3});
  const std::size_t distance = code_.size() - at - 4;
  for (unsigned i = 0; i < 4; ++i) code_[at + i] = static_cast<std::uint8_t>(distance >> 8 * i);
}

void Program::indirect() {  // lea r10, [rip + 3]; jmp or call r10 to what follows
  const bool calls = random_.percent(50);
  code_.add({0x4c, 0x8d, 0x15, 3, 0, 0, 0, 0x41, 0xff, calls ? 0xd2u : 0xe2u});
}

// Overwrites an immediate of an earlier MOV, or of the one that comes right behind.
void Program::rewrite() {
  const bool ahead = immediates_.empty() || random_.percent(40);
  const std::uint64_t at =
      ahead ? here() + 11 + 3
            : immediates_[random_.below(static_cast<unsigned>(immediates_.size()))];
  code_.add({0xc7, 0x04, 0x25});
  code_.number(at - kCode + kAlias, 4);
  code_.number(kData + random_.below(0x8000), 4);
  if (ahead) pointer();
}

void Program::out() { code_.add({0xe6, random_.below(4)}); }

// Far enough that the rest lies in the next page.
void Program::jump_across() {
  const std::uint64_t to = (here() + 0x1000) & ~0xfffull;
  if (to + 0x900 > kCode + kCodeBytes) return;
  code_.add({0xe9});
  const std::uint64_t target = to + random_.below(16);
  code_.number(target - (here() + 4), 4);
  code_.resize(target - kCode, 0xcc);
}

// IRETQ to ring 3, a few instructions there, an INT back.
void Program::user_mode() {
  code_.add({0x6a, TestMachine::kUserData, 0x68});
  code_.number(kStackTop - 0x400, 4);
  code_.add({0x68, 0x02, 0x02, 0, 0, 0x6a, TestMachine::kUserCode64, 0x68});
  code_.number(here() + 6, 4);
  code_.add({0x48, 0xcf});
  const unsigned count = random_.below(4);
  for (unsigned i = 0; i < count; ++i) instruction();
  code_.add({0xcd, 0x40 | random_.below(8)});
}

// RETFQ to 32-bit code and back by a far jump.
void Program::compatibility() {
  code_.add({0x6a, TestMachine::kCode32, 0x68});
  code_.number(here() + 6, 4);
  code_.add({0x48, 0xcb});
  code_.add({0x40, 0x01, 0xcb, 0x66, 0x11, 0xd0, 0xea});  // inc eax; add ebx, ecx; adc ax, dx
  code_.number(here() + 6, 4);
  code_.number(TestMachine::kCode64, 2);
}

std::uint64_t setting(const char* name, std::uint64_t otherwise) {
  const char* const value = std::getenv(name);
  return value != nullptr ? std::strtoull(value, nullptr, 0) : otherwise;
}

// ---- the two machines -----------------------------------------------------------------------------

struct Side {
  explicit Side(const char* how) {
    machine.enter_long64();
    map_pages(machine);
    make_handlers(machine);
    machine.set(machine.state());  // with the TLB flushed
    machine.cpu().choose_translator(TranslatorOptions::parse(how));
    fresh_ = machine.state();
    const std::uint8_t* const memory = machine.memory().host(Gpa{0});
    system_.assign(memory, memory + kSystemEnd);
  }
  // A program may have overwritten the guest's own tables or loaded others; the next would then end
  // with its first exception.
  void restore_system() {
    constexpr std::uint64_t kPiece = 0x1000;
    for (std::uint64_t at = 0; at < kSystemEnd; at += kPiece) {
      if (at >= kCode && at < kHandlers) continue;  // start() fills it
      const auto from = system_.begin() + static_cast<std::ptrdiff_t>(at);
      if (!std::equal(from, from + kPiece, machine.memory().host(Gpa{at})))
        machine.put(at, {from, from + kPiece});
    }
    machine.set(fresh_);
  }
  void start(const Program& program, std::uint64_t seed) {
    restore_system();
    std::vector<std::uint8_t> code = program.bytes();
    code.resize(kCodeBytes, 0xcc);
    machine.put(kCode, code);
    std::vector<std::uint8_t> noise(kDataBytes);
    Random random{seed};
    for (auto& value : noise) value = random.percent(40) ? 0 : random.byte();
    machine.put(kData, noise);
    machine.put(kVars, std::vector<std::uint8_t>(0x2800));
    machine.put(0x3e000, std::vector<std::uint8_t>(0x2000));
    machine.put64(kLogAt, kLog);
    machine.signals().clear(Signal::kExit);
    machine.signals().clear(Signal::kInterrupt);
    machine.platform().interrupt.reset();
    machine.change([&](CpuState& s) {
      for (auto& value : s.gpr) value = random.percent(50) ? random.bits() : random.below(64);
      s.gpr[kRsp] = kStackTop - 0x100;
      s.cr0 |= 0x1'0000;  // WP
      s.rip = kCode;
      s.rflags = 0x202;
      s.fpu = FpuState{};
      for (auto& value : s.fpu.xmm) value.qword = {random.bits(), random.bits()};
      s.segments[kCs] = {0, ~0u, 0xa09b, TestMachine::kCode64};
      for (unsigned n : {kEs, kSs, kDs, kFs, kGs}) s.segments[n] = {0, ~0u, 0xc093, 0x10};
      s.segments[kFs].base = kData;
      s.segments[kGs].base = kData + 0x800;
      s.cr2 = 0;
      s.activity = Activity::kRunning;
      s.instructions = 0;
    });
  }
  TestMachine machine;

 private:
  static constexpr std::uint64_t kSystemEnd = 0x80000;
  CpuState fresh_;
  std::vector<std::uint8_t> system_;
};

std::string difference(const Side& a, const Side& b) {
  const CpuState x = a.machine.state(), y = b.machine.state();
  std::string out;
  const auto compare = [&out](const std::string& what, std::uint64_t one, std::uint64_t other) {
    char text[96];
    std::snprintf(text, sizeof text, "  %s %" PRIx64 " and %" PRIx64 "\n", what.c_str(), one, other);
    if (one != other) out += text;
  };
  for (unsigned n = 0; n < 16; ++n) compare("gpr " + std::to_string(n), x.gpr[n], y.gpr[n]);
  compare("rip", x.rip, y.rip);
  compare("rflags", x.rflags, y.rflags);
  compare("cr2", x.cr2, y.cr2);
  compare("instructions", x.instructions, y.instructions);
  for (unsigned n = 0; n < kSegCount; ++n) {
    compare("selector", x.segments[n].selector, y.segments[n].selector);
    compare("base", x.segments[n].base, y.segments[n].base);
  }
  for (unsigned n = 0; n < 16; ++n)
    for (unsigned half : {0, 1})
      compare("xmm " + std::to_string(n), x.fpu.xmm[n].qword[half], y.fpu.xmm[n].qword[half]);
  for (unsigned n = 0; n < 8; ++n)
    compare("st", x.fpu.physical[n].significand, y.fpu.physical[n].significand);
  compare("mxcsr", x.fpu.mxcsr, y.fpu.mxcsr);
  compare("fsw", x.fpu.status, y.fpu.status);
  compare("tags", x.fpu.tags, y.fpu.tags);
  compare("fip", x.fpu.instruction, y.fpu.instruction);
  compare("fdp", x.fpu.data, y.fpu.data);
  return out;
}

std::string memory_difference(Side& a, Side& b) {
  struct Range { std::uint64_t at, bytes; };
  for (const Range range : {Range{kCode, kCodeBytes}, Range{kData, kDataBytes},
                            Range{kVars, 0x2800}, Range{0x3e000, 0x2000}}) {
    const std::uint8_t* const x = a.machine.memory().host(Gpa{range.at});
    const std::uint8_t* const y = b.machine.memory().host(Gpa{range.at});
    for (std::uint64_t i = 0; i < range.bytes; ++i)
      if (x[i] != y[i]) return "  memory at " + std::to_string(range.at + i) + "\n";
  }
  return {};
}

// Runs to the next OUT or HLT. What each port means was drawn beforehand, the same for both.
Exit advance(Side& side) {
  auto& platform = side.machine.platform();
  platform.port_writes.clear();
  return side.machine.run_until_halt();
}

struct Totals {
  std::uint64_t programs = 0, instructions = 0, translated = 0;
};

// A program that goes in circles is left when the interpreter has been at it for a while; what it
// finished, the translator must finish too, on a busy host as well.
constexpr unsigned kPatience = 1, kLimit = 60;  // seconds of this process on a CPU
volatile std::sig_atomic_t timed_out = 0;
VcpuSignals* hurried[2];
void hurry(int) {
  timed_out = 1;
  for (VcpuSignals* signals : hurried) signals->raise(Signal::kExit);
}

void allow(unsigned seconds) {
  const itimerval once{.it_interval = {}, .it_value = {static_cast<time_t>(seconds), 0}};
  setitimer(ITIMER_VIRTUAL, &once, nullptr);
}

class Pair {
 public:
  explicit Pair(const char* translator) : interpreter_("interpreter"), translator_(translator) {
    hurried[0] = &interpreter_.machine.signals();
    hurried[1] = &translator_.machine.signals();
    std::signal(SIGVTALRM, hurry);
    for (Side* side : {&interpreter_, &translator_}) {
      TestMachine& m = side->machine;
      m.platform().on_out = [&m](std::uint16_t port) {
        m.signals().raise(Signal::kExit);
        if (port == 1) interrupt(m);
      };
      m.platform().on_spin = [&m] { interrupt(m); };
    }
  }
  bool run(std::uint64_t seed, Totals& totals) {
    const Program program{seed, setting("LOCKSTEP_SETTLE", 1) != 0};
    if (const char* const path = std::getenv("LOCKSTEP_DUMP")) {  // for a disassembler
      if (std::FILE* const file = std::fopen(path, "wb")) {
        std::fwrite(program.bytes().data(), 1, program.bytes().size(), file);
        std::fclose(file);
      }
    }
    interpreter_.start(program, seed);
    translator_.start(program, seed);
    timed_out = 0;
    for (unsigned stops = 0; stops < 4000; ++stops) {
      allow(kPatience);
      const Exit one = advance(interpreter_);
      allow(kLimit);
      if (timed_out != 0) return true;
      const Exit other = advance(translator_);
      std::string wrong = difference(interpreter_, translator_);
      if (one != other) wrong += "  they stopped for different reasons\n";
      if (one != Exit::kKicked || !wrong.empty()) {
        if (!wrong.empty())
          wrong += "  RIP is " + std::to_string(interpreter_.machine.state().rip) + "\n";
        wrong += memory_difference(interpreter_, translator_);
        if (totals.programs % 256 == 0) wrong += translator_.machine.cpu().get_translator()->check();
        if (!wrong.empty()) std::printf("program %" PRIu64 ", stop %u\n%s", seed, stops, wrong.c_str());
        count(totals);
        return wrong.empty();
      }
    }
    return true;
  }

 private:
  static void interrupt(TestMachine& m) {
    m.platform().interrupt = kTickVector;
    m.signals().raise(Signal::kInterrupt);
  }
  void count(Totals& totals) {
    ++totals.programs;
    totals.instructions += interpreter_.machine.state().instructions;
    totals.translated = translator_.machine.cpu().counters().blocks_translated;
  }
  Side interpreter_, translator_;
};

}  // namespace

namespace {

unsigned compare_programs(const char* translator) {
  const std::uint64_t seed = setting("LOCKSTEP_SEED", 1) << 32;
  const std::uint64_t wanted = setting("LOCKSTEP_PROGRAMS", 300);
  Pair pair{translator};
  Totals totals;
  unsigned wrong = 0;
  for (std::uint64_t n = 0; n < wanted && wrong < 5; ++n) {
    if (setting("LOCKSTEP_VERBOSE", 0) != 0) std::fprintf(stderr, "%" PRIu64 "\n", seed + n);
    wrong += pair.run(setting("LOCKSTEP_PROGRAM", seed + n), totals) ? 0 : 1;
  }
  std::printf("%" PRIu64 " programs, %" PRIu64 " instructions, %" PRIu64 " blocks translated\n",
              totals.programs, totals.instructions, totals.translated);
  EXPECT(totals.translated > 0);
  return wrong;
}

}  // namespace

// All code is translated as it is first met, so each block by itself.
TEST(random_programs_run_alike) {
  if (HV_TRANSLATOR == 0) return;
  const char* const chosen = std::getenv("LOCKSTEP_CPU");
  EXPECT_EQ(compare_programs(chosen != nullptr ? chosen : "eager"), 0u);
}

// What runs twice is translated when what follows is known: as traces.
TEST(random_programs_run_alike_in_traces) {
  if (HV_TRANSLATOR == 0 || std::getenv("LOCKSTEP_CPU") != nullptr) return;
  EXPECT_EQ(compare_programs("threshold=1"), 0u);
}

TEST_MAIN()

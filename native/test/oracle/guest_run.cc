// The guest: long mode, user code in ring 3 with Linux's selectors, an IDT whose every gate leads
// to a HLT of its own in ring 0. A case ends in one of them, which says the vector; the stack frame
// of the exception says the rest.
#include "guest_run.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "accel/no_platform.h"
#include "softcpu/cpu.h"

namespace oracle {
namespace {

using namespace hv;

constexpr std::uint64_t kMemory = 16 << 20;
// Guest-physical layout.
constexpr std::uint64_t kPml4 = 0x1000, kPdpt = 0x2000, kPd = 0x3000, kPtCode = 0x4000,
                        kPtData = 0x5000, kPtSystem = 0x6000;
constexpr std::uint64_t kGdt = 0x8000, kLdt = 0x9000, kTss = 0xa000, kIdt = 0xb000,
                        kStubs = 0xc000, kStackTop = 0x10000;
constexpr std::uint64_t kCodeAt = 0x100000, kDataAt = 0x200000;
// The system pages appear at this linear address, for the supervisor only.
constexpr std::uint64_t kSystem = 0x3000'0000;
constexpr unsigned kStubStride = 16;

constexpr std::uint64_t kPresent = 1, kWrite = 2, kUser = 4;
constexpr std::uint64_t kCr0 = 0x8005'0033;  // PG AM WP NE ET MP PE
constexpr std::uint64_t kCr4 = 0x0000'0668;  // PGE PAE DE OSFXSR OSXMMEXCPT, MCE
constexpr std::uint64_t kEfer = 0xd01;       // SCE LME LMA NXE
constexpr std::uint16_t kKernelCode = 0x10, kTssSelector = 0x40, kLdtSelector = 0x50;

bool pushes_error(unsigned vector) {
  return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}

// SDM Vol. 3, "Segment Descriptors".
std::uint64_t descriptor(std::uint64_t base, std::uint32_t limit, std::uint32_t access) {
  return (limit & 0xffff) | (base & 0xff'ffff) << 16 | std::uint64_t{access & 0xff} << 40 |
         std::uint64_t{(limit >> 16) & 0xf} << 48 | std::uint64_t{(access >> 12) & 0xf} << 52 |
         (base >> 24 & 0xff) << 56;
}

Segment segment(std::uint16_t selector, std::uint64_t base, std::uint32_t limit,
                std::uint32_t access) {
  return {base, limit, access, selector};
}

}  // namespace

struct GuestRunner::Parts {
  NoPlatform platform;
  VcpuSignals signals;
  VcpuSignals* all[1] = {&signals};
  std::unique_ptr<GuestMemory> memory;
  std::unique_ptr<softcpu::Cpu> cpu;
  CpuState base;

  template <class T>
  void put(std::uint64_t at, T value) {
    std::memcpy(memory->host(Gpa{at}), &value, sizeof value);
  }
  template <class T>
  T get(std::uint64_t at) {
    T value;
    std::memcpy(&value, memory->host(Gpa{at}), sizeof value);
    return value;
  }

  void map(std::uint64_t table, std::uint64_t from, std::uint64_t length, std::uint64_t to,
           std::uint64_t bits) {
    for (std::uint64_t at = 0; at < length; at += kPageSize)
      put(table + ((from + at) >> 12 & 511) * 8, (to + at) | bits);
  }

  void make_page_tables() {
    put(kPml4, kPdpt | kPresent | kWrite | kUser);
    put(kPdpt, kPd | kPresent | kWrite | kUser);
    put(kPd + (kCode >> 21) * 8, kPtCode | kPresent | kWrite | kUser);
    put(kPd + (kData >> 21) * 8, kPtData | kPresent | kWrite | kUser);
    put(kPd + (kSystem >> 21) * 8, kPtSystem | kPresent | kWrite);
    map(kPtCode, kCode, kCodeSize, kCodeAt, kPresent | kWrite | kUser);
    map(kPtData, kData, kWritable, kDataAt, kPresent | kWrite | kUser);
    map(kPtData, kData + kWritable, kDataSize - kWritable, kDataAt + kWritable, kPresent | kUser);
    map(kPtSystem, kSystem, 0x20000, 0, kPresent | kWrite);
  }

  void make_tables() {
    put(kGdt + kKernelCode, descriptor(0, 0xfffff, 0xa09b));
    put(kGdt + 0x18, descriptor(0, 0xfffff, 0xc093));
    put(kGdt + (kUserCode32 & ~7u), descriptor(0, 0xfffff, 0xc0fb));
    put(kGdt + (kUserData & ~7u), descriptor(0, 0xfffff, 0xc0f3));
    put(kGdt + (kUserCode64 & ~7u), descriptor(0, 0xfffff, 0xa0fb));
    put(kGdt + kTssSelector, descriptor(kSystem + kTss, 0x67, 0x8b));
    put(kGdt + kLdtSelector, descriptor(kSystem + kLdt, 15, 0x82));
    put(kLdt + 0, descriptor(kCode, 0xffff, 0x00fb));
    put(kLdt + 8, descriptor(kData, 0xffff, 0x00f3));
    put(kTss + 4, kSystem + kStackTop);                 // RSP0
    put(kTss + 0x66, static_cast<std::uint16_t>(0x68));  // no I/O bit map
    for (unsigned vector = 0; vector < 256; ++vector) make_gate(vector);
  }

  void make_gate(unsigned vector) {
    const std::uint64_t stub = kSystem + kStubs + vector * kStubStride;
    const std::uint64_t type = vector == 3 || vector == 4 ? 0xee00 : 0x8e00;
    put(kIdt + vector * 16, (stub & 0xffff) | std::uint64_t{kKernelCode} << 16 | type << 32 |
                                (stub >> 16 & 0xffff) << 48);
    put(kIdt + vector * 16 + 8, stub >> 32);
    put(kStubs + vector * kStubStride, std::uint8_t{0xf4});  // HLT
  }

  void make_base() {
    base = reset_state(true);
    base.cr0 = kCr0;
    base.cr3 = kPml4;
    base.cr4 = kCr4;
    base.efer = kEfer;
    base.gdtr = {kSystem + kGdt, 0x6f};
    base.idtr = {kSystem + kIdt, 0xfff};
    base.tr = segment(kTssSelector, kSystem + kTss, 0x67, 0x8b);
    base.ldtr = segment(kLdtSelector, kSystem + kLdt, 15, 0x82);
    base.segments[kSs] = segment(kUserData, 0, ~0u, 0xc0f3);
    base.segments[kFs] = segment(0, 0, 0, 0x1'0000);
    base.segments[kGs] = segment(0, kGsBase, 0, 0x1'0000);
  }

  void set_segments(CpuState& state, CodeSize mode) const {
    const bool small = mode == CodeSize::k16;
    const Segment data = small ? segment(kLdtData16, kData, 0xffff, 0x00f3)
                               : segment(kUserData, 0, ~0u, 0xc0f3);
    state.segments[kDs] = state.segments[kEs] = data;
    state.segments[kCs] = small ? segment(kLdtCode16, kCode, 0xffff, 0x00fb)
                          : mode == CodeSize::k32 ? segment(kUserCode32, 0, ~0u, 0xc0fb)
                                                  : segment(kUserCode64, 0, ~0u, 0xa0fb);
  }
};

namespace {

void put_fpu(FpuState& fpu, const Registers& from) {
  const unsigned top = from.status >> 11 & 7;
  fpu.control = from.control;
  fpu.status = from.status;
  fpu.mxcsr = from.mxcsr;
  fpu.xmm = from.xmm;
  fpu.tags = 0;
  for (unsigned i = 0; i < 8; ++i) fpu.physical[(top + i) & 7] = from.st[i];
  for (unsigned i = 0; i < 8; ++i) {
    const F80& value = fpu.physical[i];
    const unsigned exponent = value.sign_exponent & 0x7fff;
    const bool integer_bit = value.significand >> 63 != 0;
    unsigned tag = 2;  // special
    if (exponent == 0 && value.significand == 0) tag = 1;
    if (exponent != 0 && exponent != 0x7fff && integer_bit) tag = 0;
    if ((from.tags >> i & 1) == 0) tag = 3;
    fpu.tags = static_cast<std::uint16_t>(fpu.tags | tag << (2 * i));
  }
}

void get_fpu(const FpuState& fpu, Registers& into) {
  const unsigned top = fpu.status >> 11 & 7;
  into.control = fpu.control;
  into.status = fpu.status;
  into.mxcsr = fpu.mxcsr;
  into.xmm = fpu.xmm;
  into.tags = 0;
  for (unsigned i = 0; i < 8; ++i) into.st[i] = fpu.physical[(top + i) & 7];
  for (unsigned i = 0; i < 8; ++i)
    if ((fpu.tags >> (2 * i) & 3) != 3)
      into.tags = static_cast<std::uint8_t>(into.tags | 1u << i);
}

}  // namespace

GuestRunner::GuestRunner(bool translates) : parts_{std::make_unique<Parts>()} {
  std::string error;
  parts_->memory = GuestMemory::create(kMemory, error);
  if (!parts_->memory) {
    std::fprintf(stderr, "oracle: %s\n", error.c_str());
    std::exit(2);
  }
  parts_->make_page_tables();
  parts_->make_tables();
  parts_->make_base();
  std::memset(parts_->memory->host(Gpa{kCodeAt}), kInt3, kCodeSize);
  parts_->cpu = std::make_unique<softcpu::Cpu>(
      VcpuWiring{0, 1, parts_->platform, parts_->signals, parts_->all}, *parts_->memory);
  // "eager": whatever runs is translated first.
  parts_->cpu->choose_translator(
      softcpu::TranslatorOptions::parse(translates ? "eager" : "interpreter"));
}

GuestRunner::~GuestRunner() = default;

void GuestRunner::run(const Case& given, Outcome& outcome) {
  Parts& parts = *parts_;
  const std::uint64_t offset =
      given.mode == CodeSize::k16 ? given.registers.rip : given.registers.rip - kCode;
  std::uint8_t* code = parts.memory->host(Gpa{kCodeAt + offset});
  std::uint8_t* data = parts.memory->host(Gpa{kDataAt});
  std::memcpy(code, given.bytes.data(), given.length);
  parts.memory->written(Gpa{kCodeAt + offset}, given.length);
  std::memcpy(data, given.data.data(), kDataSize);
  parts.memory->written(Gpa{kDataAt}, kDataSize);

  CpuState state = parts.base;
  parts.set_segments(state, given.mode);
  state.gpr = given.registers.gpr;
  state.rip = given.registers.rip;
  state.rflags = given.registers.rflags;
  put_fpu(state.fpu, given.registers);
  parts.cpu->set_state(state);
  const Exit exit = parts.cpu->run();
  state = parts.cpu->state();

  const std::uint64_t stub = state.rip - (kSystem + kStubs);
  outcome.vector = exit == Exit::kHalted ? static_cast<unsigned>(stub / kStubStride) : 255;
  const auto frame = [&](unsigned word) {
    return parts.get<std::uint64_t>(kStackTop - 8 * word);
  };
  outcome.registers.gpr = state.gpr;
  outcome.registers.gpr[softcpu::kRsp] = frame(2);
  outcome.registers.rflags = frame(3);
  outcome.registers.rip = frame(5);
  outcome.error = pushes_error(outcome.vector) ? frame(6) : 0;
  outcome.fault_address = state.cr2;
  get_fpu(state.fpu, outcome.registers);
  std::memcpy(outcome.data.data(), data, kDataSize);
  std::memset(code, kInt3, given.length);
  parts.memory->written(Gpa{kCodeAt + offset}, given.length);
  outcome.code = take_stray_code(parts.memory->host(Gpa{kCodeAt}));
  if (outcome.code != 0) parts.memory->written(Gpa{kCodeAt}, kCodeSize);
}

}  // namespace oracle

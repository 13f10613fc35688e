// The x87's control instructions and its images in memory: FNSTENV, FNSAVE, FXSAVE and back.
// SDM Vol. 1, "Saving the x87 FPU's State with FSTENV/FNSTENV and FSAVE/FNSAVE", and Vol. 2, FXSAVE.
#include "softcpu/exec_x87.h"
#include "softcpu/paging.h"

namespace hv::softcpu {

using namespace softfloat;

std::uint16_t X87::shown_tags() const {
  unsigned tags = 0;
  for (unsigned physical = 0; physical < 8; ++physical) {
    const unsigned shift = physical * 2;
    const Parts value = unpack(state_.physical[physical]);
    unsigned tag = value.kind == Kind::kFinite ? 0 : value.kind == Kind::kZero ? 1 : 2;
    if (value.denormal) tag = 2;
    if ((state_.tags >> shift & 3) == 3) tag = 3;
    tags |= tag << shift;
  }
  return static_cast<std::uint16_t>(tags);
}

namespace x87 {

namespace {

// Where an image lies and how wide its words are.
class Image {
 public:
  Image(Cpu& cpu, const Insn& insn)
      : cpu_{cpu}, segment_{insn.segment}, at_{cpu.effective_address(insn)},
        wide_{insn.size != k16} {}

  unsigned environment_size() const { return wide_ ? 28 : 14; }
  bool wide() const { return wide_; }
  void probe(unsigned length) { cpu_.probe_write(segment_, at_, length); }

  std::uint32_t word(unsigned index) const {
    if (wide_) return cpu_.read<std::uint32_t>(segment_, at_ + index * 4);
    return cpu_.read<std::uint16_t>(segment_, at_ + index * 2);
  }
  // 32-bit images hold all ones above a 16-bit field.
  void put(unsigned index, std::uint32_t value) {
    if (wide_) return cpu_.write<std::uint32_t>(segment_, at_ + index * 4, value);
    cpu_.write<std::uint16_t>(segment_, at_ + index * 2, static_cast<std::uint16_t>(value));
  }
  void put_short(unsigned index, std::uint16_t value) { put(index, 0xffff0000u | value); }

  // The registers follow at even addresses only: in halves, so that no alignment is demanded.
  F80 register_at(unsigned i) const {
    F80 value;
    const std::uint64_t at = register_address(i);
    for (unsigned part = 0; part < 4; ++part)
      value.significand |= std::uint64_t{cpu_.read<std::uint16_t>(segment_, at + part * 2)}
                           << (part * 16);
    value.sign_exponent = cpu_.read<std::uint16_t>(segment_, at + 8);
    return value;
  }
  void put_register(unsigned i, const F80& value) {
    const std::uint64_t at = register_address(i);
    for (unsigned part = 0; part < 4; ++part)
      cpu_.write<std::uint16_t>(segment_, at + part * 2,
                                static_cast<std::uint16_t>(value.significand >> (part * 16)));
    cpu_.write<std::uint16_t>(segment_, at + 8, value.sign_exponent);
  }

 private:
  std::uint64_t register_address(unsigned i) const { return at_ + environment_size() + i * 10; }

  Cpu& cpu_;
  unsigned segment_;
  std::uint64_t at_;
  bool wide_;
};

std::uint32_t low32(std::uint64_t value) { return static_cast<std::uint32_t>(value); }

// Pointers as linear addresses, in real and virtual-8086 mode.
void put_real_pointers(Image& image, const FpuState& fpu) {
  const std::uint32_t code = low32(fpu.instruction) + fpu.instruction_selector * 16u;
  const std::uint32_t data = low32(fpu.data) + fpu.data_selector * 16u;
  if (image.wide()) {
    image.put_short(3, static_cast<std::uint16_t>(code));
    image.put(4, code >> 16 << 12 | fpu.opcode);
    image.put_short(5, static_cast<std::uint16_t>(data));
    image.put(6, data >> 16 << 12);
    return;
  }
  image.put(3, code);
  image.put(4, (code >> 16 & 15) << 12 | fpu.opcode);
  image.put(5, data);
  image.put(6, (data >> 16 & 15) << 12);
}

void put_protected_pointers(Image& image, const FpuState& fpu) {
  image.put(3, low32(fpu.instruction));
  image.put(4, fpu.instruction_selector | (image.wide() ? fpu.opcode : 0u) << 16);
  image.put(5, low32(fpu.data));
  image.put_short(6, fpu.data_selector);
}

void put_environment(Cpu& cpu, Image& image) {
  const FpuState& fpu = cpu.fpu;
  image.put_short(0, fpu.control);
  image.put_short(1, fpu.status);
  image.put_short(2, x87_of(cpu).shown_tags());
  if (cpu.real_or_v86()) return put_real_pointers(image, fpu);
  put_protected_pointers(image, fpu);
}

// What an environment in memory holds, read whole before any of it is used.
struct Environment {
  std::uint32_t word[7];

  explicit Environment(const Image& image) {
    for (unsigned i = 0; i < 7; ++i) word[i] = image.word(i);
  }
};

void set_real_pointers(const Environment& env, bool wide, FpuState& fpu) {
  const std::uint32_t mask = wide ? 0xffff : 0xf;
  fpu.instruction = (env.word[3] & 0xffff) | (env.word[4] >> 12 & mask) << 16;
  fpu.data = (env.word[5] & 0xffff) | (env.word[6] >> 12 & mask) << 16;
  fpu.opcode = env.word[4] & 0x7ff;
  fpu.instruction_selector = fpu.data_selector = 0;
}

void set_protected_pointers(const Environment& env, bool wide, FpuState& fpu) {
  fpu.instruction = env.word[3];
  fpu.instruction_selector = static_cast<std::uint16_t>(env.word[4]);
  fpu.opcode = wide ? env.word[4] >> 16 & 0x7ff : 0;
  fpu.data = env.word[5];
  fpu.data_selector = static_cast<std::uint16_t>(env.word[6]);
}

void set_environment(Cpu& cpu, const Environment& env, bool wide) {
  X87 fpu = x87_of(cpu);
  fpu.set_control(static_cast<std::uint16_t>(env.word[0]));
  fpu.set_status(static_cast<std::uint16_t>(env.word[1]));
  fpu.set_tags(static_cast<std::uint16_t>(env.word[2]));
  if (cpu.real_or_v86()) return set_real_pointers(env, wide, cpu.fpu);
  set_protected_pointers(env, wide, cpu.fpu);
}

std::uint64_t memory_operand(Cpu& cpu, const Insn& insn) { return cpu.effective_address(insn); }

}  // namespace

void control_nop(Cpu& cpu, const Insn&) { cpu.check_fpu(false); }
void clex(Cpu& cpu, const Insn&) {
  cpu.check_fpu(false);
  x87_of(cpu).condition(kX87Busy | kX87Summary | kX87StackFault | kAllFlags, 0);
}
void init(Cpu& cpu, const Insn&) {
  cpu.check_fpu(false);
  x87_of(cpu).initialize();
}

// WAIT heeds CR0.MP and TS together, and no EM.
void wait(Cpu& cpu, const Insn&) {
  constexpr std::uint64_t kMpTs = 0xa, kNe = 0x20;
  if ((cpu.cr0 & kMpTs) == kMpTs) cpu.raise(Vector::kNm);
  if ((cpu.fpu.status & kX87Summary) != 0 && (cpu.cr0 & kNe) != 0) cpu.raise(Vector::kMf);
}

void ldcw(Cpu& cpu, const Insn& insn) {
  x87_begin(cpu);
  x87_of(cpu).set_control(cpu.read<std::uint16_t>(insn.segment, memory_operand(cpu, insn)));
}
void stcw(Cpu& cpu, const Insn& insn) {
  cpu.check_fpu(false);
  cpu.write<std::uint16_t>(insn.segment, memory_operand(cpu, insn), cpu.fpu.control);
}
void stsw_m(Cpu& cpu, const Insn& insn) {
  cpu.check_fpu(false);
  cpu.write<std::uint16_t>(insn.segment, memory_operand(cpu, insn), cpu.fpu.status);
}
void stsw_ax(Cpu& cpu, const Insn&) {
  cpu.check_fpu(false);
  cpu.set_reg<std::uint16_t>(kRax, cpu.fpu.status);
}

void stenv(Cpu& cpu, const Insn& insn) {
  cpu.check_fpu(false);
  Image image{cpu, insn};
  image.probe(image.environment_size());
  put_environment(cpu, image);
  X87 fpu = x87_of(cpu);
  fpu.set_control(static_cast<std::uint16_t>(cpu.fpu.control | kAllFlags));
}

void ldenv(Cpu& cpu, const Insn& insn) {
  x87_begin(cpu);
  const Image image{cpu, insn};
  set_environment(cpu, Environment{image}, image.wide());
}

void save(Cpu& cpu, const Insn& insn) {
  cpu.check_fpu(false);
  Image image{cpu, insn};
  image.probe(image.environment_size() + 80);
  put_environment(cpu, image);
  X87 fpu = x87_of(cpu);
  for (unsigned i = 0; i < 8; ++i) image.put_register(i, fpu.st(i));
  fpu.initialize();
}

void rstor(Cpu& cpu, const Insn& insn) {
  x87_begin(cpu);
  const Image image{cpu, insn};
  const Environment environment{image};
  F80 registers[8];
  for (unsigned i = 0; i < 8; ++i) registers[i] = image.register_at(i);
  set_environment(cpu, environment, image.wide());
  X87 fpu = x87_of(cpu);
  for (unsigned i = 0; i < 8; ++i) fpu.st(i) = registers[i];
}

// ---- FXSAVE and FXRSTOR: always sixteen-byte aligned --------------------------------------------
namespace {

constexpr unsigned kFxImage = 512, kFxSt0 = 32, kFxXmm0 = 160;
constexpr std::uint32_t kMxcsrMask = 0xffff;
constexpr std::uint64_t kCr4Osfxsr = 0x200;

std::uint64_t aligned_operand(Cpu& cpu, const Insn& insn) {
  const std::uint64_t at = cpu.effective_address(insn);
  const AccessKind kind = insn.op == Op::kFxsave ? AccessKind::kWrite : AccessKind::kRead;
  const std::uint64_t linear = cpu.linear(insn.segment, at, kFxImage, kind);
  if (cpu.long64 && !canonical(linear))  // comes before the alignment
    cpu.raise(insn.segment == kSs ? Vector::kSs : Vector::kGp, 0);
  if ((linear & 15) != 0) cpu.protection_fault();
  return at;
}

// One bit for each physical register: 0 is empty.
std::uint64_t short_tags(std::uint16_t tags) {
  unsigned valid = 0;
  for (unsigned i = 0; i < 8; ++i) valid |= ((tags >> (i * 2) & 3) != 3 ? 1u : 0u) << i;
  return valid;
}
std::uint16_t long_tags(std::uint64_t valid) {
  unsigned tags = 0;
  for (unsigned i = 0; i < 8; ++i) tags |= ((valid >> i & 1) != 0 ? 0u : 3u) << (i * 2);
  return static_cast<std::uint16_t>(tags);
}

unsigned xmm_count(const Cpu& cpu) {
  if ((cpu.cr4 & kCr4Osfxsr) == 0) return 0;
  return cpu.code_size() == CodeSize::k64 ? 16 : 8;
}
bool wide_pointers(const Cpu& cpu, const Insn& insn) {
  return cpu.code_size() == CodeSize::k64 && insn.size == k64;
}

}  // namespace

void fxsave(Cpu& cpu, const Insn& insn) {
  cpu.check_fpu(false);
  const std::uint64_t at = aligned_operand(cpu, insn);
  cpu.probe_write(insn.segment, at, kFxImage);
  const auto put = [&](unsigned offset, std::uint64_t value) {
    cpu.write<std::uint64_t>(insn.segment, at + offset, value);
  };
  const FpuState& fpu = cpu.fpu;
  put(0, fpu.control | std::uint64_t{fpu.status} << 16 | short_tags(fpu.tags) << 32 |
             std::uint64_t{fpu.opcode} << 48);
  if (wide_pointers(cpu, insn)) {
    put(8, fpu.instruction);
    put(16, fpu.data);
  } else {
    put(8, low32(fpu.instruction) | std::uint64_t{fpu.instruction_selector} << 32);
    put(16, low32(fpu.data) | std::uint64_t{fpu.data_selector} << 32);
  }
  const unsigned xmm = xmm_count(cpu);
  if (xmm != 0) put(24, cpu.mxcsr | std::uint64_t{kMxcsrMask} << 32);
  X87 stack = x87_of(cpu);
  for (unsigned i = 0; i < 8; ++i) {
    put(kFxSt0 + i * 16, stack.st(i).significand);
    put(kFxSt0 + i * 16 + 8, stack.st(i).sign_exponent);
  }
  for (unsigned i = 0; i < xmm * 2; ++i)
    put(kFxXmm0 + i * 8, cpu.sse.xmm[i / 2].qword[i % 2]);
}

namespace {

void restore_fx(Cpu& cpu, const std::uint64_t (&image)[kFxImage / 8], bool wide) {
  FpuState& fpu = cpu.fpu;
  X87 stack = x87_of(cpu);
  stack.set_control(static_cast<std::uint16_t>(image[0]));
  stack.set_status(static_cast<std::uint16_t>(image[0] >> 16));
  fpu.tags = long_tags(image[0] >> 32 & 0xff);
  fpu.opcode = image[0] >> 48 & 0x7ff;
  fpu.instruction = wide ? image[1] : low32(image[1]);
  fpu.data = wide ? image[2] : low32(image[2]);
  if (!wide) {
    fpu.instruction_selector = static_cast<std::uint16_t>(image[1] >> 32);
    fpu.data_selector = static_cast<std::uint16_t>(image[2] >> 32);
  }
  for (unsigned i = 0; i < 8; ++i) {
    const unsigned at = kFxSt0 / 8 + i * 2;
    stack.st(i) = {image[at], static_cast<std::uint16_t>(image[at + 1])};
  }
}

}  // namespace

void fxrstor(Cpu& cpu, const Insn& insn) {
  cpu.check_fpu(false);
  const std::uint64_t at = aligned_operand(cpu, insn);
  std::uint64_t image[kFxImage / 8];
  for (unsigned i = 0; i < kFxImage / 8; ++i)
    image[i] = cpu.read<std::uint64_t>(insn.segment, at + i * 8);
  const unsigned xmm = xmm_count(cpu);
  if (xmm != 0 && (low32(image[3]) & ~kMxcsrMask) != 0) cpu.protection_fault();
  restore_fx(cpu, image, wide_pointers(cpu, insn));
  if (xmm == 0) return;
  cpu.mxcsr = low32(image[3]);
  for (unsigned i = 0; i < xmm * 2; ++i) cpu.sse.xmm[i / 2].qword[i % 2] = image[kFxXmm0 / 8 + i];
}

}  // namespace x87

}  // namespace hv::softcpu

// SSE4.2 string comparisons: PCMPESTRM, PCMPESTRI, PCMPISTRM, PCMPISTRI (SDM Vol. 2, "Imm8 Control
// Byte Operation for PCMPESTRI / PCMPESTRM / PCMPISTRI / PCMPISTRM"). Bit j of a result speaks of
// lane j of the second operand.
#include "softcpu/exec_simd.h"
#include "softcpu/simd_operand.h"

namespace hv::softcpu::simd {

namespace {

struct Control {
  u8 imm;
  bool words() const { return (imm & 1) != 0; }
  bool is_signed() const { return (imm & 2) != 0; }
  enum Aggregation : u8 { kEqualAny, kRanges, kEqualEach, kEqualOrdered };
  Aggregation aggregation() const { return static_cast<Aggregation>(imm >> 2 & 3); }
  bool negates() const { return (imm & 0x10) != 0; }
  bool negates_valid_only() const { return (imm & 0x30) == 0x30; }
  bool most_significant() const { return (imm & 0x40) != 0; }  // … index, or a mask of lanes
  unsigned count() const { return words() ? 8 : 16; }
};

// A fragment of text: its lanes as integers that compare as the control byte says, and how many
// of them are valid.
struct Text {
  std::array<int, 16> lane{};
  unsigned length = 0;
};

Text text_of(Xmm value, Control control) {
  Text text;
  const auto bytes = lanes<u8>(value);
  const auto words = lanes<u16>(value);
  for (unsigned i = 0; i < control.count(); ++i) {
    if (control.words())
      text.lane[i] = control.is_signed() ? static_cast<i16>(words[i]) : int{words[i]};
    else
      text.lane[i] = control.is_signed() ? static_cast<i8>(bytes[i]) : int{bytes[i]};
  }
  return text;
}

// Implicit: up to the first zero lane.
unsigned implicit_length(const Text& text, Control control) {
  unsigned length = 0;
  while (length < control.count() && text.lane[length] != 0) ++length;
  return length;
}
// Explicit: the magnitude of EAX or EDX (RAX or RDX with REX.W), at most all lanes.
unsigned explicit_length(u64 value, bool wide, Control control) {
  const i64 number = wide ? static_cast<i64>(value) : static_cast<i32>(value);
  const u64 magnitude = number < 0 ? 0 - static_cast<u64>(number) : static_cast<u64>(number);
  return static_cast<unsigned>(std::min<u64>(magnitude, control.count()));
}

bool in_set(const Text& set, int value) {
  for (unsigned i = 0; i < set.length; ++i)
    if (set.lane[i] == value) return true;
  return false;
}
bool in_ranges(const Text& ranges, int value) {
  for (unsigned i = 0; i + 1 < ranges.length; i += 2)
    if (ranges.lane[i] <= value && value <= ranges.lane[i + 1]) return true;
  return false;
}
// Lanes past the end of the needle match anything, lanes past the end of the text nothing.
bool starts_here(const Text& needle, const Text& text, unsigned at, unsigned count) {
  for (unsigned i = 0; i < needle.length && at + i < count; ++i)
    if (at + i >= text.length || needle.lane[i] != text.lane[at + i]) return false;
  return true;
}

bool matches(const Text& a, const Text& b, unsigned j, Control control) {
  switch (control.aggregation()) {
    case Control::kEqualAny: return j < b.length && in_set(a, b.lane[j]);
    case Control::kRanges: return j < b.length && in_ranges(a, b.lane[j]);
    case Control::kEqualEach:
      if (j >= a.length || j >= b.length) return j >= a.length && j >= b.length;
      return a.lane[j] == b.lane[j];
    case Control::kEqualOrdered: return starts_here(a, b, j, control.count());
  }
  return false;
}

u32 compare(const Text& a, const Text& b, Control control) {
  u32 result = 0;
  for (unsigned j = 0; j < control.count(); ++j)
    result |= static_cast<u32>(matches(a, b, j, control)) << j;
  if (!control.negates()) return result;
  const u32 all = (1u << control.count()) - 1;
  return result ^ (control.negates_valid_only() ? (1u << b.length) - 1 : all);
}

void write_index(Cpu& cpu, u32 result, Control control) {
  u32 index = control.count();
  if (result != 0)
    index = static_cast<u32>(control.most_significant() ? std::bit_width(result) - 1
                                                        : std::countr_zero(result));
  cpu.set_reg<u32>(kRcx, index);
}

template <class T>
Xmm spread(u32 result) {
  Lanes<T, Xmm> r;
  for (std::size_t i = 0; i < r.size(); ++i) r[i] = mask<T>((result >> i & 1) != 0);
  return join<Xmm, T>(r);
}

void write_mask(Cpu& cpu, u32 result, Control control) {
  if (!control.most_significant())
    cpu.sse.xmm[0] = {result, 0};
  else
    cpu.sse.xmm[0] = control.words() ? spread<u16>(result) : spread<u8>(result);
}

// The memory operand need not be aligned.
template <bool kExplicit, bool kIndex>
void compare_strings(Cpu& cpu, const Insn& i) {
  enter_sse(cpu);
  const Xmm source = i.memory != 0 ? load<Xmm>(cpu, i) : cpu.sse.xmm[i.rm];
  const Control control{static_cast<u8>(i.imm)};
  Text a = text_of(cpu.sse.xmm[i.reg], control), b = text_of(source, control);
  const bool wide = i.size == k64;
  a.length = kExplicit ? explicit_length(cpu.gpr[kRax], wide, control)
                       : implicit_length(a, control);
  b.length = kExplicit ? explicit_length(cpu.gpr[kRdx], wide, control)
                       : implicit_length(b, control);
  const u32 result = compare(a, b, control);
  if constexpr (kIndex)
    write_index(cpu, result, control);
  else
    write_mask(cpu, result, control);
  const u64 cf = result != 0, of = result & 1;
  const u64 zf = b.length < control.count(), sf = a.length < control.count();
  cpu.flags.set(cf | zf << 6 | sf << 7 | of << 11);
}

}  // namespace

Handler bind_strings(const Insn& insn) {
  switch (insn.op) {
    case Op::kPcmpestrm: return compare_strings<true, false>;
    case Op::kPcmpestri: return compare_strings<true, true>;
    case Op::kPcmpistrm: return compare_strings<false, false>;
    case Op::kPcmpistri: return compare_strings<false, true>;
    default: return nullptr;
  }
}

}  // namespace hv::softcpu::simd

// The x87's register stack, tags and exceptions, without instructions and memory. SDM Vol. 1,
// chapter 8.
#pragma once
#include "accel/cpu_state.h"
#include "softcpu/softfloat/float80.h"

namespace hv::softcpu {

// The status word (SDM Vol. 1, "x87 FPU Status Register"); its low six bits are softfloat::Flag.
inline constexpr unsigned kX87StackFault = 0x40, kX87Summary = 0x80, kX87Busy = 0x8000;
inline constexpr unsigned kX87C0 = 0x100, kX87C1 = 0x200, kX87C2 = 0x400, kX87C3 = 0x4000;
inline constexpr unsigned kX87Conditions = kX87C0 | kX87C1 | kX87C2 | kX87C3;
inline constexpr unsigned kX87Top = 0x3800;

// The stack of one FPU. FpuState::tags has 3 for an empty register and 0 for any other: the tags
// that FNSTENV shows follow from the contents (shown_tags).
class X87 {
 public:
  explicit X87(FpuState& state) : state_{state} {}

  unsigned top() const { return state_.status >> 11 & 7; }
  F80& st(unsigned i) { return state_.physical[(top() + i) & 7]; }
  const F80& st(unsigned i) const { return state_.physical[(top() + i) & 7]; }
  bool empty(unsigned i) const { return (state_.tags >> tag_shift(i) & 3) == 3; }
  softfloat::Parts operand(unsigned i) const { return softfloat::unpack(st(i)); }

  void set(unsigned i, const F80& value) {
    st(i) = value;
    state_.tags = static_cast<std::uint16_t>(state_.tags & ~(3u << tag_shift(i)));
  }
  void release(unsigned i) {
    state_.tags = static_cast<std::uint16_t>(state_.tags | 3u << tag_shift(i));
  }
  void rotate(unsigned by) {
    const unsigned top_bits = ((top() + by) & 7) << 11;
    state_.status = static_cast<std::uint16_t>((state_.status & ~kX87Top) | top_bits);
  }
  void pop() {
    release(0);
    rotate(1);
  }
  void push(const F80& value) {
    rotate(7);
    set(0, value);
  }

  // Clears C1, as every instruction does that may set it, and gives the control word's wishes.
  softfloat::FloatStatus begin() {
    condition(kX87C1, 0);
    return wishes();
  }
  softfloat::FloatStatus wishes() const {
    softfloat::FloatStatus status;
    status.rounding = static_cast<softfloat::Rounding>(state_.control >> 10 & 3);
    status.masks = state_.control & softfloat::kAllFlags;
    status.precision = kPrecision[state_.control >> 8 & 3];
    return status;
  }
  // Takes over what the operation raised.
  void end(const softfloat::FloatStatus& status) {
    if (status.rounded_up) condition(kX87C1, kX87C1);
    raise(status.flags);
  }
  void condition(unsigned which, unsigned value) {
    state_.status = static_cast<std::uint16_t>((state_.status & ~which) | value);
  }
  void raise(unsigned flags) {
    state_.status = static_cast<std::uint16_t>(state_.status | flags);
    update_summary();
  }
  // After the flags or the masks changed: ES, and B, which mirrors it.
  void update_summary() {
    const bool pending = (state_.status & ~state_.control & softfloat::kAllFlags) != 0;
    condition(kX87Summary | kX87Busy, pending ? kX87Summary | kX87Busy : 0u);
  }

  // True where the fault is masked: the instruction goes on with the indefinite value.
  bool underflow() { return stack_fault(0); }
  bool overflow() { return stack_fault(kX87C1); }

  void initialize() {  // FNINIT: the registers keep their contents
    state_.control = 0x37f;
    state_.status = 0;
    state_.tags = 0xffff;
    state_.opcode = 0;
    state_.instruction = state_.data = 0;
    state_.instruction_selector = state_.data_selector = 0;
  }
  void set_control(std::uint16_t control) {
    // Bit 6 is always 1, the bits without a meaning 0; bit 12 (infinity control) is only kept.
    state_.control = static_cast<std::uint16_t>((control & 0x1f3f) | 0x40);
    update_summary();
  }
  void set_status(std::uint16_t status) {
    state_.status = status;
    update_summary();
  }
  // Of a tag word in memory only what is empty counts.
  void set_tags(std::uint16_t tags) {
    const unsigned empty = tags & tags >> 1 & 0x5555u;
    state_.tags = static_cast<std::uint16_t>(empty * 3);
  }
  std::uint16_t shown_tags() const;

  FpuState& state() { return state_; }

 private:
  static constexpr std::uint8_t kPrecision[4] = {24, 64, 53, 64};

  unsigned tag_shift(unsigned i) const { return ((top() + i) & 7) * 2; }
  bool stack_fault(unsigned c1) {
    condition(kX87C1, c1);
    raise(softfloat::kInvalid | kX87StackFault);
    return (state_.control & softfloat::kInvalid) != 0;
  }

  FpuState& state_;
};

}  // namespace hv::softcpu

// What the files of the integer family share: how operations find their handlers.
//
// An operation is a template over its operand's type with a static function for each place where
// the r/m operand may be: reg, mem, and locked (mem with a LOCK prefix).
#pragma once
#include <array>
#include <cstdint>
#include <span>

#include "softcpu/cpu.h"

namespace hv::softcpu {

struct Binding {
  Op op{};
  std::array<Handler, 4> reg{}, mem{}, locked{};  // by Size
};

template <template <class> class H, class T>
constexpr void bind_size(Binding& binding, std::size_t size) {
  if constexpr (requires { &H<T>::reg; }) binding.reg[size] = H<T>::reg;
  if constexpr (requires { &H<T>::mem; }) binding.mem[size] = binding.locked[size] = H<T>::mem;
  if constexpr (requires { &H<T>::locked; }) binding.locked[size] = H<T>::locked;
}

template <template <class> class H>
constexpr Binding sized(Op op) {
  Binding binding{op};
  bind_size<H, std::uint8_t>(binding, k8);
  bind_size<H, std::uint16_t>(binding, k16);
  bind_size<H, std::uint32_t>(binding, k32);
  bind_size<H, std::uint64_t>(binding, k64);
  return binding;
}

// One handler for every size and place.
constexpr Binding fixed(Op op, Handler handler) {
  Binding binding{op};
  binding.reg.fill(handler);
  binding.mem.fill(handler);
  binding.locked.fill(handler);
  return binding;
}

// exec_alu.cc, exec_move.cc, exec_shift.cc, exec_multiply.cc, exec_bits.cc, exec_branch.cc,
// exec_string.cc, exec_stack.cc, exec_misc.cc
std::span<const Binding> alu_bindings();
std::span<const Binding> move_bindings();
std::span<const Binding> shift_bindings();
std::span<const Binding> multiply_bindings();
std::span<const Binding> bit_bindings();
std::span<const Binding> branch_bindings();
std::span<const Binding> string_bindings();
std::span<const Binding> stack_bindings();
std::span<const Binding> misc_bindings();

// The memory operand.
template <class T>
inline T load(Cpu& cpu, const Insn& i) {
  return cpu.read<T>(i.segment, cpu.effective_address(i));
}
template <class T>
inline void save(Cpu& cpu, const Insn& i, T value) {
  cpu.write<T>(i.segment, cpu.effective_address(i), value);
}

// The register of implied operands by width: rAX, rCX, rDX.
inline std::uint64_t cut(std::uint64_t value, unsigned address_size) {
  return value & kAddressMask[address_size];
}
// A register that counts or points, written by the width of addresses.
inline void set_by_address(Cpu& cpu, unsigned number, std::uint64_t value, unsigned address_size) {
  if (address_size == k16)
    cpu.set_reg<std::uint16_t>(number, static_cast<std::uint16_t>(value));
  else
    cpu.gpr[number] = cut(value, address_size);
}

}  // namespace hv::softcpu

// The oracle's stage: one instruction, the registers and memory it starts from, and what came of
// it. The same stage is set natively (native_run.cc) and on our CPU (guest_run.cc).
//
// Linear addresses, the same on both sides: a stretch of code filled with INT3, so that wherever
// the instruction ends up within it, #BP ends the case; and data: two writable pages, a read-only
// one, then nothing.
#pragma once
#include <array>
#include <cstdint>
#include <vector>

#include "accel/cpu_state.h"
#include "softcpu/cpu.h"

namespace oracle {

inline constexpr std::uint64_t kCode = 0x1000'0000;
inline constexpr std::uint64_t kCodeSize = 0x1'0000;
inline constexpr std::uint64_t kData = 0x2000'0000;
inline constexpr std::uint64_t kWritable = 0x2000;
inline constexpr std::uint64_t kDataSize = 0x3000;
inline constexpr std::uint64_t kGsBase = 0x2000'0800;
inline constexpr std::uint8_t kInt3 = 0xcc;

// Linux's selectors; the LDT ones are made with modify_ldt (and in the guest's LDT).
inline constexpr std::uint16_t kUserCode32 = 0x23, kUserData = 0x2b, kUserCode64 = 0x33;
inline constexpr std::uint16_t kLdtCode16 = 0x07, kLdtData16 = 0x0f;

using hv::softcpu::CodeSize;

struct Registers {
  std::array<std::uint64_t, 16> gpr{};
  std::uint64_t rip = 0, rflags = 2;
  std::array<hv::F80, 8> st{};  // ST(0) first
  std::uint16_t control = 0x37f, status = 0;
  std::uint8_t tags = 0;  // FXSAVE's form: bit n set where physical register n is not empty
  std::uint32_t mxcsr = 0x1f80;
  std::array<hv::Xmm, 16> xmm{};
};

struct Case {
  std::uint64_t seed = 0;
  CodeSize mode = CodeSize::k64;
  std::array<std::uint8_t, 16> bytes{};
  unsigned length = 0;  // bytes to place; the decoder's length where it is valid
  Registers registers;
  std::array<std::uint8_t, kDataSize> data{};
};

struct Outcome {
  Registers registers;
  unsigned vector = 0;
  std::uint64_t error = 0, fault_address = 0;
  std::array<std::uint8_t, kDataSize> data{};
  std::uint64_t code = 0;  // of what the case left written into the code; 0 where nothing was
};

// Stray stores reach the code (RIP-relative ones, strings that run on): what they wrote is part of
// the outcome, and must be INT3 again before the next case, which may jump there.
std::uint64_t take_stray_code(std::uint8_t* code);

}  // namespace oracle

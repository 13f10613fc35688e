#include "accel/xsave_area.h"

#include <cstring>

namespace hv {
namespace {

// FXSAVE in 64-bit mode (SDM Vol. 1, "FXSAVE Area"), then XSTATE_BV (Vol. 1, "XSAVE Header").
struct LegacyArea {
  std::uint16_t control, status;
  std::uint8_t tags, reserved;
  std::uint16_t opcode;
  std::uint64_t instruction, data;
  std::uint32_t mxcsr, mxcsr_mask;
  struct Register {
    std::uint64_t significand;
    std::uint16_t sign_exponent;
    std::uint16_t unused[3];
  } st[8];
  Xmm xmm[16];
};
static_assert(sizeof(LegacyArea) == 416);
constexpr std::size_t kHeader = 512;
constexpr std::uint64_t kX87AndSse = 3;

// SDM Vol. 1, "x87 FPU Tag Word": 0 valid, 1 zero, 2 special, 3 empty.
unsigned tag_of(const F80& value) {
  const unsigned exponent = value.sign_exponent & 0x7fffu;
  if (exponent == 0 && value.significand == 0) return 1;
  const bool integer = value.significand >> 63 != 0;
  return exponent == 0 || exponent == 0x7fff || !integer ? 2 : 0;
}

}  // namespace

void put_fpu(const CpuState& s, XsaveArea& out) {
  out = {};
  LegacyArea area{};
  area.control = s.fpu.control;
  area.status = s.fpu.status;
  area.opcode = s.fpu.opcode;
  area.instruction = s.fpu.instruction;
  area.data = s.fpu.data;
  area.mxcsr = s.fpu.mxcsr;
  const unsigned top = s.fpu.status >> 11 & 7;
  for (unsigned i = 0; i < 8; ++i) {
    if ((s.fpu.tags >> (2 * i) & 3) != 3) area.tags = static_cast<std::uint8_t>(area.tags | 1u << i);
    const F80& value = s.fpu.physical[(top + i) & 7];
    area.st[i].significand = value.significand;
    area.st[i].sign_exponent = value.sign_exponent;
  }
  std::memcpy(area.xmm, s.fpu.xmm.data(), sizeof area.xmm);
  std::memcpy(out.bytes.data(), &area, sizeof area);
  std::memcpy(out.bytes.data() + kHeader, &kX87AndSse, sizeof kX87AndSse);
}

void get_fpu(const XsaveArea& in, CpuState& s) {
  LegacyArea area;
  std::memcpy(static_cast<void*>(&area), in.bytes.data(), sizeof area);
  s.fpu.control = area.control;
  s.fpu.status = area.status;
  s.fpu.opcode = area.opcode & 0x7ff;
  s.fpu.instruction = area.instruction;
  s.fpu.data = area.data;
  s.fpu.instruction_selector = s.fpu.data_selector = 0;
  s.fpu.mxcsr = area.mxcsr;
  s.fpu.tags = 0;
  const unsigned top = area.status >> 11 & 7;
  for (unsigned i = 0; i < 8; ++i)
    s.fpu.physical[(top + i) & 7] = {area.st[i].significand, area.st[i].sign_exponent};
  for (unsigned i = 0; i < 8; ++i) {
    const unsigned tag = (area.tags >> i & 1) != 0 ? tag_of(s.fpu.physical[i]) : 3;
    s.fpu.tags = static_cast<std::uint16_t>(s.fpu.tags | tag << (2 * i));
  }
  std::memcpy(s.fpu.xmm.data(), area.xmm, sizeof area.xmm);
}

}  // namespace hv

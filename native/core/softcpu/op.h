// What an instruction does, by name. Each family lists its operations beside its opcode rows.
#pragma once
#include <cstdint>

namespace hv::softcpu {

enum class Op : std::uint16_t {
  kInvalid,  // decodes to #UD
#define OP(name) k##name,
#include "softcpu/ops_integer.def"
#include "softcpu/ops_system.def"
#include "softcpu/ops_x87.def"
#include "softcpu/ops_simd.def"
#undef OP
  kCount
};

}  // namespace hv::softcpu

// Random cases from the opcode table: an encoding of a row, and registers and memory that make it
// do something.
#pragma once
#include <string_view>
#include <vector>

#include "base/test_random.h"
#include "scene.h"
#include "softcpu/decoder.h"
#include "softcpu/opcodes.h"

namespace oracle {

using hv::test::Random;

// Whether user mode can show this row in this code size, and why not.
bool can_show(const hv::softcpu::Row& row, CodeSize mode);

struct Generated {
  Case test;
  hv::softcpu::Decoded decoded;
};
Generated generate(std::uint64_t seed, const hv::softcpu::Row& row, CodeSize mode);

}  // namespace oracle

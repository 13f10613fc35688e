// Which loads of a loop wait for what they loaded the turn before: table lookups whose index comes
// from the table, lists that are followed. How long such a load takes is how long the loop takes,
// while others overlap; so it is worth more to have their addresses early (BlockTranslator).
#pragma once
#include <cstdint>

#include "softcpu/translator/trace.h"

namespace hv::softcpu::translator {

// A bit for each step that is one; none where `steps`, which lie from `rip` on, end by no branch
// back to their begin. It says what is likely: nothing relies on it.
std::uint64_t recurrent_loads(const std::vector<Step>& steps, std::uint64_t rip);

}  // namespace hv::softcpu::translator

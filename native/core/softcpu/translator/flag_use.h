// Whether anything can still look at the arithmetic flags that an instruction leaves.
#pragma once
#include <vector>

#include "softcpu/translator/trace.h"

namespace hv::softcpu::translator {

// False: behind step `at` all six are overwritten before anything reads them, and nothing in
// between can fault, which would show them to a handler.
bool flags_matter(const std::vector<Step>& steps, unsigned at);

}  // namespace hv::softcpu::translator

// What differs between two outcomes, in words; empty when nothing that is defined does.
#pragma once
#include <string>

#include "generate.h"

namespace oracle {

// `undefined_too`: flags that the architecture leaves undefined as well; another make of CPU than
// this host may set them otherwise.
std::string compare(const Generated& given, const Outcome& native, const Outcome& guest,
                    bool undefined_too);
std::string describe(const Generated& given);

}  // namespace oracle

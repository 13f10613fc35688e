// What differs between two outcomes, in words; empty when nothing that is defined does.
#pragma once
#include <string>

#include "generate.h"

namespace oracle {

std::string compare(const Generated& given, const Outcome& native, const Outcome& guest);
std::string describe(const Generated& given);

}  // namespace oracle

// What differs between two outcomes, in words; empty when nothing that is defined does.
#pragma once
#include <string>

#include "generate.h"

namespace oracle {

// `undefined_too`: flags that the architecture leaves undefined as well; another make of CPU than
// this host may set them otherwise.
std::string compare(const Generated& given, const Outcome& native, const Outcome& guest,
                    bool undefined_too);
// Both had a page fault whose error codes differ in P alone. The host's kernel may take a page away
// for a moment (to move it, to look whether it is used), and a fault then says that it is not
// present; asked again, it gives the answer that the page's protection demands.
bool page_was_away(const Outcome& native, const Outcome& guest);

std::string describe(const Generated& given);

}  // namespace oracle

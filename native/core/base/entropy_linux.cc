#include "base/entropy.h"

#include <sys/random.h>

namespace hv::host {

bool entropy(std::span<std::byte> into) { return ::getentropy(into.data(), into.size()) == 0; }

}  // namespace hv::host

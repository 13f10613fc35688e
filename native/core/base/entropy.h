// Random bytes of the host's kernel.
#pragma once

#include <cstddef>
#include <span>

namespace hv::host {

/** At most 256 bytes (POSIX getentropy). False where the host has none to give. */
bool entropy(std::span<std::byte> into);

}  // namespace hv::host

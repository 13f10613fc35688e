// What network hardware does to a frame that a guest left unfinished, done here for links that
// cannot: checksums, and large TCP segments cut to size.
#pragma once
#include <functional>
#include <optional>

#include "net/frame.h"

namespace hv::net {

// A frame ready for the wire: valid until emit() returns.
using Emit = std::function<void(std::span<const std::uint8_t> frame)>;

// Finishes one frame, which is changed in place, and gives it out in one or several pieces. False,
// and nothing is given out, where header and frame do not belong together.
bool finish(const Header& header, std::span<std::uint8_t> frame, const Emit& emit);

// The Offloads that a receiver must take to get this frame as it is; nothing where header and frame do
// not belong together, which no receiver should see.
std::optional<unsigned> needs(const Header& header, std::span<const std::uint8_t> frame);

// The Internet checksum (RFC 1071) over the bytes, beginning with `sum`: folded, not complemented.
std::uint16_t add_checksum(std::span<const std::uint8_t> bytes, std::uint32_t sum);

}  // namespace hv::net

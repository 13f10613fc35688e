// SDM Vol. 3, "Message Signalled Interrupts": a 32-bit write to 0xFEExxxxx is an interrupt.
#pragma once
#include <cstdint>
#include <optional>

#include "irq/message.h"

namespace hv {

// nullopt: the address is no interrupt address, or the delivery mode is one that a message may
// not have (reserved, start-up).
std::optional<InterruptMessage> decode_msi(std::uint64_t address, std::uint32_t data);

}  // namespace hv

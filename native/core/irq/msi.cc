#include "irq/msi.h"

namespace hv {

std::optional<InterruptMessage> decode_msi(std::uint64_t address, std::uint32_t data) {
  if (address >> 20 != 0xfee) return std::nullopt;
  const auto mode = static_cast<DeliveryMode>(data >> 8 & 7);
  if (mode == DeliveryMode::kReserved || mode == DeliveryMode::kStartUp) return std::nullopt;
  InterruptMessage message;
  message.mode = mode;
  message.vector = static_cast<std::uint8_t>(data);
  message.level = (data >> 15 & 1) != 0;
  // "Message Data Register Format": a level-triggered message with bit 14 clear is a deassertion.
  if (message.level && (data >> 14 & 1) == 0) return std::nullopt;
  // "Message Address Register Format": DM (bit 2) counts only with the redirection hint RH (bit
  // 3); without it the message goes to the one APIC that the destination names. Hosts and guests
  // alike program RH=0, DM=1 and mean a logical destination, so DM alone decides.
  message.logical = (address >> 2 & 1) != 0;
  const bool hint = (address >> 3 & 1) != 0;
  if (hint && mode == DeliveryMode::kFixed && message.logical)
    message.mode = DeliveryMode::kLowestPriority;
  message.destination = static_cast<std::uint32_t>(address >> 12 & 0xff);
  return message;
}

}  // namespace hv

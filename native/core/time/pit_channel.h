// One counter of the 8254 as arithmetic over its state: no bus, no wire, no lock. Intel 8254 data
// sheet, "Mode Definitions". Time is in ticks of the 1.193182 MHz clock.
#pragma once
#include <cstdint>
#include <optional>

#include "time/pit.h"

namespace hv::pit {

// Makes a written count current where its moment has come. Before everything else here.
void settle(PitChannelState& channel, std::uint64_t now);

bool output(const PitChannelState& channel, std::uint64_t now);
// OUT's rising edges since the count was loaded.
std::uint64_t rising_edges(const PitChannelState& channel, std::uint64_t now);
// The tick of the next one; nullopt where there will be none unless something is written.
std::optional<std::uint64_t> next_rising_edge(const PitChannelState& channel, std::uint64_t now);
// Ticks between two of them; 0 where they do not recur.
std::uint64_t edge_period(const PitChannelState& channel);

void write_control(PitChannelState& channel, std::uint8_t value);
void write_count(PitChannelState& channel, std::uint8_t value, std::uint64_t now);
std::uint8_t read(PitChannelState& channel, std::uint64_t now);
void latch_count(PitChannelState& channel, std::uint64_t now);
void latch_status(PitChannelState& channel, std::uint64_t now);
void set_gate(PitChannelState& channel, bool gate, std::uint64_t now);

}  // namespace hv::pit

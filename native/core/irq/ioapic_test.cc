#include "base/state.h"
#include "base/test.h"
#include "irq/test_rig.h"

using hv::test::Rig;

namespace {
constexpr hv::IrqSource kSource = 300;
constexpr std::uint32_t kMasked = 1u << 16, kLevel = 1u << 15, kRemoteIrr = 1u << 14,
                        kLogical = 1u << 11, kLowest = 1u << 8;
}  // namespace

TEST(has_24_masked_entries_and_says_so) {
  Rig rig;
  EXPECT_EQ(rig.ioapic(0x01), 0x00170020u);
  for (std::uint8_t pin = 0; pin < 24; ++pin) {
    EXPECT_EQ(rig.ioapic(static_cast<std::uint8_t>(0x10 + 2 * pin)), kMasked);
    EXPECT_EQ(rig.ioapic(static_cast<std::uint8_t>(0x11 + 2 * pin)), 0u);
  }
  EXPECT_EQ(rig.ioapic(0x40), 0u);
  rig.ioapic(0x00, 0xff000000);
  EXPECT_EQ(rig.ioapic(0x00), 0x0f000000u);
  EXPECT_EQ(rig.ioapic(0x02), 0x0f000000u);
}

TEST(keeps_all_writable_bits_of_an_entry) {
  Rig rig;
  rig.ioapic(0x1a, 0xffffffff);
  EXPECT_EQ(rig.ioapic(0x1a), 0x0001afffu);  // neither delivery status nor remote IRR
  rig.ioapic(0x1b, 0xffffffff);
  EXPECT_EQ(rig.ioapic(0x1b), 0xff000000u);
}

TEST(edges_are_delivered_once_and_lost_while_masked) {
  Rig rig;
  rig.route(4, 0x30);
  rig.fabric->set_isa(4, kSource, true);
  EXPECT_EQ(rig.acknowledge(), 0x30u);
  rig.eoi();
  EXPECT(!rig.intr());
  rig.fabric->set_isa(4, kSource, false);
  rig.route(4, 0x30 | kMasked);
  rig.fabric->set_isa(4, kSource, true);
  rig.route(4, 0x30);
  EXPECT(!rig.intr());
}

TEST(levels_set_remote_irr_until_eoi_and_repeat_while_asserted) {
  Rig rig;
  rig.route(16, 0x40 | kLevel);
  rig.fabric->set_gsi(16, kSource, true);
  EXPECT_EQ(rig.ioapic(0x30), 0x40 | kLevel | kRemoteIrr);
  EXPECT_EQ(rig.acknowledge(), 0x40u);
  EXPECT(!rig.intr());
  rig.eoi();
  EXPECT(rig.intr());
  EXPECT_EQ(rig.acknowledge(), 0x40u);
  rig.fabric->set_gsi(16, kSource, false);
  rig.eoi();
  EXPECT(!rig.intr());
  EXPECT_EQ(rig.ioapic(0x30), 0x40 | kLevel);
}

TEST(a_level_waits_behind_the_mask) {
  Rig rig;
  rig.route(17, 0x41 | kLevel | kMasked);
  rig.fabric->set_gsi(17, kSource, true);
  EXPECT(!rig.intr());
  rig.route(17, 0x41 | kLevel);
  EXPECT_EQ(rig.acknowledge(), 0x41u);
}

TEST(polarity_is_a_bit_that_changes_nothing) {
  Rig rig;
  rig.route(18, 0x42 | kLevel | 1u << 13);
  EXPECT(!rig.intr());
  rig.fabric->set_gsi(18, kSource, true);
  EXPECT_EQ(rig.acknowledge(), 0x42u);
  EXPECT_EQ(rig.ioapic(0x34), 0x42 | kLevel | 1u << 13 | kRemoteIrr);
}

TEST(eoi_register_ends_where_broadcast_is_suppressed) {
  Rig rig;
  rig.apic(0, 0xf0, 0x11ff);
  rig.route(16, 0x40 | kLevel);
  rig.fabric->set_gsi(16, kSource, true);
  EXPECT_EQ(rig.acknowledge(), 0x40u);
  rig.eoi();
  EXPECT(!rig.intr());
  EXPECT_EQ(rig.ioapic(0x30) & kRemoteIrr, kRemoteIrr);
  rig.fabric->ioapic().write(0x40, 4, 0x40);
  EXPECT_EQ(rig.acknowledge(), 0x40u);
}

TEST(switching_to_edge_and_back_clears_remote_irr) {
  Rig rig;
  rig.route(16, 0x40 | kLevel);
  rig.fabric->set_gsi(16, kSource, true);
  rig.route(16, 0x40 | kMasked);
  EXPECT_EQ(rig.ioapic(0x30) & kRemoteIrr, 0u);
}

TEST(irq_0_is_pin_2_and_pin_0_is_the_8259) {
  Rig rig;
  rig.apic(0, 0x350, kMasked);  // LINT0 closed
  rig.route(2, 0x50);
  rig.fabric->set_isa(0, kSource, true);
  EXPECT_EQ(rig.acknowledge(), 0x50u);
  rig.eoi();
  rig.fabric->set_isa(0, kSource, false);
  rig.route(2, 0x50 | kMasked);
  rig.init_pic(0x20, 0x28);
  rig.route(0, 7u << 8);  // ExtINT
  rig.fabric->set_isa(0, kSource, true);
  EXPECT_EQ(rig.acknowledge(), 0x20u);
}

TEST(lowest_priority_goes_to_the_least_busy_and_round) {
  Rig rig{3};
  for (unsigned i = 0; i < 3; ++i) {
    rig.enable_apic(i);
    rig.apic(i, 0xe0, 0xffffffff);
    rig.apic(i, 0xd0, 1u << (24 + i));
  }
  rig.apic(0, 0x80, 0x90);
  rig.apic(1, 0x80, 0x20);
  rig.route(5, 0xa1 | kLogical | kLowest, 0x07);
  rig.fabric->set_isa(5, kSource, true);
  EXPECT(rig.intr(2) && !rig.intr(1) && !rig.intr(0));
  rig.apic(1, 0x80, 0);
  unsigned seen[3] = {};
  for (int i = 0; i < 10; ++i) {
    rig.fabric->set_isa(5, kSource, false);
    for (unsigned v = 0; v < 3; ++v)
      if (rig.intr(v)) ++seen[v], rig.acknowledge(v), rig.eoi(v);
    rig.fabric->set_isa(5, kSource, true);
  }
  EXPECT(seen[1] >= 4 && seen[2] >= 4 && seen[0] == 0);
}

TEST(odd_accesses_do_no_harm) {
  Rig rig;
  auto& chip = rig.fabric->ioapic();
  for (std::uint64_t at = 0; at < 0x60; ++at)
    for (const unsigned size : {1u, 2u, 4u, 8u}) chip.read(at, size), chip.write(at, size, ~0ull);
  rig.fabric->set_ioapic_pin(24, kSource, true);
  rig.fabric->set_ioapic_pin(5, 60'000, true);
  rig.fabric->set_gsi(~0u, kSource, true);
  EXPECT_EQ(chip.read(0, 8), 0xffu);
}

TEST(state_goes_through_its_serialized_form) {
  Rig rig;
  rig.route(16, 0x40 | kLevel);
  rig.fabric->set_gsi(16, 9, true);
  EXPECT_EQ(rig.acknowledge(), 0x40u);
  const auto chip = hv::state::save(rig.fabric->ioapic().state());
  const auto wires = hv::state::save(rig.fabric->state());
  const auto apic = hv::state::save(rig.fabric->lapic(0).state());
  Rig other;
  hv::IoApicState ioapic_state;
  hv::WiresState wires_state;
  hv::LapicState lapic_state;
  EXPECT_EQ(hv::state::restore(chip, ioapic_state), std::string{});
  EXPECT_EQ(hv::state::restore(wires, wires_state), std::string{});
  EXPECT_EQ(hv::state::restore(apic, lapic_state), std::string{});
  other.fabric->ioapic().set_state(ioapic_state);
  other.fabric->set_state(wires_state);
  other.fabric->lapic(0).set_state(lapic_state);
  other.eoi();
  EXPECT_EQ(other.acknowledge(), 0x40u);
  other.fabric->set_gsi(16, 9, false);
  other.eoi();
  EXPECT(!other.intr());
}

TEST_MAIN()

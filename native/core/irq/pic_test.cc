#include "base/state.h"
#include "base/test.h"
#include "irq/test_rig.h"

using hv::test::Rig;

namespace {

constexpr hv::IrqSource kSource = 300;

void edge(Rig& rig, unsigned irq) {
  rig.fabric->set_isa(irq, kSource, false);
  rig.fabric->set_isa(irq, kSource, true);
}

}  // namespace

TEST(delivers_through_virtual_wire_with_the_vectors_of_icw2) {
  Rig rig;
  rig.init_pic(0x20, 0x28);
  EXPECT(!rig.intr());
  edge(rig, 4);
  EXPECT(rig.intr());
  EXPECT_EQ(rig.acknowledge(), 0x24u);
  EXPECT(!rig.intr());
  edge(rig, 12);
  EXPECT(rig.intr());  // the cascade is input 2, above 4
}

TEST(slave_interrupts_outrank_inputs_3_to_7_of_the_master) {
  Rig rig;
  rig.init_pic(0x20, 0x28);
  edge(rig, 4);
  edge(rig, 12);
  EXPECT_EQ(rig.acknowledge(), 0x2cu);
  EXPECT(!rig.intr());
  rig.out(0xa0, 0x20), rig.out(0x20, 0x20);
  EXPECT_EQ(rig.acknowledge(), 0x24u);
  rig.out(0x20, 0x20);
  EXPECT_EQ(rig.acknowledge(), 0x100u);
}

TEST(masked_requests_wait_in_irr) {
  Rig rig;
  rig.init_pic(0x20, 0x28, 0xffff);
  edge(rig, 5);
  EXPECT(!rig.intr());
  EXPECT_EQ(rig.in(0x20), 0x20u);
  EXPECT_EQ(rig.in(0x21), 0xffu);
  rig.out(0x21, 0xdf);
  EXPECT(rig.intr());
  EXPECT_EQ(rig.acknowledge(), 0x25u);
  rig.out(0x20, 0x0b);
  EXPECT_EQ(rig.in(0x20), 0x20u);  // ISR
  rig.out(0x20, 0x65);             // specific EOI of 5
  EXPECT_EQ(rig.in(0x20), 0u);
}

TEST(withdrawn_requests_are_spurious_on_input_7) {
  Rig rig;
  rig.init_pic(0x20, 0x28);
  edge(rig, 3);
  rig.fabric->set_isa(3, kSource, false);
  EXPECT(!rig.intr());
  EXPECT_EQ(rig.fabric->pic().acknowledge(), 0x27u);
  rig.out(0x20, 0x0b);
  EXPECT_EQ(rig.in(0x20), 0u);  // a spurious one is not in service
}

TEST(level_inputs_ask_again_after_eoi) {
  Rig rig;
  rig.out(0x4d0, 0xff), rig.out(0x4d1, 0xff);
  EXPECT_EQ(rig.in(0x4d0), 0xf8u);  // IRQ 0, 1, 2 stay edge-triggered
  EXPECT_EQ(rig.in(0x4d1), 0xdeu);  // and 8 and 13
  rig.init_pic(0x20, 0x28);
  rig.fabric->set_isa(10, kSource, true);
  EXPECT_EQ(rig.acknowledge(), 0x2au);
  EXPECT(!rig.intr());
  rig.out(0xa0, 0x20), rig.out(0x20, 0x20);
  EXPECT(rig.intr());
  EXPECT_EQ(rig.acknowledge(), 0x2au);
  rig.fabric->set_isa(10, kSource, false);
  rig.out(0xa0, 0x20), rig.out(0x20, 0x20);
  EXPECT(!rig.intr());
}

TEST(triggers_are_set_one_by_one_as_firmware_would) {
  Rig rig;
  hv::Pic& pic = rig.fabric->pic();
  for (unsigned irq = 0; irq < 17; ++irq) pic.set_trigger(irq, irq != 5);
  EXPECT_EQ(rig.in(0x4d0), 0xd8u);  // not 5, and never 0, 1, 2
  EXPECT_EQ(rig.in(0x4d1), 0xdeu);
  pic.set_trigger(9, false);
  EXPECT_EQ(rig.in(0x4d1), 0xdcu);
  rig.init_pic(0x20, 0x28);
  rig.fabric->set_isa(10, kSource, true);
  EXPECT_EQ(rig.acknowledge(), 0x2au);
  rig.out(0xa0, 0x20), rig.out(0x20, 0x20);
  EXPECT(rig.intr());
}

TEST(wired_or_of_sources_falls_with_the_last) {
  Rig rig;
  rig.out(0x4d1, 0x08);
  rig.init_pic(0x20, 0x28);
  rig.fabric->set_isa(11, 3, true);
  rig.fabric->set_isa(11, 4, true);
  rig.fabric->set_isa(11, 3, false);
  EXPECT(rig.intr());
  rig.fabric->set_isa(11, 4, false);
  EXPECT(!rig.intr());
}

TEST(auto_eoi_leaves_nothing_in_service) {
  Rig rig;
  rig.init_pic(0x20, 0x28, 0, 0x03);
  edge(rig, 4);
  EXPECT_EQ(rig.acknowledge(), 0x24u);
  rig.out(0x20, 0x0b);
  EXPECT_EQ(rig.in(0x20), 0u);
  edge(rig, 6);
  EXPECT_EQ(rig.acknowledge(), 0x26u);
}

TEST(rotation_moves_the_lowest_priority) {
  Rig rig;
  rig.init_pic(0x20, 0x28);
  edge(rig, 4);
  EXPECT_EQ(rig.acknowledge(), 0x24u);
  rig.out(0x20, 0xa0);  // rotate on non-specific EOI: 4 becomes the lowest, 5 the highest
  edge(rig, 3), edge(rig, 5);
  EXPECT_EQ(rig.acknowledge(), 0x25u);
  rig.out(0x20, 0x20);
  rig.out(0x20, 0xc2);  // set priority: 2 the lowest, so 3 the highest
  edge(rig, 0);
  EXPECT_EQ(rig.acknowledge(), 0x23u);
  rig.out(0x20, 0xe3);  // rotate on specific EOI of 3
  EXPECT_EQ(rig.acknowledge(), 0x20u);
}

TEST(special_mask_mode_lets_lower_ones_through) {
  Rig rig;
  rig.init_pic(0x20, 0x28);
  edge(rig, 3);
  EXPECT_EQ(rig.acknowledge(), 0x23u);
  edge(rig, 6);
  EXPECT(!rig.intr());
  rig.out(0x21, 0x08), rig.out(0x20, 0x68);
  EXPECT_EQ(rig.acknowledge(), 0x26u);
  rig.out(0x20, 0x20);  // ends 6: 3 is masked and so out of sight
  rig.out(0x20, 0x0b);
  EXPECT_EQ(rig.in(0x20), 0x08u);
}

TEST(special_fully_nested_mode_lets_the_slave_interrupt_itself) {
  Rig rig;
  rig.init_pic(0x20, 0x28, 0, 0x11);
  edge(rig, 12);
  EXPECT_EQ(rig.acknowledge(), 0x2cu);
  edge(rig, 9);
  EXPECT_EQ(rig.acknowledge(), 0x29u);
  Rig plain;
  plain.init_pic(0x20, 0x28);
  edge(plain, 12);
  EXPECT_EQ(plain.acknowledge(), 0x2cu);
  edge(plain, 9);
  EXPECT(!plain.intr());
}

TEST(poll_command_acknowledges) {
  Rig rig;
  rig.init_pic(0x20, 0x28);
  rig.out(0x20, 0x0c);
  EXPECT_EQ(rig.in(0x20), 0u);
  edge(rig, 6);
  rig.out(0x20, 0x0c);
  EXPECT_EQ(rig.in(0x20), 0x86u);
  EXPECT(!rig.intr());
  rig.out(0x20, 0x0b);
  EXPECT_EQ(rig.in(0x20), 0x40u);
}

TEST(icw1_without_icw4_and_any_width_do_no_harm) {
  Rig rig;
  rig.out(0x20, 0x12);  // single, no ICW4
  rig.out(0x21, 0x40);
  rig.out(0x21, 0x00);  // already OCW1
  edge(rig, 1);
  EXPECT_EQ(rig.acknowledge(), 0x41u);
  rig.fabric->pic().write(0x20, 4, 0x12345678);
  rig.fabric->pic().write(0x4d0, 2, 0xffff);
  EXPECT_EQ(rig.fabric->pic().read(0x4d0, 2), 0xdef8u);
  EXPECT_EQ(rig.fabric->pic().read(0x20, 4) >> 16, 0xffffu);
}

TEST(masks_are_published_for_timers) {
  Rig rig;
  EXPECT_EQ(rig.fabric->pic().unmasked(), 0u);
  rig.init_pic(0x20, 0x28, 0xfefa);
  EXPECT_EQ(rig.fabric->pic().unmasked(), 0x0105u);
  rig.out(0x21, 0xfe);  // the cascade masked: no slave input reaches INT
  EXPECT_EQ(rig.fabric->pic().unmasked(), 0x0001u);
}

TEST(state_goes_through_its_serialized_form) {
  Rig rig;
  rig.init_pic(0x20, 0x28, 0xff00);
  edge(rig, 4), edge(rig, 5);
  EXPECT_EQ(rig.acknowledge(), 0x24u);
  const auto saved = hv::state::save(rig.fabric->pic().state());
  Rig other;
  hv::PicState state;
  EXPECT_EQ(hv::state::restore(saved, state), std::string{});
  other.fabric->pic().set_state(state);
  EXPECT_EQ(other.in(0xa1), 0xffu);
  other.out(0x20, 0x20);
  EXPECT(other.intr());
  EXPECT_EQ(other.acknowledge(), 0x25u);
}

TEST_MAIN()

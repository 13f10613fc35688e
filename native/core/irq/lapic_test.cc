#include "base/state.h"
#include "base/test.h"
#include "irq/test_rig.h"

using namespace hv;
using hv::test::Rig;

namespace {

constexpr std::uint32_t kBase = 0x1b, kDeadline = 0x6e0;
constexpr std::uint32_t kMasked = 1u << 16, kPeriodic = 1u << 17, kTscDeadline = 2u << 17;

void enable_x2apic(Rig& rig, unsigned vcpu) {
  Lapic& apic = rig.fabric->lapic(vcpu);
  EXPECT(apic.write_msr(kBase, *apic.read_msr(kBase) | 1u << 10));
  EXPECT(apic.write_msr(0x80f, 0x1ff));
}

}  // namespace

TEST(power_on_state) {
  Rig rig{2};
  EXPECT_EQ(*rig.fabric->lapic(0).read_msr(kBase), 0xfee00900u);
  EXPECT_EQ(*rig.fabric->lapic(1).read_msr(kBase), 0xfee00800u);
  EXPECT_EQ(rig.apic(1, 0x20), 0x01000000u);
  EXPECT_EQ(rig.apic(1, 0x30), 0x01060014u);
  EXPECT_EQ(rig.apic(1, 0xe0), 0xffffffffu);
  EXPECT_EQ(rig.apic(1, 0xf0), 0x000000ffu);
  for (const unsigned at : {0x2f0u, 0x320u, 0x330u, 0x340u, 0x350u, 0x360u, 0x370u})
    EXPECT_EQ(rig.apic(1, at), 0x00010000u);
  // vCPU 0 is in virtual wire mode.
  EXPECT_EQ(rig.apic(0, 0xf0), 0x000001ffu);
  EXPECT_EQ(rig.apic(0, 0x350), 0x00000700u);
  EXPECT_EQ(rig.apic(0, 0x360), 0x00000400u);
}

TEST(self_ipi_is_acknowledged_served_and_ended) {
  Rig rig;
  rig.apic(0, 0x300, 0x00040041);
  EXPECT(rig.intr());
  EXPECT_EQ(rig.apic(0, 0x220), 1u << 1);  // IRR
  EXPECT_EQ(rig.acknowledge(), 0x41u);
  EXPECT(!rig.intr());
  EXPECT_EQ(rig.apic(0, 0x120), 1u << 1);  // ISR
  EXPECT_EQ(rig.apic(0, 0x220), 0u);
  EXPECT_EQ(rig.apic(0, 0xa0), 0x40u);  // PPR
  rig.apic(0, 0x300, 0x0004004f);       // the same class waits
  EXPECT(!rig.intr());
  rig.apic(0, 0x300, 0x00040051);  // a higher one does not
  EXPECT_EQ(rig.acknowledge(), 0x51u);
  rig.eoi();
  EXPECT(!rig.intr());
  rig.eoi();
  EXPECT_EQ(rig.acknowledge(), 0x4fu);
  rig.eoi();
  rig.eoi();
  EXPECT_EQ(rig.acknowledge(), 0x100u);
}

TEST(task_priority_and_cr8_hold_back) {
  Rig rig;
  rig.fabric->lapic(0).set_cr8(5);
  EXPECT_EQ(rig.apic(0, 0x80), 0x50u);
  rig.apic(0, 0x300, 0x00040058);
  EXPECT(!rig.intr());
  rig.apic(0, 0x80, 0x4f);
  EXPECT(rig.intr());
  EXPECT_EQ(rig.fabric->lapic(0).cr8(), 4u);
  rig.fabric->lapic(0).set_cr8(15);
  EXPECT_EQ(rig.acknowledge(), 0x100u);
}

TEST(shorthands_and_destinations) {
  Rig rig{4};
  for (unsigned i = 0; i < 4; ++i) rig.enable_apic(i);
  const auto hit = [&] {
    unsigned mask = 0;
    for (unsigned i = 0; i < 4; ++i)
      if (rig.acknowledge(i) == 0x60) mask |= 1u << i, rig.eoi(i);
    return mask;
  };
  rig.apic(1, 0x300, 0x00080060);
  EXPECT_EQ(hit(), 0xfu);
  rig.apic(1, 0x300, 0x000c0060);
  EXPECT_EQ(hit(), 0xdu);
  rig.apic(1, 0x310, 0x02000000), rig.apic(1, 0x300, 0x00000060);
  EXPECT_EQ(hit(), 0x4u);
  rig.apic(1, 0x310, 0xff000000), rig.apic(1, 0x300, 0x00000060);
  EXPECT_EQ(hit(), 0xfu);
  for (unsigned i = 0; i < 4; ++i) rig.apic(i, 0xd0, 1u << (24 + i));
  rig.apic(1, 0x310, 0x0a000000), rig.apic(1, 0x300, 0x00000860);
  EXPECT_EQ(hit(), 0xau);
  // Cluster model: cluster 1 holds vCPUs 2 and 3.
  for (unsigned i = 0; i < 4; ++i) {
    rig.apic(i, 0xe0, 0x0fffffff);
    rig.apic(i, 0xd0, (i / 2) << 28 | 1u << (24 + i % 2));
  }
  rig.apic(0, 0x310, 0x13000000), rig.apic(0, 0x300, 0x00000860);
  EXPECT_EQ(hit(), 0xcu);
  rig.apic(0, 0x310, 0xf1000000), rig.apic(0, 0x300, 0x00000860);
  EXPECT_EQ(hit(), 0x5u);
}

TEST(nmi_init_and_startup_become_signals) {
  Rig rig{2};
  rig.apic(0, 0x310, 0x01000000);
  rig.apic(0, 0x300, 0x00004400);
  EXPECT(rig.signals[1]->has(Signal::kNmi));
  rig.enable_apic(1);
  rig.apic(1, 0x80, 0x30);
  rig.apic(0, 0x300, 0x0000c500);  // INIT, level, assert
  EXPECT(rig.signals[1]->has(Signal::kInit));
  EXPECT_EQ(rig.apic(1, 0xf0), 0xffu);
  EXPECT_EQ(rig.apic(1, 0x80), 0u);
  EXPECT_EQ(rig.apic(1, 0x20), 0x01000000u);
  rig.signals[1]->clear(Signal::kInit);
  rig.apic(0, 0x300, 0x00008500);  // de-assert does nothing
  EXPECT(!rig.signals[1]->has(Signal::kInit));
  rig.apic(0, 0x300, 0x0000069a);
  EXPECT(rig.signals[1]->has(Signal::kSipi));
  EXPECT_EQ(rig.signals[1]->sipi_vector.load(), 0x9a);
  rig.apic(0, 0x300, 0x0000c500);  // INIT forgets a start-up IPI before it
  EXPECT(!rig.signals[1]->has(Signal::kSipi));
}

TEST(illegal_vectors_set_esr) {
  Rig rig;
  rig.apic(0, 0x370, 0x000000fe);
  rig.apic(0, 0x300, 0x00040005);
  rig.apic(0, 0x280, 0);
  EXPECT_EQ(rig.apic(0, 0x280), 1u << 5);
  EXPECT_EQ(rig.acknowledge(), 0xfeu);
  rig.eoi();
  EXPECT(rig.fabric->msi(0xfee00000, 0x0003));
  rig.apic(0, 0x280, 0);
  EXPECT_EQ(rig.apic(0, 0x280), 1u << 6);
  rig.apic(0, 0x280, 0);
  EXPECT_EQ(rig.apic(0, 0x280), 0u);
  rig.apic(0, 0x40, 1);  // no register there
  rig.apic(0, 0x280, 0);
  EXPECT_EQ(rig.apic(0, 0x280), 1u << 7);
  rig.apic(0, 0x370, 0x00000003);  // an error entry with an illegal vector ends
  rig.apic(0, 0x300, 0x00040005);
  rig.apic(0, 0x280, 0);
  EXPECT_EQ(rig.apic(0, 0x280), 1u << 5 | 1u << 6);
}

TEST(software_disable_masks_the_lvt_and_refuses_vectors) {
  Rig rig;
  rig.apic(0, 0xf0, 0xff);
  EXPECT_EQ(rig.apic(0, 0x350), 0x00010700u);
  rig.apic(0, 0x350, 0x700);
  EXPECT_EQ(rig.apic(0, 0x350), 0x00010700u);
  EXPECT(rig.fabric->msi(0xfee00000, 0x0041));
  EXPECT(!rig.intr());
  EXPECT(rig.fabric->msi(0xfee00000, 0x0400));
  EXPECT(rig.signals[0]->has(Signal::kNmi));
}

TEST(one_shot_counts_at_25_megahertz_over_the_divider) {
  Rig rig;
  rig.apic(0, 0x320, 0x000000e0);
  rig.apic(0, 0x3e0, 0x3);  // by 16: 640 ns
  rig.apic(0, 0x380, 1000);
  rig.time.advance(100 * 640);
  EXPECT_EQ(rig.apic(0, 0x390), 900u);
  rig.time.advance(900 * 640 - 1);
  EXPECT(!rig.intr());
  EXPECT_EQ(rig.apic(0, 0x390), 1u);
  rig.time.advance(1);
  EXPECT_EQ(rig.apic(0, 0x390), 0u);
  EXPECT_EQ(rig.acknowledge(), 0xe0u);
  rig.eoi();
  rig.time.advance(10'000'000);
  EXPECT(!rig.intr());
  EXPECT_EQ(rig.apic(0, 0x380), 1000u);
  const std::uint32_t divisors[][2] = {{0, 2},  {1, 4},  {2, 8},    {3, 16},
                                      {8, 32}, {9, 64}, {10, 128}, {11, 1}};
  for (const auto& [code, divisor] : divisors) {
    rig.apic(0, 0x3e0, code);
    rig.apic(0, 0x380, 100'000);
    rig.time.advance(divisor * 40 * 10);
    EXPECT_EQ(rig.apic(0, 0x390), 100'000u - 10);
  }
}

TEST(a_new_divider_keeps_the_count) {
  Rig rig;
  rig.apic(0, 0x320, kMasked | 0xe0);
  rig.apic(0, 0x3e0, 0xb);
  rig.apic(0, 0x380, 1000);
  rig.time.advance(400 * 40);
  rig.apic(0, 0x3e0, 0x0);
  EXPECT_EQ(rig.apic(0, 0x390), 600u);
  rig.time.advance(100 * 80);
  EXPECT_EQ(rig.apic(0, 0x390), 500u);
}

TEST(periodic_timer_ticks_and_catches_up_with_a_bound) {
  Rig rig;
  rig.apic(0, 0x320, kPeriodic | 0xe0);
  rig.apic(0, 0x3e0, 0xb);
  rig.apic(0, 0x380, 25'000);  // 1 ms
  const auto count = [&](GuestNs ns) {
    unsigned ticks = 0;
    for (GuestNs at = 0; at < ns; at += 100'000) {
      rig.time.advance(100'000);
      if (rig.acknowledge() == 0xe0) ++ticks, rig.eoi();
    }
    return ticks;
  };
  EXPECT_EQ(count(20'000'000), 20u);
  rig.time.jump(5'000'000);  // the host was away
  EXPECT_EQ(count(10'000'000), 15u);
  rig.time.jump(1'000'000'000);
  // 16 late ones and those of the time itself
  EXPECT_EQ(count(20'000'000), 16u + 20u);
  rig.apic(0, 0x380, 0);
  EXPECT_EQ(count(5'000'000), 0u);
  EXPECT(!rig.time.timers.next_due().has_value());
}

TEST(short_periods_do_not_storm_the_host) {
  Rig rig;
  rig.apic(0, 0x320, kPeriodic | 0xe0);
  rig.apic(0, 0x3e0, 0xb);
  rig.apic(0, 0x380, 1);  // 40 ns
  const GuestNs now = rig.time.clock.now();
  EXPECT(*rig.time.timers.next_due() >= now + 50'000);
}

TEST(tsc_deadline_fires_at_its_tsc_and_disarms) {
  Rig rig;
  Lapic& apic = rig.fabric->lapic(0);
  EXPECT(apic.write_msr(kDeadline, 1000));
  EXPECT_EQ(*apic.read_msr(kDeadline), 0u);  // not in its mode
  rig.apic(0, 0x320, kTscDeadline | 0xec);
  rig.time.advance(1000);
  const std::uint64_t deadline = rig.time.clock.tsc() + 2'500'000;
  EXPECT(apic.write_msr(kDeadline, deadline));
  EXPECT_EQ(*apic.read_msr(kDeadline), deadline);
  rig.apic(0, 0x380, 77);  // ignored
  rig.time.advance(999'999);
  EXPECT(!rig.intr());
  rig.time.advance(1);
  EXPECT_EQ(rig.acknowledge(), 0xecu);
  EXPECT_EQ(*apic.read_msr(kDeadline), 0u);
  rig.eoi();
  EXPECT(apic.write_msr(kDeadline, 1));  // long past
  EXPECT_EQ(rig.acknowledge(), 0xecu);
  rig.eoi();
  EXPECT(apic.write_msr(kDeadline, ~0ull));
  EXPECT(apic.write_msr(kDeadline, 0));
  EXPECT(!rig.time.timers.next_due().has_value());
  EXPECT(apic.write_msr(kDeadline, rig.time.clock.tsc() + 100));
  rig.apic(0, 0x320, 0xec);  // another mode disarms
  rig.time.advance(1000);
  EXPECT(!rig.intr());
}

TEST(masked_timer_costs_no_deadline_and_loses_its_ticks) {
  Rig rig;
  rig.apic(0, 0x320, kMasked | kPeriodic | 0xe0);
  rig.apic(0, 0x380, 1000);
  EXPECT(!rig.time.timers.next_due().has_value());
  rig.time.advance(10'000'000);
  rig.apic(0, 0x320, kPeriodic | 0xe0);
  EXPECT(!rig.intr());
  rig.time.advance(80'000);
  EXPECT(rig.intr());
}

TEST(x2apic_registers_are_msrs_that_check_reserved_bits) {
  Rig rig{2};
  Lapic& apic = rig.fabric->lapic(1);
  EXPECT(!apic.read_msr(0x802).has_value());
  EXPECT(!apic.write_msr(0x808, 0));
  enable_x2apic(rig, 1);
  EXPECT(!apic.decodes(Gpa{0xfee00000}));
  EXPECT_EQ(*apic.read_msr(0x802), 1u);
  EXPECT_EQ(*apic.read_msr(0x803), 0x01060014u);
  EXPECT_EQ(*apic.read_msr(0x80d), 0x00000002u);
  EXPECT(!apic.read_msr(0x80e).has_value());  // DFR
  EXPECT(!apic.read_msr(0x809).has_value());  // APR
  EXPECT(!apic.read_msr(0x831).has_value());  // ICR high
  EXPECT(!apic.read_msr(0x80b).has_value());  // EOI is write-only
  EXPECT(!apic.read_msr(0x840).has_value());
  EXPECT(!apic.write_msr(0x8ff, 0));
  EXPECT(!apic.write_msr(0x802, 0));
  EXPECT(!apic.write_msr(0x80d, 0));
  EXPECT(!apic.write_msr(0x80b, 1));
  EXPECT(!apic.write_msr(0x828, 1));
  EXPECT(!apic.write_msr(0x808, 0x100));
  EXPECT(!apic.write_msr(0x808, 1ull << 32));
  EXPECT(apic.write_msr(0x808, 0x20));
  EXPECT(!apic.write_msr(0x832, 1u << 19));
  EXPECT(apic.write_msr(0x83f, 0x77));
  EXPECT_EQ(rig.acknowledge(1), 0x77u);
  EXPECT(apic.write_msr(0x80b, 0));
}

TEST(x2apic_ipis_are_one_write_with_wide_destinations) {
  Rig rig{20};
  for (unsigned i = 0; i < 20; ++i) enable_x2apic(rig, i);
  Lapic& apic = rig.fabric->lapic(0);
  EXPECT(apic.write_msr(0x830, 17ull << 32 | 0x60));
  EXPECT_EQ(rig.acknowledge(17), 0x60u);
  EXPECT_EQ(*apic.read_msr(0x830), 17ull << 32 | 0x60);
  EXPECT(apic.write_msr(0x830, 0x00010009ull << 32 | 0x861));  // cluster 1, bits 0 and 3
  for (unsigned i = 0; i < 20; ++i) EXPECT_EQ(rig.acknowledge(i) == 0x61, i == 16 || i == 19);
  EXPECT(apic.write_msr(0x830, 0xffffffffull << 32 | 0x72));
  for (unsigned i = 0; i < 20; ++i) EXPECT_EQ(rig.acknowledge(i), 0x72u);
}

TEST(base_msr_allows_only_the_legal_transitions) {
  Rig rig;
  Lapic& apic = rig.fabric->lapic(0);
  EXPECT(apic.decodes(Gpa{0xfee00ff0}));
  EXPECT(!apic.decodes(Gpa{0xfee01000}));
  EXPECT(!apic.write_msr(kBase, 0xfee00400));         // x2APIC without enable
  EXPECT(!apic.write_msr(kBase, 0xfee00801));         // reserved bit
  EXPECT(apic.write_msr(kBase, 0xfee00c00));          // to x2APIC
  EXPECT_EQ(*apic.read_msr(kBase), 0xfee00d00u);      // BSP stays
  EXPECT(!apic.write_msr(kBase, 0xfee00800));         // back to xAPIC
  EXPECT(apic.write_msr(kBase, 0xfee00000));          // off
  EXPECT(!apic.write_msr(kBase, 0xfee00c00));         // off to x2APIC
  EXPECT(!apic.decodes(Gpa{0xfee00000}));
  EXPECT(apic.write_msr(kBase, 0xfed80800));          // on, elsewhere
  EXPECT(apic.decodes(Gpa{0xfed80020}) && !apic.decodes(Gpa{0xfee00020}));
  EXPECT_EQ(rig.apic(0, 0xf0), 0xffu);
}

TEST(disabled_apic_passes_the_8259_and_nmi_through) {
  Rig rig;
  EXPECT(rig.fabric->lapic(0).write_msr(kBase, 0xfee00000));
  rig.init_pic(0x20, 0x28);
  rig.fabric->set_isa(3, 300, true);
  EXPECT(rig.intr());
  EXPECT_EQ(rig.acknowledge(), 0x23u);
  rig.fabric->pulse_nmi();
  EXPECT(rig.signals[0]->has(Signal::kNmi));
  EXPECT(rig.fabric->msi(0xfee00000, 0x41));
  EXPECT(!rig.intr());
}

TEST(lint0_as_a_level_interrupt_repeats_until_it_falls) {
  Rig rig;
  rig.init_pic(0x20, 0x28);
  rig.apic(0, 0x350, 0x8031);
  rig.fabric->set_isa(4, 300, true);
  EXPECT_EQ(rig.acknowledge(), 0x31u);
  EXPECT_EQ(rig.apic(0, 0x350), 0xc031u);
  rig.eoi();
  EXPECT_EQ(rig.acknowledge(), 0x31u);
  rig.fabric->set_isa(4, 300, false);
  rig.eoi();
  EXPECT(!rig.intr());
}

TEST(messages_decode) {
  Rig rig{2};
  rig.enable_apic(1);
  EXPECT(!rig.fabric->msi(0xfed00000, 0x41));
  EXPECT(!rig.fabric->msi(0x1fee00000, 0x41));
  EXPECT(!rig.fabric->msi(0xfee00000, 0x0641));  // start-up
  EXPECT(!rig.fabric->msi(0xfee00000, 0x8041));  // level, deasserted
  EXPECT(rig.fabric->msi(0xfee01000, 0x41));
  EXPECT(rig.intr(1) && !rig.intr(0));
  rig.apic(1, 0xd0, 0x02000000);
  EXPECT_EQ(rig.acknowledge(1), 0x41u);
  EXPECT(rig.fabric->msi(0xfee0200c, 0x0152));  // logical, lowest priority, hint
  EXPECT_EQ(rig.acknowledge(1), 0x52u);
}

TEST(odd_accesses_do_no_harm) {
  Rig rig;
  Lapic& apic = rig.fabric->lapic(0);
  for (std::uint64_t at = 0; at < 0x1000; ++at)
    for (const unsigned size : {1u, 2u, 4u, 8u}) {
      apic.read(at, size);
      apic.write(at, size, 0xffffffffffffffff);
      apic.write(at, size, at * 0x9e3779b97f4a7c15);
    }
  for (std::uint32_t msr = 0x7f0; msr < 0x910; ++msr) apic.read_msr(msr), apic.write_msr(msr, ~0u);
  rig.time.advance(1'000'000);
  EXPECT_EQ(static_cast<std::uint32_t>(apic.read(0x33, 1)), 0x01u);
}

TEST(state_goes_through_its_serialized_form) {
  Rig rig;
  rig.apic(0, 0x320, 0xe0);
  rig.apic(0, 0x3e0, 0xb);
  rig.apic(0, 0x380, 25'000);
  rig.apic(0, 0x300, 0x00040041);
  EXPECT_EQ(rig.acknowledge(), 0x41u);
  rig.apic(0, 0x300, 0x00040042);
  rig.time.advance(400'000);
  const auto saved = hv::state::save(rig.fabric->lapic(0).state());
  const auto clock = rig.time.clock.state();
  Rig other;
  other.time.clock.pause();
  EXPECT(other.time.clock.set_state(clock));
  LapicState state;
  EXPECT_EQ(hv::state::restore(saved, state), std::string{});
  other.fabric->lapic(0).set_state(state);
  other.time.clock.resume();
  EXPECT_EQ(other.apic(0, 0x390), 15'000u);
  EXPECT(!other.intr());
  other.eoi();
  EXPECT_EQ(other.acknowledge(), 0x42u);
  other.time.advance(600'000);
  EXPECT(other.intr());
  EXPECT_EQ(other.acknowledge(), 0xe0u);
}

TEST_MAIN()

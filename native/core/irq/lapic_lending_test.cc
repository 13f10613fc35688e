// Local APICs lent to a kernel that is only memory: what moves, what stays, and who is told.
#include <map>

#include "base/test.h"
#include "irq/test_rig.h"

using namespace hv;
using hv::test::Rig;

namespace {

class MemoryApics final : public KernelApics {
 public:
  void deliver(const InterruptMessage& message) override { delivered.push_back(message); }
  void watch(std::span<const PinMessage> messages) override {
    watched.assign(messages.begin(), messages.end());
  }
  void settle(VcpuIndex) override {}
  void give(VcpuIndex vcpu, const LentLapic& apic) override { has[vcpu] = apic; }
  LentLapic take(VcpuIndex vcpu) override { return has.at(vcpu); }

  std::map<VcpuIndex, LentLapic> has;
  std::vector<InterruptMessage> delivered;
  std::vector<PinMessage> watched;
};

struct LendingRig : Rig {
  MemoryApics kernel;
  explicit LendingRig(unsigned vcpus = 1) : Rig{vcpus} { fabric->use(&kernel); }
  ~LendingRig() { fabric->use(nullptr); }
};

constexpr std::uint32_t kPeriodic = 1u << 17;

}  // namespace

TEST(what_is_sent_goes_where_the_apics_are) {
  LendingRig rig{2};
  rig.enable_apic(0);
  EXPECT(rig.fabric->msi(0xfee00000, 0x41));
  EXPECT(rig.kernel.delivered.empty() && rig.intr());
  rig.fabric->lend();
  EXPECT(!rig.intr());  // the kernel delivers it
  EXPECT_EQ(rig.kernel.has.at(0).state.irr[2], 2u);
  EXPECT(!rig.fabric->lapic(0).decodes(Gpa{0xfee00000}));
  EXPECT(rig.fabric->msi(0xfee01000, 0x42));
  REQUIRE(rig.kernel.delivered.size() == 1);
  EXPECT_EQ(rig.kernel.delivered[0].vector, 0x42u);
  EXPECT_EQ(rig.kernel.delivered[0].destination, 1u);
  rig.kernel.has.at(0).state.irr[2] |= 4;  // meanwhile
  rig.fabric->take_back();
  EXPECT(rig.fabric->lapic(0).decodes(Gpa{0xfee00000}));
  EXPECT_EQ(rig.acknowledge(), 0x42u);
  rig.eoi();
  EXPECT_EQ(rig.acknowledge(), 0x41u);
}

TEST(a_lent_timer_is_the_kernels_and_goes_on_from_its_count) {
  LendingRig rig;
  rig.enable_apic(0);
  rig.apic(0, 0x3e0, 0xb);
  rig.apic(0, 0x320, kPeriodic | 0x50);
  rig.apic(0, 0x380, 25'000);  // 1 ms
  rig.time.advance(400'000);
  rig.fabric->lend();
  EXPECT_EQ(rig.kernel.has.at(0).current_count, 15'000u);
  rig.time.advance(5'000'000);
  EXPECT(!rig.intr());
  rig.kernel.has.at(0).current_count = 5'000;
  rig.fabric->take_back();
  EXPECT_EQ(rig.apic(0, 0x390), 5'000u);
  rig.time.advance(199'000);
  EXPECT(!rig.intr());
  rig.time.advance(2'000);
  EXPECT_EQ(rig.acknowledge(), 0x50u);
}

TEST(the_pins_stay_here) {
  LendingRig rig;
  rig.init_pic(0x20, 0x28);
  rig.fabric->lend();
  rig.fabric->set_isa(3, 300, true);
  EXPECT(rig.intr());
  EXPECT_EQ(rig.acknowledge(), 0x23u);
  EXPECT(!rig.intr());
  rig.fabric->pulse_nmi();
  EXPECT(rig.signals[0]->has(Signal::kNmi));
  rig.fabric->set_isa(3, 300, false);
  rig.out(0x20, 0x20);
  rig.fabric->set_isa(4, 300, true);
  rig.fabric->take_back();
  EXPECT_EQ(rig.acknowledge(), 0x24u);
}

TEST(the_kernel_knows_of_level_triggered_pins_and_tells_their_ends) {
  LendingRig rig;
  rig.enable_apic(0);
  rig.route(20, 0x8060);
  REQUIRE(rig.kernel.watched.size() == 1);
  EXPECT_EQ(rig.kernel.watched[0].pin, 20u);
  EXPECT_EQ(rig.kernel.watched[0].message.vector, 0x60u);
  EXPECT(rig.kernel.watched[0].message.level);
  rig.route(21, 0x61);  // an edge
  EXPECT_EQ(rig.kernel.watched.size(), 1u);
  rig.fabric->lend();
  unsigned waits = 0;
  rig.fabric->on_level_eoi([&waits](VcpuIndex) { ++waits; });
  rig.fabric->set_ioapic_pin(20, 3, true);
  EXPECT_EQ(rig.kernel.delivered.size(), 1u);
  rig.fabric->end_of_interrupt(0, 0x60);
  EXPECT_EQ(waits, 1u);
  EXPECT_EQ(rig.kernel.delivered.size(), 2u);
  rig.fabric->set_ioapic_pin(20, 3, false);
  rig.fabric->end_of_interrupt(0, 0x60);
  EXPECT_EQ(rig.kernel.delivered.size(), 2u);
  rig.fabric->ioapic().reset();
  EXPECT(rig.kernel.watched.empty());
}

TEST_MAIN()

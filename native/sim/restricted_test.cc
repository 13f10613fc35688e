// The accelerator on a Mac whose processor lacks what is optional: no unrestricted guest, no
// RDTSCP, no INVPCID, no VPID, no PAT in the VMCS, and CR3 accesses that must exit. Guests run all
// the same, in modes that VMX has not by the interpreter.
#include "accel/conformance_rig.h"
#include "accelerator.h"
#include "offer.h"

using namespace hv;
using namespace hv::conformance;

namespace {

constexpr std::uint64_t both(std::uint32_t bits) { return std::uint64_t{bits} << 32 | bits; }

const Accelerator& restricted() {
  static const bool kTaken = [] {
    using namespace hvf;
    sim::Capabilities& offer = sim::offer();
    constexpr std::uint32_t kLacks =
        kUnrestrictedGuest | kRdtscpEnabled | kInvpcidEnabled | kVpid;
    offer.secondary &= ~(std::uint64_t{kLacks} << 32);
    offer.entry &= ~(std::uint64_t{kLoadPat} << 32);
    offer.primary |= both(kCr3LoadExiting | kCr3StoreExiting | kInvlpgExiting | kMovDrExiting);
    return true;
  }();
  (void)kTaken;
  return sim::simulated_hvf();
}

}  // namespace

TEST(it_is_usable) { EXPECT(!restricted().unavailable().has_value()); }

TEST(real_mode_is_interpreted) {
  Rig rig{restricted()};
  CpuState s = reset_state(true);
  s.segments[kCs].base = 0x10000;
  s.segments[kCs].selector = 0x1000;
  s.segments[kDs].base = Rig::kData;
  s.segments[kDs].selector = 0x2000;
  s.rip = 0;
  s.gpr[4] = 0x7000;
  rig.load(k_real_mode);
  rig.vcpu->set_state(s);
  EXPECT_EQ(rig.vcpu->run(), Exit::kHalted);
  EXPECT_EQ(rig.get<std::uint16_t>(Rig::kData + 0x10), 0x1234u);
  REQUIRE(rig.platform.outputs.size() == 1);
  EXPECT(rig.platform.outputs[0] == (Access{0x80, 1, 0x12}));
}

TEST(long_mode_runs_as_everywhere) {
  Rig rig{restricted()};
  EXPECT_EQ(rig.run(k_ports), Exit::kHalted);
  EXPECT_EQ(rig.platform.outputs.size(), 6u);
  EXPECT_EQ(rig.run(k_mmio_moves), Exit::kHalted);
  EXPECT_EQ(rig.platform.memory_writes.size(), 9u);
}

TEST(features_that_need_a_control_are_hidden) {
  Rig rig{restricted()};
  rig.put(Rig::kData, std::uint32_t{3});
  const std::uint32_t asked[] = {1, 0, 7, 0, 0x8000'0001, 0};
  for (std::uint32_t n = 0; n < 6; ++n) rig.put(Rig::kData + 4 + 4 * n, asked[n]);
  EXPECT_EQ(rig.run(k_cpuid_list), Exit::kHalted);
  const auto word = [&](unsigned leaf, unsigned reg) {
    return rig.get<std::uint32_t>(Rig::kData + 0x400 + 16 * leaf + 4 * reg);
  };
  EXPECT_EQ(word(0, 2) >> 17 & 1, 0u);  // PCID
  EXPECT_EQ(word(1, 1) >> 10 & 1, 0u);  // INVPCID
  EXPECT_EQ(word(2, 3) >> 27 & 1, 0u);  // RDTSCP
  EXPECT_EQ(word(2, 3) >> 29 & 1, 1u);  // long mode
}

TEST_MAIN()

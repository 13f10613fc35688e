#include "accel/cpuid_policy.h"

#include <cmath>

#include "base/test.h"

using namespace hv;

// SDM Vol. 2, CPUID leaf 15H: TSC frequency = ECX * EBX / EAX. Linux computes it in kilohertz and 32
// bits.
TEST(the_ratio_of_the_counter_fits_into_a_kernels_arithmetic) {
  for (const std::uint64_t hz : {2'500'000'000ull, 2'592'000'000ull, 2'594'918'080ull,
                                 2'596'114'999ull, 999'999'937ull, 5'700'000'011ull}) {
    const CpuidRegisters r = cpuid_policy({0, 1, hz}, 0x15, 0);
    EXPECT_EQ(r.ecx, 25'000'000u);
    REQUIRE(r.eax != 0 && r.ebx != 0);
    EXPECT(std::uint64_t{25'000} * r.ebx < 1ull << 32);
    const double told = 25e6 * r.ebx / r.eax;
    EXPECT(std::fabs(told - static_cast<double>(hz)) < static_cast<double>(hz) * 3e-6);
  }
  const CpuidRegisters exact = cpuid_policy({0, 1, 2'500'000'000}, 0x15, 0);
  EXPECT_EQ(exact.eax, 1u);
  EXPECT_EQ(exact.ebx, 100u);
}

TEST(hardware_takes_its_features_away_and_no_others) {
  const CpuidRegisters policy = cpuid_policy({0, 2, 2'500'000'000}, 1, 0);
  const CpuidRegisters none = limit_to_hardware(1, policy, {});
  EXPECT_EQ(none.eax, policy.eax);
  EXPECT_EQ(none.ebx, policy.ebx);
  // x2APIC, TSC deadline and the hypervisor bit are the machine's own.
  EXPECT_EQ(none.ecx, 1u << 21 | 1u << 24 | 1u << 31);
  EXPECT_EQ(limit_to_hardware(1, policy, {~0u, ~0u, ~0u, ~0u}).ecx, policy.ecx);
  EXPECT_EQ(limit_to_hardware(7, cpuid_policy({}, 7, 0), {}).ebx, 2u);  // IA32_TSC_ADJUST
}

TEST(the_hypervisors_leaves_end_with_the_clocks_in_kilohertz) {
  const CpuidSubject cpu{0, 1, 2'592'000'000};
  EXPECT_EQ(cpuid_policy(cpu, 0x4000'0000, 0).eax, 0x4000'0010u);
  const CpuidRegisters wanted{2'592'000, 25'000, 0, 0};
  EXPECT(cpuid_policy(cpu, 0x4000'0010, 0) == wanted);
  for (std::uint32_t leaf = 0x4000'0001; leaf < 0x4000'0010; ++leaf)
    EXPECT(cpuid_policy(cpu, leaf, 0) == CpuidRegisters{});
}

TEST_MAIN()

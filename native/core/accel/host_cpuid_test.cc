#include "accel/host_cpuid.h"

#include <map>
#include <tuple>

#include "base/test.h"

using namespace hv;

namespace {

constexpr std::uint32_t kAll = ~0u;

// A host that offers every bit of every leaf, as `vendor` ("GenuineIntel", "AuthenticAMD").
std::vector<CpuidLeaf> everything(CpuidRegisters vendor) {
  std::vector<CpuidLeaf> out = {{0, 0, false, vendor}};
  for (std::uint32_t leaf = 1; leaf <= 0x20; ++leaf)
    for (std::uint32_t sub = 0; sub < 3; ++sub)
      out.push_back({leaf, sub, true, {kAll, kAll, kAll, kAll}});
  for (std::uint32_t leaf = 0x8000'0000; leaf <= 0x8000'0026; ++leaf)
    out.push_back({leaf, 0, false, {kAll, kAll, kAll, kAll}});
  return out;
}
constexpr CpuidRegisters kIntel = {0x20, 0x756e'6547, 0x6c65'746e, 0x4965'6e69},
                         kAmd = {0x20, 0x6874'7541, 0x444d'4163, 0x6974'6e65};

CpuidRegisters at(const std::vector<CpuidLeaf>& table, std::uint32_t leaf, std::uint32_t sub = 0) {
  for (const CpuidLeaf& one : table)
    if (one.leaf == leaf && (one.sub == sub || !one.by_sub)) return one.registers;
  return {};
}

}  // namespace

TEST(each_bit_has_one_row_at_most_and_each_withheld_one_a_reason) {
  std::map<std::tuple<std::uint32_t, std::uint32_t, std::size_t>, std::uint32_t> seen;
  CpuidRegisters origin;
  for (const CpuidRow& row : host_cpuid_rows()) {
    const auto word = static_cast<std::size_t>(&(origin.*row.word) - &origin.eax);
    std::uint32_t& bits = seen[{row.leaf, row.sub, word}];
    if (!EXPECT_EQ(bits & row.bits, 0u)) std::fprintf(stderr, "… leaf 0x%x\n", row.leaf);
    bits |= row.bits;
    EXPECT_EQ(row.from == CpuidFrom::kNobody, !row.why.empty());
  }
}

// SDM Vol. 2, CPUID: what saved state does not hold, or an MSR that the machine does not have.
TEST(a_host_that_offers_all_passes_on_what_can_be_saved_and_answered) {
  const auto table = host_cpuid({0, 1, 2'500'000'000}, everything(kIntel));
  const CpuidRegisters one = at(table, 1), seven = at(table, 7);
  EXPECT_EQ(one.eax, kAll);
  EXPECT_EQ(one.ecx & (1u << 3 | 1u << 5 | 1u << 26 | 1u << 27 | 1u << 28), 0u);
  EXPECT_EQ(one.ecx & (1u << 25 | 1u << 1 | 1u << 30), 1u << 25 | 1u << 1 | 1u << 30);  // AES …
  EXPECT_EQ(one.ecx >> 31, 1u);
  EXPECT_EQ(seven.ebx & (1u << 5 | 1u << 16 | 1u << 14 | 1u << 25), 0u);
  EXPECT_EQ(seven.ebx & (1u << 3 | 1u << 8 | 1u << 29), 1u << 3 | 1u << 8 | 1u << 29);
  EXPECT_EQ(seven.ecx & (1u << 3 | 1u << 4 | 1u << 16), 0u);  // PKU, OSPKE, LA57
  EXPECT_EQ(seven.edx & (1u << 26 | 1u << 28 | 1u << 30), 1u << 26);
  // Bits that nobody has looked at: reserved ones.
  EXPECT_EQ(one.ecx & 1u << 16, 0u);
  EXPECT_EQ(at(table, 7, 1).ebx, 0u);
  EXPECT_EQ(at(table, 7, 2).edx, 1u << 5);
  for (const std::uint32_t leaf : {0x5u, 0xau, 0xdu, 0x12u, 0x14u, 0x1fu, 0x8000'000au, 0x8000'001eu})
    EXPECT(at(table, leaf) == CpuidRegisters{});
  EXPECT_EQ(at(table, 0x8000'0001).ecx & 1u << 2, 0u);  // SVM
  EXPECT_EQ(at(table, 0x8000'0000).eax, 0x8000'0021u);
  EXPECT_EQ(at(table, 0x8000'0003).ebx, kAll);  // the brand
  EXPECT_EQ(at(table, 0x8000'0008).eax & 0xff00, 48u << 8);
}

TEST(a_host_that_offers_nothing_leaves_what_the_machine_makes) {
  const auto table = host_cpuid({0, 1, 2'500'000'000}, {});
  EXPECT_EQ(at(table, 1).ecx, 1u << 21 | 1u << 24 | 1u << 31);  // x2APIC, TSC deadline, hypervisor
  EXPECT_EQ(at(table, 7).ebx, 1u << 1);
  EXPECT_EQ(at(table, 0x15).ecx, 25'000'000u);
  EXPECT_EQ(at(table, 0x4000'0000).ebx, 0x76796862u);  // "bhyv"
}

TEST(which_cpus_there_are_is_the_machines_to_say) {
  const CpuidSubject third{2, 4, 2'500'000'000};
  const auto intel = host_cpuid(third, everything(kIntel)), amd = host_cpuid(third, everything(kAmd));
  EXPECT_EQ(at(intel, 1).ebx >> 16, 4u | 2u << 8);
  EXPECT_EQ(at(intel, 0xb, 1).edx, 2u);
  EXPECT_EQ(at(intel, 0xb, 1).ebx, 4u);
  EXPECT_EQ(at(intel, 4, 0).eax >> 26, 3u);
  EXPECT_EQ(at(intel, 4, 0).eax & 0x3fff, 0x3fffu);
  EXPECT_EQ(at(intel, 0x8000'0008).ecx, 0u);
  EXPECT_EQ(at(intel, 0x8000'0001).ecx & 2, 0u);
  // APM Vol. 3, E.4.2 and E.4.7: NC is one less, ApicIdSize the bits of a number; HTT and CmpLegacy.
  EXPECT_EQ(at(amd, 0x8000'0008).ecx, 3u | 2u << 12);
  EXPECT_EQ(at(amd, 0x8000'0001).ecx & 2, 2u);
  EXPECT_EQ(at(amd, 0x8000'0001).ecx & 1u << 22, 0u);  // TOPOEXT
  EXPECT_EQ(at(amd, 1).edx & 1u << 28, 1u << 28);
  EXPECT_EQ(at(amd, 0x8000'0001).edx & 0x0183'f3ff, at(amd, 1).edx & 0x0183'f3ff);
}

TEST(a_cache_of_the_third_level_is_shared_by_all) {
  std::vector<CpuidLeaf> host = {{0, 0, false, kIntel},
                                 {4, 0, true, {0xfc00'4121, 1, 2, 3}},
                                 {4, 1, true, {0xfc00'4163, 1, 2, 3}},
                                 {4, 2, true, {0, 0, 0, 0}}};
  const auto table = host_cpuid({0, 4, 2'500'000'000}, host);
  EXPECT_EQ(at(table, 4, 0).eax, 3u << 26 | 0x121);
  EXPECT_EQ(at(table, 4, 1).eax, 3u << 26 | 3u << 14 | 0x163);
  EXPECT(at(table, 4, 2) == CpuidRegisters{});
}

TEST(two_tables_differ_by_leaf_and_register) {
  const auto here = host_cpuid({0, 1}, everything(kIntel));
  auto saved = here;
  EXPECT_EQ(cpuid_difference(saved, here), "");
  for (CpuidLeaf& leaf : saved)
    if (leaf.leaf == 7 && leaf.sub == 1) leaf.registers.eax ^= 1u << 10;
  EXPECT_EQ(cpuid_difference(saved, here), "leaf 0x7.0x1 eax: 0x1880 was saved, this host has 0x1c80");
  saved = here;
  saved.pop_back();
  EXPECT(cpuid_difference(saved, here).find(" was not saved") != std::string::npos);
  EXPECT(cpuid_difference(here, saved).find(" is none of this host's") != std::string::npos);
}

TEST_MAIN()

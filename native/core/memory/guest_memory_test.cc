#include "memory/guest_memory.h"

#include "base/test.h"

using hv::Gpa;
using hv::GuestMemory;

namespace {
constexpr std::uint64_t kGiB = 1ull << 30;

std::unique_ptr<GuestMemory> make(std::uint64_t size) {
  std::string error;
  return GuestMemory::create(size, error);
}
}  // namespace

TEST(refuses_sizes_that_are_no_memory) {
  for (const std::uint64_t size : {std::uint64_t{0}, std::uint64_t{4095}, std::uint64_t{1} << 60}) {
    std::string error;
    EXPECT(GuestMemory::create(size, error) == nullptr);
    EXPECT(!error.empty());
  }
}

TEST(small_memory_lies_at_zero) {
  const auto memory = make(16 << 20);
  REQUIRE(memory != nullptr);
  EXPECT_EQ(memory->low_size(), 16u << 20);
  EXPECT_EQ(memory->high_size(), 0u);
  EXPECT(memory->host(Gpa{0}) == memory->bytes().data());
  EXPECT(memory->host(Gpa{(16 << 20) - 1}) != nullptr);
  EXPECT(memory->host(Gpa{16 << 20}) == nullptr);
  EXPECT(memory->host(Gpa{~0ull}) == nullptr);
  EXPECT(memory->host(Gpa{0}, 16 << 20) != nullptr);
  EXPECT(memory->host(Gpa{1}, 16 << 20) == nullptr);
  EXPECT(memory->host(Gpa{1}, ~0ull) == nullptr);
}

TEST(memory_past_3_gib_continues_at_4_gib) {
  const auto memory = make(6 * kGiB);
  REQUIRE(memory != nullptr);
  EXPECT_EQ(memory->low_size(), 3 * kGiB);
  EXPECT_EQ(memory->high_size(), 3 * kGiB);
  EXPECT(memory->host(Gpa{3 * kGiB}) == nullptr);
  EXPECT(memory->host(Gpa{4 * kGiB - 1}) == nullptr);
  EXPECT(memory->host(Gpa{4 * kGiB}) == memory->bytes().data() + 3 * kGiB);
  EXPECT(memory->host(Gpa{7 * kGiB - 1}) != nullptr);
  EXPECT(memory->host(Gpa{7 * kGiB}) == nullptr);
  EXPECT(memory->host(Gpa{3 * kGiB - 1}, 2) == nullptr);
  EXPECT(memory->host(Gpa{3 * kGiB}, 1) == nullptr);
  EXPECT(memory->host(Gpa{4 * kGiB - 1}, 2) == nullptr);
  EXPECT(memory->host(Gpa{4 * kGiB}, 3 * kGiB) != nullptr);
  *memory->host(Gpa{7 * kGiB - 1}) = 0x5a;
  EXPECT_EQ(memory->bytes()[6 * kGiB - 1], 0x5a);
}

TEST(a_write_to_a_decoded_line_raises_the_version_of_its_page) {
  const auto memory = make(1 << 20);
  REQUIRE(memory != nullptr);
  hv::CodePage& page = memory->code_page(Gpa{0x2000});
  EXPECT(memory->epochs().protect(page, hv::line_mask(0x100, 16)));
  memory->written(Gpa{0x2000}, 0x100);
  EXPECT_EQ(page.version.load(), 0u);
  memory->written(Gpa{0x1ff0}, 0x200);
  EXPECT_EQ(page.version.load(), 1u);
  EXPECT_EQ(page.lines.load(), 0u);
}

TEST(written_ignores_what_is_no_memory) {
  const auto memory = make(1 << 20);
  REQUIRE(memory != nullptr);
  memory->written(Gpa{(1 << 20) - 4}, 4096);
  memory->written(Gpa{~0ull - 4096}, 4097);
}

TEST_MAIN()

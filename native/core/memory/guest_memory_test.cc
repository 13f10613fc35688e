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

TEST(the_dirty_log_has_what_was_written_since_it_was_taken) {
  const auto memory = make(5 * kGiB);
  REQUIRE(memory != nullptr);
  memory->written(Gpa{0x1000}, 1);
  EXPECT(memory->take_written().empty());  // it is off
  memory->log_writes(true);
  EXPECT(memory->take_written().empty());
  memory->written(Gpa{0x3ffff}, 2);
  memory->written(Gpa{3 * kGiB - 1}, 1);
  memory->written(Gpa{6 * kGiB - 1}, 4096);  // its last byte, and what is no memory
  memory->written(Gpa{4 * kGiB}, 0);
  const std::vector<std::uint64_t> pages = memory->take_written();
  const std::vector<Gpa> wanted = {Gpa{0x3f000}, Gpa{0x40000}, Gpa{3 * kGiB - 4096},
                                   Gpa{6 * kGiB - 4096}};
  REQUIRE(pages.size() == wanted.size());
  for (std::size_t i = 0; i < pages.size(); ++i) {
    EXPECT_EQ(raw(memory->page_at(pages[i])), raw(wanted[i]));
    EXPECT_EQ(memory->page_number(wanted[i]), pages[i]);
  }
  EXPECT(memory->take_written().empty());
  memory->written(Gpa{0x1000}, 1);
  memory->log_writes(true);  // begins anew
  EXPECT(memory->take_written().empty());
}

TEST(a_host_log_is_marked_in_whole_words) {
  hv::DirtyLog log{200};
  log.begin();
  const std::uint64_t words[] = {1ull << 63, 1, ~0ull};
  log.mark(0, std::span{words, 2});
  log.mark(192, std::span{words, 1});
  EXPECT(log.has(63) && log.has(64) && !log.has(65) && log.has(255));
  const std::vector<std::uint64_t> wanted = {63, 64, 255};
  EXPECT(log.take() == wanted);
  EXPECT(!log.has(63));
  log.end();
  EXPECT(log.has(65));  // nobody need be told
}

TEST_MAIN()

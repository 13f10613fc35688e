#include "softcpu/block_cache.h"

#include "base/test.h"

using namespace hv::softcpu;

namespace {

constexpr std::uint64_t kUser = BlockCache::kUserMode;

}  // namespace

// Two programs at the same addresses: INVLPG of a page of code forgets all jumps, and a switch
// between contexts that are kept (CR3 bit 63, or another PCID) flushes nothing afterwards.
TEST(address_spaces_never_share_a_tag) {
  BlockCache cache;
  cache.switch_context(0, true);
  const std::uint64_t first = cache.tag(kUser);
  cache.switch_context(1, true);
  const std::uint64_t second = cache.tag(kUser);
  EXPECT(first != second);
  cache.switch_context(0, false);
  EXPECT_EQ(cache.tag(kUser), first);

  cache.flush_jumps();
  const std::uint64_t again = cache.tag(kUser);
  EXPECT(again != first);
  cache.switch_context(1, false);
  EXPECT(cache.tag(kUser) != again);
  EXPECT(cache.tag(kUser) != second);
}

TEST(privileged_code_on_global_pages_has_one_tag_everywhere) {
  BlockCache cache;
  cache.switch_context(0, true);
  const std::uint64_t tag = cache.tag(0);
  cache.switch_context(1, true);
  EXPECT_EQ(cache.tag(0), tag);
  Block block{};
  cache.remember(0x1000, 0, false, &block);  // not global: forgotten at the next switch
  cache.switch_context(0, false);
  EXPECT(cache.tag(0) != tag);
}

TEST_MAIN()

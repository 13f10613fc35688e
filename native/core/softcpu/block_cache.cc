#include "softcpu/block_cache.h"

#include <cstring>
#include <new>

namespace hv::softcpu {

BlockCache::BlockCache()
    : buckets_(kBuckets, nullptr), arena_(std::make_unique_for_overwrite<std::uint8_t[]>(kArena)) {}

std::size_t BlockCache::bucket(std::uint64_t physical, CodeSize size) {
  const std::uint64_t key = physical * 4 + static_cast<std::uint64_t>(size);
  return (key * 0x9e37'79b9'7f4a'7c15) >> 49;  // Fibonacci hashing: the top 15 bits
}
static_assert(sizeof(Block) % alignof(Insn) == 0);

Block* BlockCache::find(std::uint64_t physical, CodeSize size) const {
  for (std::size_t at = bucket(physical, size);; at = (at + 1) & (kBuckets - 1)) {
    Block* const block = buckets_[at];
    if (block == nullptr || (block->physical == physical && block->size == size)) return block;
  }
}

Block* BlockCache::insert(const Block& block, std::span<const Insn> insns,
                          std::span<const std::uint8_t> bytes) {
  const std::size_t wanted = (sizeof(Block) + insns.size_bytes() + bytes.size() + 15) & ~15ull;
  if (used_ + wanted > kArena || used_buckets_ > kBuckets / 2) drop_all();
  std::uint8_t* const at = arena_.get() + used_;
  used_ += wanted;
  std::memcpy(at + sizeof(Block), insns.data(), insns.size_bytes());
  auto* const kept = new (at) Block{block};
  kept->insns = std::launder(reinterpret_cast<const Insn*>(at + sizeof(Block)));
  std::memcpy(kept->copy(), bytes.data(), bytes.size());
  std::size_t slot = bucket(block.physical, block.size);
  while (buckets_[slot] != nullptr && (buckets_[slot]->physical != block.physical ||
                                       buckets_[slot]->size != block.size))
    slot = (slot + 1) & (kBuckets - 1);
  if (buckets_[slot] == nullptr) ++used_buckets_;
  buckets_[slot] = kept;
  return kept;
}

Block* BlockCache::scratch(const Block& block, const Insn& insn) {
  scratch_ = block;
  scratch_insn_ = insn;
  scratch_.insns = &scratch_insn_;
  return &scratch_;
}

void BlockCache::drop_all() {
  flush_jumps();
  ++drops_;
  buckets_.assign(kBuckets, nullptr);
  used_buckets_ = used_ = 0;
}

}  // namespace hv::softcpu

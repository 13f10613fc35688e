#include "softcpu/block_cache.h"

#include <cstring>
#include <new>

namespace hv::softcpu {

BlockCache::BlockCache()
    : buckets_(kBuckets), arena_(std::make_unique_for_overwrite<std::uint8_t[]>(kArena)) {}

static_assert(sizeof(Block) % alignof(Insn) == 0);

Block* BlockCache::find(std::uint64_t physical, CodeSize size) const {
  const std::uint64_t wanted = key(physical, size);
  for (std::size_t at = first_bucket(wanted);; at = (at + 1) & (kBuckets - 1)) {
    const Bucket& bucket = buckets_[at];
    if (bucket.key == wanted || bucket.block == nullptr) return bucket.block;
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
  const std::uint64_t wanted_key = key(block.physical, block.size);
  std::size_t slot = first_bucket(wanted_key);
  while (buckets_[slot].block != nullptr && buckets_[slot].key != wanted_key)
    slot = (slot + 1) & (kBuckets - 1);
  if (buckets_[slot].block == nullptr) ++used_buckets_;
  buckets_[slot] = {wanted_key, kept};
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
  buckets_.assign(kBuckets, {});
  used_buckets_ = used_ = 0;
}

}  // namespace hv::softcpu

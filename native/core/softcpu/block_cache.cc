#include "softcpu/block_cache.h"

#include <bit>
#include <cstring>
#include <new>

namespace hv::softcpu {

BlockCache::BlockCache()
    : arena_(std::make_unique_for_overwrite<std::uint8_t[]>(kArena)) {
  set_buckets(kFirstBuckets);
}

void BlockCache::set_buckets(std::size_t count) {
  buckets_.assign(count, {});
  bucket_shift_ = 64 - static_cast<unsigned>(std::countr_zero(count));
}

void BlockCache::grow() {
  const std::vector<Bucket> before = std::move(buckets_);
  set_buckets(before.size() * 2);
  for (const Bucket& bucket : before) {
    if (bucket.block == nullptr) continue;
    std::size_t slot = first_bucket(bucket.key);
    while (buckets_[slot].block != nullptr) slot = next_bucket(slot);
    buckets_[slot] = bucket;
  }
}

static_assert(sizeof(Block) % alignof(Insn) == 0);

Block* BlockCache::find(std::uint64_t physical, CodeSize size) const {
  const std::uint64_t wanted = key(physical, size);
  for (std::size_t at = first_bucket(wanted);; at = next_bucket(at)) {
    const Bucket& bucket = buckets_[at];
    if (bucket.key == wanted || bucket.block == nullptr) return bucket.block;
  }
}

Block* BlockCache::insert(const Block& block, std::span<const Insn> insns,
                          std::span<const std::uint8_t> bytes) {
  const std::size_t wanted = (sizeof(Block) + insns.size_bytes() + bytes.size() + 15) & ~15ull;
  if (used_ + wanted > kArena) drop_all();
  if (used_buckets_ >= buckets_.size() / 2) grow();
  std::uint8_t* const at = arena_.get() + used_;
  used_ += wanted;
  std::memcpy(at + sizeof(Block), insns.data(), insns.size_bytes());
  auto* const kept = new (at) Block{block};
  kept->insns = std::launder(reinterpret_cast<const Insn*>(at + sizeof(Block)));
  std::memcpy(kept->copy(), bytes.data(), bytes.size());
  const std::uint64_t wanted_key = key(block.physical, block.size);
  std::size_t slot = first_bucket(wanted_key);
  while (buckets_[slot].block != nullptr && buckets_[slot].key != wanted_key)
    slot = next_bucket(slot);
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
  set_buckets(kFirstBuckets);
  used_buckets_ = used_ = 0;
}

}  // namespace hv::softcpu

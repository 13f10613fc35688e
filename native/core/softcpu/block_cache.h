// Decoded code of one vCPU: runs of instructions by physical address and code size, and a cache
// from linear addresses to them.
//
// A block lies within one guest page; an instruction that crosses pages is a block by itself. It
// holds until a byte of it is written (memory/code_pages.h), wherever the page is mapped. The
// arena is bounded: when it is full all blocks are dropped at once, and with them what was
// translated from them.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "memory/guest_memory.h"
#include "softcpu/decoder.h"
#include "softcpu/tlb.h"

namespace hv::softcpu {

namespace translator {
struct Translation;
}

struct Block {
  std::uint64_t physical = 0;   // of its first byte
  std::uint64_t physical2 = 0;  // of its first byte in the second page
  CodePage* page = nullptr;     // nullptr: not RAM, decoded afresh each time
  CodePage* page2 = nullptr;    // an instruction across two pages
  std::uint32_t version = 0, version2 = 0;
  std::uint64_t epoch = 0, epoch2 = 0;
  // Its page while it runs, where a store into its lines restarts the instruction. A block of one
  // instruction needs no such care.
  std::uint64_t guarded_page = ~0ull;
  std::uint8_t count = 0;        // instructions
  std::uint8_t first_part = 0;   // crossing: its bytes in the first page
  std::uint16_t bytes = 0;
  CodeSize size = CodeSize::k16;
  bool provisional = true;       // its bytes must be compared each time
  bool changes_mode = false;     // its last instruction may change the mode or the interrupt flag
  // The translator's: how often the block was looked at, and its code by linear address.
  std::uint32_t heat = 0;
  translator::Translation* translations = nullptr;
  const Insn* insns = nullptr;   // `count` of them, and a copy of the `bytes` behind them

  std::uint8_t* copy() const {
    return reinterpret_cast<std::uint8_t*>(const_cast<Insn*>(insns + count));
  }
  bool fresh() const {
    return !provisional && version == page->version.load(std::memory_order_acquire);
  }
};

// One instruction's or one block's bytes on the way from guest memory to the decoder.
struct CodeBytes {
  std::array<std::uint8_t, 256> bytes{};
  std::uint32_t length = 0;
};

// An entry of the jump cache. Translated code reads it too.
struct Jump {
  std::uint64_t linear = ~0ull;
  std::uint64_t tag = ~0ull;
  Block* block = nullptr;
  const void* code = nullptr;  // of the block, at this address
};
struct JumpTable {
  const Jump* jumps;
  std::uint64_t mask;  // the slot is (linear ^ linear >> 12) & mask
};

class BlockCache {
 public:
  static constexpr unsigned kMaxInsns = 32;

  BlockCache();

  // The jump cache. `mode` is what beside the address decides a fetch. An entry holds while its tag
  // is the one of its mode. Each address space of user code has a tag of its own, so that a switch
  // between them forgets nothing; the kernel's pages, which are global, have one for all of them.
  static constexpr std::uint64_t kUserMode = 4;  // of `mode`: CPL is 3
  Block* jump(std::uint64_t linear, std::uint64_t mode) const {
    const Jump& entry = jumps_[slot(linear)];
    return entry.linear == linear && entry.tag == tag(mode) ? entry.block : nullptr;
  }
  void remember(std::uint64_t linear, std::uint64_t mode, bool global, Block* block) {
    jumps_[slot(linear)] = {linear, tag(mode), block, code_of_others_};
    pages_[page_bit(linear) / 64] |= 1ull << page_bit(linear) % 64;
    kernel_is_local_ |= !global && (mode & kUserMode) == 0;
  }
  // Whether entries lead into the page of `linear`; says yes a bit too often.
  bool may_jump_to(std::uint64_t linear) const {
    return (pages_[page_bit(linear) / 64] >> page_bit(linear) % 64 & 1) != 0;
  }
  // MOV CR3, to one of Tlb::kContexts.
  void switch_context(std::size_t context, bool flushed) {
    context_ = context;
    if (flushed) user_generations_[context] = next_generation();
    if (kernel_is_local_) kernel_generation_ = next_generation();
    kernel_is_local_ = false;
  }
  // For the translator: where the code of the block at `linear` is, if its entry still stands.
  std::uint64_t tag(std::uint64_t mode) const {
    return ((mode & kUserMode) != 0 ? user_generations_[context_] : kernel_generation_) | mode;
  }
  void set_code(std::uint64_t linear, std::uint64_t tag, const void* code) {
    Jump& entry = jumps_[slot(linear)];
    if (entry.linear == linear && entry.tag == tag) entry.code = code;
  }
  // What entries of blocks without code have there.
  void set_code_of_others(const void* code) { code_of_others_ = code; }
  JumpTable jump_table() const { return {jumps_.data(), kJumps - 1}; }
  // Of the arena and the table.
  std::size_t bytes() const { return used_ + buckets_.size() * sizeof(Bucket); }
  // How often everything was dropped.
  std::uint64_t drops() const { return drops_; }
  void drop_all();
  void flush_jumps() {
    kernel_generation_ = next_generation();
    // Never one for two: a context that stays may be gone back to without a flush.
    for (std::uint64_t& generation : user_generations_) generation = next_generation();
    kernel_is_local_ = false;
    pages_ = {};
  }

  Block* find(std::uint64_t physical, CodeSize size) const;
  // A copy of `block` with its instructions and bytes; all else may be dropped to make room.
  Block* insert(const Block& block, std::span<const Insn> insns,
                std::span<const std::uint8_t> bytes);
  // A block that is not kept: the next call overwrites it.
  Block* scratch(const Block& block, const Insn& insn);

 private:
  static constexpr std::size_t kJumps = 4096, kFirstBuckets = 1 << 12, kArena = 6u << 20;
  static constexpr std::uint64_t kGeneration = 256;

  std::uint64_t next_generation() { return generation_ += kGeneration; }
  static constexpr std::size_t kPageBits = 1024;
  static constexpr std::size_t page_bit(std::uint64_t linear) {
    const std::uint64_t page = linear >> 12;
    return (page ^ page >> 10 ^ page >> 20) & (kPageBits - 1);
  }
  static std::size_t slot(std::uint64_t linear) {
    return (linear ^ linear >> 12) & (kJumps - 1);
  }
  static constexpr std::uint64_t key(std::uint64_t physical, CodeSize size) {
    return physical * 4 + static_cast<std::uint64_t>(size);
  }
  std::size_t first_bucket(std::uint64_t key) const {
    return (key * 0x9e37'79b9'7f4a'7c15) >> bucket_shift_;  // Fibonacci hashing: the top bits
  }
  std::size_t next_bucket(std::size_t at) const { return (at + 1) & (buckets_.size() - 1); }
  void set_buckets(std::size_t count);
  void grow();

  std::uint64_t generation_ = 0;  // the last one given out
  std::uint64_t kernel_generation_ = 0;
  std::array<std::uint64_t, Tlb::kContexts> user_generations_{};
  std::size_t context_ = 0;
  bool kernel_is_local_ = false;  // entries of privileged code lead to pages that are not global
  std::array<std::uint64_t, kPageBits / 64> pages_{};  // that entries lead into, by a hash
  std::uint64_t drops_ = 0;
  const void* code_of_others_ = nullptr;
  std::array<Jump, kJumps> jumps_;
  // Open addressing, linear probing. The key is beside the pointer: blocks are not looked at.
  struct Bucket {
    std::uint64_t key = 0;
    Block* block = nullptr;
  };
  std::vector<Bucket> buckets_;  // a power of 2, at least twice as many as are used
  unsigned bucket_shift_ = 0;
  std::size_t used_buckets_ = 0;
  std::unique_ptr<std::uint8_t[]> arena_;
  std::size_t used_ = 0;
  Block scratch_;
  Insn scratch_insn_;
};

}  // namespace hv::softcpu

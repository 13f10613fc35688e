// One translated block, and how blocks lead to each other.
#pragma once
#include <cstdint>
#include <deque>
#include <vector>

#include "softcpu/translator/assembler.h"
#include "softcpu/translator/code_cache.h"
#include "softcpu/translator/state.h"

namespace hv::softcpu {
struct Block;
}

namespace hv::softcpu::translator {

struct Translation;

// A jump to a known address. Until its target is translated, and again when its own page has
// changed, it leaves for the run loop, which says so by this structure. The return from a call is
// one too, which goes by a cell instead of a jump's displacement.
struct Link {
  std::uint64_t target = 0;
  Translation* from = nullptr;
  std::uint8_t* place = nullptr;     // the rel32 of the jump; nullptr: never linked
  std::uint8_t* unlinked = nullptr;  // where it goes then
  const void* code = nullptr;        // of a return: where it goes
  bool checks = false;  // goes to the target's `again`, not behind its checks
  bool linked = false;
  Link* next = nullptr;              // of the same translation
};

struct Translation {
  Block* block = nullptr;
  std::uint64_t rip = 0;
  std::uint64_t live_version = 0;  // of the page: what `again` compares with
  std::uint8_t* version_place = nullptr;  // (writable) of the four bytes that say so
  // Three ways in (all writable): from anywhere; from the same page, looking at signals and at
  // the page's version; and behind these checks.
  std::uint8_t* entry = nullptr;
  std::uint8_t* again = nullptr;
  std::uint8_t* body = nullptr;
  std::uint8_t* end = nullptr;
  Link self;                       // for leaving at `entry`
  Link* links = nullptr;
  Link back;                       // to behind a call that ends the block
  Translation* next = nullptr;     // of the same block, at another address, or older
  std::vector<Block*> others;      // that it was made of beside `block`
  unsigned remade = 0;             // how often it was, since these had changed
  unsigned split_groups = 0;       // how often in a row one soon lay across two pages again
  std::uint64_t last_split = 0;    // by the count of instructions
};

// What translated code leaves with instead of a Link.
inline constexpr std::uintptr_t kLeftAtRip = 0;      // gpr[kRip] says where to go on
inline constexpr std::uintptr_t kLeftForMode = 1;    // … and the mode may have changed
inline constexpr std::uintptr_t kLeftForSplit = 2;   // at RIP; added to a Translation's address

}  // namespace hv::softcpu::translator

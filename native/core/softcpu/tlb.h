// The software TLB: linear pages to host addresses, direct-mapped.
//
// A load hits when its last byte's page equals read_tag, a store when it equals write_tag; so an
// access across two pages never hits, nor does one to an address that is not canonical. What must
// take the slow path simply has no tag: MMIO (both), pages with decoded code, clean pages and
// pages with data breakpoints (write_tag, or both).
//
// There is a bank for each set of rights, so that a change of CPL or EFLAGS.AC switches a pointer
// and flushes nothing; a bank that is always empty serves alignment checking. A few contexts, one
// for each recently used PCID, keep their banks over MOV CR3.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/types.h"

namespace hv::softcpu {

struct TlbEntry {
  // Never equal to a page address, nor to one whose alignment is compared along with it.
  static constexpr std::uint64_t kNever = 0x800;
  static constexpr std::uint64_t kGlobal = 1;  // in `frame`

  std::uint64_t read_tag = kNever;  // linear page; in fetch banks: executable
  std::uint64_t write_tag = kNever;
  std::uint64_t addend = 0;  // host address = linear address + addend
  std::uint64_t frame = 0;   // guest-physical page, and kGlobal

  bool global() const { return (frame & kGlobal) != 0; }
  void drop() { read_tag = write_tag = kNever; }
  bool used() const { return read_tag != kNever || write_tag != kNever; }
};
static_assert(sizeof(TlbEntry) == 32);

// Whose rights. kOpen: supervisor with EFLAGS.AC set, whom SMAP lets at user pages.
enum class Bank : std::uint8_t { kSupervisor, kOpen, kUser };
inline constexpr std::size_t kBanks = 3;

class Tlb {
 public:
  static constexpr std::size_t kEntries = 1024, kFetchEntries = 256, kContexts = 4;

  Tlb();

  TlbEntry& at(std::uint64_t linear) { return current_[index(linear)]; }
  TlbEntry& at(Bank bank, std::uint64_t linear) {
    return context_->data[static_cast<std::size_t>(bank)][index(linear)];
  }
  TlbEntry& fetch_at(bool user, std::uint64_t linear) {
    return context_->fetch[user][(linear >> 12) & (kFetchEntries - 1)];
  }
  // Where translated code finds the bank in use.
  TlbEntry* const* current_slot() const { return &current_; }
  Bank bank() const { return bank_; }
  // `checked`: every access goes the slow way (alignment checking).
  void select(Bank bank, bool checked);
  bool checked() const { return checked_; }

  // MOV CR3: the context of this PCID becomes the current one, flushed unless `keep` (global
  // entries stay in any case). True: what was not global has been flushed.
  bool switch_context(std::uint16_t pcid, bool keep);
  // Which of kContexts is the current one.
  std::size_t context_number() const;
  void flush_current(bool keep_global);
  // Everything; the current context is `pcid`'s from now on.
  void flush_all(std::uint16_t pcid);
  void flush_pcid(std::uint16_t pcid);  // but not its global entries
  void flush_all_but_global();
  // In every context, and with the whole of a large page that `linear` lies in: one INVLPG is
  // enough for that (SDM Vol. 3, "Invalidation of TLBs and Paging-Structure Caches"), though it
  // lies here in pieces of 4 KiB.
  void flush_page(std::uint64_t linear);
  void note_large(std::uint64_t linear, unsigned shift);
  // Whether `linear` may lie in a large page; says yes a bit too often.
  bool may_be_large(std::uint64_t linear) const;
  // An entry of this page (its TlbEntry::frame) is given a write_tag.
  void note_writer(std::uint64_t frame) { writers_[writer_word(frame)] |= writer_bit(frame); }
  void drop_write_entry(Gpa page);
  void drop_all_write_entries();

 private:
  static constexpr std::size_t index(std::uint64_t linear) {
    return (linear >> 12) & (kEntries - 1);
  }
  struct Context {
    std::array<std::array<TlbEntry, kEntries>, kBanks> data;
    std::array<std::array<TlbEntry, kFetchEntries>, 2> fetch;
    std::uint16_t pcid = 0;
    bool live = false;  // false: to be cleared before it is used
    // Which 2 MiB and which 1 GiB (or 4 MiB) pages may have entries, by a hash: a bit too many only
    // flushes too much.
    std::array<std::uint64_t, 16> large{};
    std::uint64_t huge = 0;
    std::uint64_t used = 0;

    template <class F>
    void each(F&& f) {
      for (auto& bank : data)
        for (auto& entry : bank) f(entry);
      for (auto& bank : fetch)
        for (auto& entry : bank) f(entry);
    }
    void clear(bool keep_global);
    void drop_2mib(std::uint64_t linear);
  };
  Context& take_context(std::uint16_t pcid, bool& fresh);

  // Which physical pages may have a write_tag somewhere, by a hash: a page of code that nobody
  // wrote needs no search for one. Exact again after each search.
  static constexpr std::size_t kWriterBits = 1 << 14;
  static constexpr std::size_t writer_word(std::uint64_t frame) {
    return (frame >> 12 & (kWriterBits - 1)) / 64;
  }
  static constexpr std::uint64_t writer_bit(std::uint64_t frame) {
    return 1ull << (frame >> 12 & 63);
  }
  std::array<std::uint64_t, kWriterBits / 64> writers_{};

  TlbEntry* current_ = nullptr;
  Context* context_ = nullptr;
  Bank bank_ = Bank::kSupervisor;
  bool checked_ = false;
  std::uint64_t clock_ = 0;
  std::array<std::unique_ptr<Context>, kContexts> contexts_;
  std::unique_ptr<std::array<TlbEntry, kEntries>> empty_;
};

}  // namespace hv::softcpu

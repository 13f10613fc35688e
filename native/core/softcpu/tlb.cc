#include "softcpu/tlb.h"

namespace hv::softcpu {

Tlb::Tlb() : empty_(std::make_unique<std::array<TlbEntry, kEntries>>()) {
  contexts_[0] = std::make_unique<Context>();
  context_ = contexts_[0].get();
  context_->live = true;
  select(Bank::kSupervisor, false);
}

void Tlb::select(Bank bank, bool checked) {
  bank_ = bank;
  checked_ = checked;
  current_ = checked ? empty_->data() : context_->data[static_cast<std::size_t>(bank)].data();
}

namespace {

constexpr unsigned kHuge = 30, kLarge = 21;
// The two halves of the address space apart: one is the kernel's, with large pages everywhere.
constexpr unsigned large_bit(std::uint64_t linear) {
  const std::uint64_t page = linear >> kLarge;
  return (static_cast<unsigned>(page ^ page >> 9) & 511) | (linear >> 63 != 0 ? 512u : 0u);
}
constexpr std::uint64_t huge_bit(std::uint64_t linear) {
  const std::uint64_t page = linear >> kHuge;
  return 1ull << ((page ^ page >> 6) & 63);
}

}  // namespace

void Tlb::note_large(std::uint64_t linear, unsigned shift) {
  if (shift == kLarge)
    context_->large[large_bit(linear) / 64] |= 1ull << large_bit(linear) % 64;
  else
    context_->huge |= huge_bit(linear);
}

bool Tlb::may_be_large(std::uint64_t linear) const {
  const unsigned bit = large_bit(linear);
  for (const auto& slot : contexts_) {
    if (!slot || !slot->live) continue;
    if ((slot->huge & huge_bit(linear)) != 0 || (slot->large[bit / 64] >> bit % 64 & 1) != 0)
      return true;
  }
  return false;
}

void Tlb::Context::drop_2mib(std::uint64_t linear) {
  const std::uint64_t page = linear >> kLarge;
  each([page](TlbEntry& entry) {
    if (entry.read_tag >> kLarge == page || entry.write_tag >> kLarge == page) entry.drop();
  });
}

void Tlb::Context::clear(bool keep_global) {
  if (!keep_global) {
    large = {};
    huge = 0;
  }
  each([keep_global](TlbEntry& entry) {
    if (!keep_global || (entry.frame & TlbEntry::kGlobal) == 0) entry.drop();
  });
}

// The context of `pcid`, or the one that was used longest ago, emptied and `fresh`.
Tlb::Context& Tlb::take_context(std::uint16_t pcid, bool& fresh) {
  std::unique_ptr<Context>* victim = nullptr;
  for (auto& slot : contexts_) {
    if (slot && slot->live && slot->pcid == pcid) return *slot;
    const auto age = [](const std::unique_ptr<Context>& c) { return c && c->live ? c->used : 0; };
    if (victim == nullptr || age(slot) < age(*victim)) victim = &slot;
  }
  if (*victim)
    (*victim)->clear(false);
  else
    *victim = std::make_unique<Context>();
  (*victim)->pcid = pcid;
  (*victim)->live = true;
  fresh = true;
  return **victim;
}

bool Tlb::switch_context(std::uint16_t pcid, bool keep) {
  bool fresh = false;
  Context& next = take_context(pcid, fresh);
  if (!fresh && !keep) next.clear(true);
  next.used = ++clock_;
  context_ = &next;
  select(bank_, checked_);
  return fresh || !keep;
}

std::size_t Tlb::context_number() const {
  std::size_t number = 0;
  while (contexts_[number].get() != context_) ++number;
  return number;
}

void Tlb::flush_current(bool keep_global) { context_->clear(keep_global); }

void Tlb::flush_all(std::uint16_t pcid) {
  for (auto& slot : contexts_)
    if (slot && slot.get() != context_) slot->live = false;
  context_->clear(false);
  context_->pcid = pcid;
}

void Tlb::flush_pcid(std::uint16_t pcid) {
  for (auto& slot : contexts_)
    if (slot && slot->live && slot->pcid == pcid) slot->clear(true);
}

void Tlb::flush_all_but_global() {
  for (auto& slot : contexts_)
    if (slot && slot.get() != context_) slot->live = false;
  context_->clear(true);
}

void Tlb::flush_page(std::uint64_t linear) {
  for (auto& slot : contexts_) {
    if (!slot || !slot->live) continue;
    if ((slot->huge & huge_bit(linear)) != 0) {
      slot->clear(false);
      continue;
    }
    if ((slot->large[large_bit(linear) / 64] >> large_bit(linear) % 64 & 1) != 0)
      slot->drop_2mib(linear);
    for (auto& bank : slot->data) bank[index(linear)].drop();
    for (auto& bank : slot->fetch) bank[(linear >> 12) & (kFetchEntries - 1)].drop();
  }
}

void Tlb::drop_write_entry(Gpa page) {
  const std::uint64_t frame = raw(page) & kPageMask;
  if ((writers_[writer_word(frame)] & writer_bit(frame)) == 0) return;
  writers_ = {};
  for (auto& slot : contexts_) {
    if (!slot || !slot->live) continue;
    for (auto& bank : slot->data)
      for (TlbEntry& entry : bank) {
        if (entry.write_tag == TlbEntry::kNever) continue;
        if ((entry.frame & kPageMask) == frame)
          entry.write_tag = TlbEntry::kNever;
        else
          note_writer(entry.frame);
      }
  }
}

void Tlb::drop_all_write_entries() {
  writers_ = {};
  for (auto& slot : contexts_)
    if (slot && slot->live) slot->each([](TlbEntry& entry) { entry.write_tag = TlbEntry::kNever; });
}

}  // namespace hv::softcpu

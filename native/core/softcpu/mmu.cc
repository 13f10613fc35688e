// Paging: SDM Vol. 3, chapter "Paging". Walks write back A and D bits by compare-exchange, as the
// other vCPUs and the guest's own stores may change an entry at the same time.
#include <cstring>

#include "softcpu/block_cache.h"
#include "softcpu/cpu.h"
#include "softcpu/overseer.h"
#include "softcpu/paging.h"

namespace hv::softcpu {

namespace {

// The three ways to page, as data.
struct Scheme {
  unsigned levels;        // that are walked in memory
  unsigned entry_bytes;
  unsigned index_bits;
  unsigned largest_page;  // the highest level whose entries may map a page themselves
  bool wide_rights;       // level 3 of PAE carries no rights (it is no level here)
};
constexpr Scheme k32Bit{2, 4, 10, 2, false}, kPae{2, 8, 9, 2, false}, kLong{4, 8, 9, 3, true};

constexpr std::uint64_t kAddressBits = bits(kPhysicalBits - 1, 12);

class Walker {
 public:
  Walker(Cpu& cpu, std::uint64_t linear, AccessKind kind, Bank bank)
      : cpu_(cpu), linear_(linear), kind_(kind), bank_(bank), a20_(cpu.platform.a20_mask()) {}

  bool run(Cpu::Walk& out, std::uint32_t& error);

 private:
  enum class Step : std::uint8_t { kDown, kDone, kFault, kAgain };

  bool start();
  Step step(Cpu::Walk& out);
  Step finish(std::uint64_t entry, Gpa at, Cpu::Walk& out);
  Step fault(std::uint32_t bits) {
    error_ = bits;
    return Step::kFault;
  }
  Gpa entry_address() const {
    const std::uint64_t index = linear_ >> shift() & ((1ull << scheme_.index_bits) - 1);
    return Gpa{(table_ + index * scheme_.entry_bytes) & a20_};
  }
  unsigned shift() const { return 12 + scheme_.index_bits * (level_ - 1); }
  std::uint64_t load(Gpa at) const;
  bool mark(Gpa at, std::uint64_t entry, std::uint64_t bits) const;
  std::uint64_t reserved(bool large) const;
  std::uint64_t page_address(std::uint64_t entry) const;

  Cpu& cpu_;
  const std::uint64_t linear_;
  const AccessKind kind_;
  const Bank bank_;
  const std::uint64_t a20_;
  Scheme scheme_ = k32Bit;
  unsigned level_ = 0;
  std::uint64_t table_ = 0;
  std::uint32_t error_ = 0;
};

// The first table; false where a PDPTE of PAE paging is not present.
bool Walker::start() {
  if ((cpu_.cr4 & kCr4Pae) == 0) {
    scheme_ = k32Bit;
    table_ = cpu_.cr3 & 0xffff'f000;
  } else if (!cpu_.long_mode()) {
    scheme_ = kPae;
    const std::uint64_t pdpte = cpu_.pdpte[linear_ >> 30 & 3];
    if ((pdpte & kPtePresent) == 0) return false;
    table_ = pdpte & kAddressBits;
  } else {
    scheme_ = kLong;
    table_ = cpu_.cr3 & kAddressBits;
  }
  level_ = scheme_.levels;
  return true;
}

std::uint64_t Walker::load(Gpa at) const {
  cpu_.require_rights(at, linear_, AccessKind::kRead, true);
  const std::uint8_t* host = cpu_.memory.host(at);
  if (host == nullptr) return cpu_.platform.read(cpu_.index, at, scheme_.entry_bytes);
  if (scheme_.entry_bytes == 4) return access::load<std::uint32_t>(host);
  return access::load<std::uint64_t>(host);
}

// Sets bits in an entry that was read as `entry`; false when it has changed since.
bool Walker::mark(Gpa at, std::uint64_t entry, std::uint64_t bits) const {
  if ((entry & bits) == bits) return true;
  cpu_.require_rights(at, linear_, AccessKind::kWrite, true);
  std::uint8_t* const at_host = cpu_.memory.host(at);
  if (at_host == nullptr) {
    cpu_.platform.write(cpu_.index, at, scheme_.entry_bytes, entry | bits);
    return true;
  }
  bool done;
  if (scheme_.entry_bytes == 4) {
    auto was = static_cast<std::uint32_t>(entry);
    done = host::compare_exchange(at_host, was, was | static_cast<std::uint32_t>(bits));
  } else {
    done = host::compare_exchange(at_host, entry, entry | bits);
  }
  if (!done) return false;
  CodeEpochs::modified(cpu_.memory.code_page(at), line_mask(raw(at) & ~kPageMask, 8));
  cpu_.note_write(at);
  return true;
}

// SDM Vol. 3, tables "Format of a … Entry": bits that must be 0 in a present entry.
std::uint64_t Walker::reserved(bool large) const {
  if (scheme_.entry_bytes == 4) return large ? 1u << 21 : 0;  // PSE-36 with 40 address bits
  std::uint64_t mask = bits(51, kPhysicalBits);
  if (!cpu_.long_mode()) mask |= bits(62, 52);
  if ((cpu_.efer & kEferNxe) == 0) mask |= kPteNoExecute;
  if (large) mask |= bits(shift() - 1, 13);
  if (level_ == 4) mask |= kPteLarge;
  return mask;
}

std::uint64_t Walker::page_address(std::uint64_t entry) const {
  const std::uint64_t offset = linear_ & (bits(shift() - 1, 0));
  if (scheme_.entry_bytes == 8) return (entry & kAddressBits & ~bits(shift() - 1, 0)) | offset;
  if (level_ == 1) return (entry & 0xffff'f000) | offset;
  return (entry & 0xffc0'0000) | (entry >> 13 & 0xff) << 32 | offset;  // PSE-36
}

Walker::Step Walker::step(Cpu::Walk& out) {
  const Gpa at = entry_address();
  const std::uint64_t entry = load(at);
  if ((entry & kPtePresent) == 0) return fault(0);
  const bool may_be_large = level_ > 1 && level_ <= scheme_.largest_page &&
                            (scheme_.entry_bytes == 8 || (cpu_.cr4 & kCr4Pse) != 0);
  const bool large = may_be_large && (entry & kPteLarge) != 0;
  if ((entry & reserved(large)) != 0) return fault(kPfPresent | kPfReserved);
  out.user = out.user && (entry & kPteUser) != 0;
  out.writable = out.writable && (entry & kPteWritable) != 0;
  out.executable = out.executable && (scheme_.entry_bytes == 4 || (entry & kPteNoExecute) == 0);
  if (large || level_ == 1) return finish(entry, at, out);
  if (!mark(at, entry, kPteAccessed)) return Step::kAgain;
  table_ = entry & (scheme_.entry_bytes == 4 ? 0xffff'f000 : kAddressBits);
  --level_;
  return Step::kDown;
}

Walker::Step Walker::finish(std::uint64_t entry, Gpa at, Cpu::Walk& out) {
  if (!cpu_.permits(out, kind_, bank_)) return fault(kPfPresent);
  std::uint64_t marks = kPteAccessed;
  if (kind_ == AccessKind::kWrite) marks |= kPteDirty;
  if (!mark(at, entry, marks)) return Step::kAgain;
  out.shift = static_cast<std::uint8_t>(shift());
  out.dirty = ((entry | marks) & kPteDirty) != 0;
  out.global = (entry & kPteGlobal) != 0 && (cpu_.cr4 & kCr4Pge) != 0;
  out.gpa = Gpa{page_address(entry) & a20_};
  return Step::kDone;
}

bool Walker::run(Cpu::Walk& out, std::uint32_t& error) {
  for (;;) {
    out = {};
    Step result = start() ? Step::kDown : fault(0);
    while (result == Step::kDown) result = step(out);
    if (result == Step::kDone) return true;
    if (result == Step::kAgain) continue;
    error = error_;
    return false;
  }
}

}  // namespace

// SDM Vol. 3, "Determination of Access Rights".
bool Cpu::permits(const Walk& page, AccessKind kind, Bank bank) const {
  if (bank == Bank::kUser) {
    if (!page.user) return false;
    if (kind == AccessKind::kWrite) return page.writable;
    return kind == AccessKind::kRead || page.executable;
  }
  if (kind == AccessKind::kExecute)
    return page.executable && !(page.user && (cr4 & kCr4Smep) != 0);
  if (page.user && bank == Bank::kSupervisor && (cr4 & kCr4Smap) != 0) return false;
  return kind == AccessKind::kRead || page.writable || (cr0 & kCr0Wp) == 0;
}

bool Cpu::walk(std::uint64_t linear, AccessKind kind, Bank bank, Walk& out, std::uint32_t& error) {
  if ((cr0 & kCr0Pg) == 0) {
    out = {};
    out.gpa = Gpa{linear & platform.a20_mask()};
    return true;
  }
  add_count(count.tlb_misses);
  if (Walker{*this, linear, kind, bank}.run(out, error)) return true;
  if (kind == AccessKind::kWrite) error |= kPfWrite;
  if (bank == Bank::kUser) error |= kPfUser;
  const bool tells_fetches =
      (cr4 & kCr4Smep) != 0 || ((cr4 & kCr4Pae) != 0 && (efer & kEferNxe) != 0);
  if (kind == AccessKind::kExecute && tells_fetches) error |= kPfFetch;
  return false;
}

void Cpu::require_rights(Gpa at, std::uint64_t linear, AccessKind kind, bool walk) {
  if (overseer == nullptr) [[likely]] return;
  if ((overseer->rights(at) >> static_cast<unsigned>(kind) & 1) == 0)
    overseer->refuse(*this, at, linear, kind, walk);
}

bool Cpu::all_rights(Gpa at) const {
  return overseer == nullptr || overseer->rights(at) == Overseer::kAllRights;
}

void Cpu::note_write(Gpa at) {
  DirtyLog& log = memory.dirty_log();
  if (!log.on() || memory.host(at) == nullptr) return;
  if (overseer == nullptr || overseer->logs_writes()) log.mark(memory.page_number(at));
}

bool Cpu::write_is_noted(Gpa at) const {
  const DirtyLog& log = memory.dirty_log();
  if (!log.on() || log.has(memory.page_number(at))) return true;
  return overseer != nullptr && !overseer->logs_writes();
}

void Cpu::fill_tlb(std::uint64_t linear, const Walk& page, Bank bank) {
  std::uint8_t* host = memory.host(page.gpa);
  if (host == nullptr || page_has_breakpoint(linear) || !all_rights(page.gpa)) return;
  const std::uint64_t tag = linear & kPageMask;
  if (page.shift > 12) tlb.note_large(linear, page.shift);
  TlbEntry& entry = tlb.at(bank, linear);
  entry.addend = reinterpret_cast<std::uint64_t>(host) - linear;
  entry.frame = (raw(page.gpa) & kPageMask) | (page.global ? TlbEntry::kGlobal : 0);
  entry.read_tag = permits(page, AccessKind::kRead, bank) ? tag : TlbEntry::kNever;
  const bool writes = permits(page, AccessKind::kWrite, bank) && page.dirty &&
                      write_is_noted(page.gpa) &&
                      memory.code_page(page.gpa).lines.load(std::memory_order_seq_cst) == 0;
  entry.write_tag = writes ? tag : TlbEntry::kNever;
  if (writes) tlb.note_writer(entry.frame);
}

Piece Cpu::translate(std::uint64_t linear, unsigned length, AccessKind kind, Rights rights) {
  const Bank bank = rights == Rights::kSystem ? Bank::kSupervisor : tlb.bank();
  Walk page;
  std::uint32_t error = 0;
  if (!walk(linear, kind, bank, page, error)) raise_page_fault(linear, error);
  require_rights(page.gpa, linear, kind, false);
  if (kind == AccessKind::kWrite) note_write(page.gpa);
  // A store to a code page fills afterwards, when it has perhaps freed the page of its code.
  fill_tlb(linear, page, bank);
  return {memory.host(page.gpa), page.gpa, linear, length};
}

Gpa Cpu::translate_fetch(std::uint64_t linear) {
  TlbEntry& entry = tlb.fetch_at(cpl == 3, linear);
  if ((linear & kPageMask) == entry.read_tag) [[likely]]
    return Gpa{(entry.frame & kPageMask) | (linear & ~kPageMask)};
  if (long64 && !canonical(linear)) protection_fault();
  Walk page;
  std::uint32_t error = 0;
  const Bank bank = cpl == 3 ? Bank::kUser : Bank::kSupervisor;
  if (!walk(linear, AccessKind::kExecute, bank, page, error)) raise_page_fault(linear, error);
  require_rights(page.gpa, linear, AccessKind::kExecute, false);
  if (!all_rights(page.gpa)) return page.gpa;
  if (page.shift > 12) tlb.note_large(linear, page.shift);
  entry.read_tag = linear & kPageMask;
  entry.frame = (raw(page.gpa) & kPageMask) | (page.global ? TlbEntry::kGlobal : 0);
  return page.gpa;
}

void Cpu::flush_tlb(bool keep_global) {
  if (keep_global)
    tlb.flush_all_but_global();
  else
    tlb.flush_all((cr4 & kCr4Pcide) != 0 ? static_cast<std::uint16_t>(cr3 & 0xfff) : std::uint16_t{0});
  flush_jump_cache();
}

// INVLPG is for data more often than for code: the jump cache knows where it leads.
void Cpu::flush_page(std::uint64_t linear) {
  if (tlb.may_be_large(linear) || blocks->may_jump_to(linear)) flush_jump_cache();
  tlb.flush_page(linear);
}

void Cpu::drop_write_entry(Gpa page) { tlb.drop_write_entry(page); }

void Cpu::drop_all_write_entries() { tlb.drop_all_write_entries(); }

}  // namespace hv::softcpu

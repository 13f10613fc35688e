// Guest memory the long way: everything that memory_access.h has no tag for.
//
// Locked accesses: within one page of RAM they are one atomic operation of the host, at any
// alignment. Across two pages, and on MMIO, they exclude each other by a mutex, but not the plain
// accesses of other vCPUs; software that locks across pages (split locks) is told so in the docs.
#include <algorithm>
#include <cstring>
#include <mutex>

#include "softcpu/cpu.h"
#include "softcpu/descriptor.h"
#include "softcpu/paging.h"

namespace hv::softcpu {

namespace {

std::mutex& split_lock() {
  static std::mutex lock;
  return lock;
}

// One host access where the guest's is aligned; bytes where it is not of a plain size.
void copy_from(const std::uint8_t* host, std::uint8_t* to, unsigned length) {
  const auto one = [&]<class T>(T) {
    const T value = access::load<T>(host);
    std::memcpy(to, &value, sizeof value);
  };
  switch (length) {
    case 1: return one(std::uint8_t{});
    case 2: return one(std::uint16_t{});
    case 4: return one(std::uint32_t{});
    case 8: return one(std::uint64_t{});
    case 16: return one(Xmm{});
    default:
      for (unsigned i = 0; i < length; ++i) to[i] = access::load<std::uint8_t>(host + i);
  }
}

void copy_to(std::uint8_t* host, const std::uint8_t* from, unsigned length) {
  const auto one = [&]<class T>(T value) {
    std::memcpy(&value, from, sizeof value);
    access::store<T>(host, value);
  };
  switch (length) {
    case 1: return one(std::uint8_t{});
    case 2: return one(std::uint16_t{});
    case 4: return one(std::uint32_t{});
    case 8: return one(std::uint64_t{});
    case 16: return one(Xmm{});
    default:
      for (unsigned i = 0; i < length; ++i) access::store<std::uint8_t>(host + i, from[i]);
  }
}

}  // namespace

// Raises what the segment forbids (SDM Vol. 3, "Limit Checking", "Type Checking"); else the linear
// address. 64-bit code never comes here.
std::uint64_t Cpu::segment_slow(unsigned segment, std::uint64_t offset, unsigned length,
                                AccessKind kind) {
  const Segment& s = segments[segment];
  const Vector vector = segment == kSs ? Vector::kSs : Vector::kGp;
  const std::uint64_t last = offset + length - 1;
  bool within = last <= s.limit;
  if (!real_or_v86()) {
    const bool unusable = (s.access & kUnusable) != 0;
    const bool code = (s.access & 8) != 0, flag = (s.access & 2) != 0;
    const bool forbidden = kind == AccessKind::kWrite ? code || !flag : code && !flag;
    if (unusable || forbidden) raise(vector, 0);
    const bool expands_down = (s.access & 0xc) == 4;
    const std::uint64_t top = (s.access & kBig) != 0 ? 0xffff'ffff : 0xffff;
    if (expands_down) within = offset > s.limit && last <= top;
  }
  if (!within) raise(vector, 0);
  return (s.base + offset) & linear_mask;
}

void Cpu::update_window(unsigned segment) {
  const Segment& s = segments[segment];
  Window& w = windows[segment];
  if (long64) {
    w = {segment == kFs || segment == kGs ? s.base : 0, ~0ull, ~0ull};
  } else {
    const std::uint64_t end = std::uint64_t{s.limit} + 1;
    const bool code = (s.access & 8) != 0, flag = (s.access & 2) != 0;
    const bool closed = (s.access & kUnusable) != 0 || (s.access & 0xc) == 4;  // or expands down
    const bool reads = real_or_v86() || (!closed && (!code || flag));
    const bool writes = real_or_v86() || (!closed && !code && flag);
    w = {s.base, reads ? end : 0, writes ? end : 0};
  }
  if (segment != kSs) return;
  current_stack_mask = long64 ? ~0ull : (s.access & kBig) != 0 ? 0xffff'ffff : 0xffff;
}

// Both pages are translated, and so checked, before either is touched.
Pieces Cpu::pieces(unsigned segment, std::uint64_t linear, unsigned length, AccessKind kind,
                   Rights rights) {
  const bool wide = rights == Rights::kSystem ? long_mode() : long64;
  const std::uint64_t mask = wide ? ~0ull : 0xffff'ffff;
  linear &= mask;
  if (wide && !(canonical(linear) && canonical(linear + length - 1)))
    raise(segment == kSs ? Vector::kSs : Vector::kGp, 0);
  const bool aligned = (linear & (length - 1)) == 0 || length > 8;
  if (rights == Rights::kCpl && tlb.checked() && !aligned) raise(Vector::kAc, 0);
  const auto room = static_cast<unsigned>(kPageSize - (linear & ~kPageMask));
  const unsigned first = std::min(length, room);
  Pieces out{};
  out[0] = translate(linear, first, kind, rights);
  if (first < length)
    out[1] = translate((linear + first) & mask, length - first, kind, rights);
  return out;
}

void Cpu::load_pieces(const Pieces& from, void* to) {
  auto* bytes = static_cast<std::uint8_t*>(to);
  for (const Piece& p : from) {
    if (p.host != nullptr) {
      copy_from(p.host, bytes, p.length);
    } else {
      for (unsigned done = 0, size; done < p.length; done += size) {
        size = std::min(p.length - done, 8u);
        const std::uint64_t value = platform.read(index, p.gpa + done, size);
        add_count(count.mmio_accesses);
        std::memcpy(bytes + done, &value, size);
      }
    }
    bytes += p.length;
  }
}

void Cpu::store_pieces(const Pieces& to, const void* from) {
  auto* bytes = static_cast<const std::uint8_t*>(from);
  for (const Piece& p : to) {
    if (p.host != nullptr) {
      copy_to(p.host, bytes, p.length);
    } else {
      for (unsigned done = 0, size; done < p.length; done += size) {
        size = std::min(p.length - done, 8u);
        std::uint64_t value = 0;
        std::memcpy(&value, bytes + done, size);
        platform.write(index, p.gpa + done, size, value);
        add_count(count.mmio_accesses);
      }
    }
    bytes += p.length;
  }
}

void Cpu::before_store(const Pieces& to) {
  if (executing_alone) return;
  for (const Piece& p : to) {
    if (p.length == 0 || p.host == nullptr || (raw(p.gpa) & kPageMask) != running_page) continue;
    const std::uint64_t lines = line_mask(raw(p.gpa) & ~kPageMask, p.length);
    if ((memory.code_page(p.gpa).lines.load(std::memory_order_relaxed) & lines) != 0)
      restart_alone();
  }
}

void Cpu::after_store(const Pieces& to) {
  for (const Piece& p : to)
    if (p.length != 0 && p.host != nullptr)
      CodeEpochs::modified(memory.code_page(p.gpa),
                           line_mask(raw(p.gpa) & ~kPageMask, p.length));
}

void Cpu::read_slow(unsigned segment, std::uint64_t linear_address, void* to, unsigned length,
                    Rights rights) {
  const Pieces from = pieces(segment, linear_address, length, AccessKind::kRead, rights);
  load_pieces(from, to);
  if ((dr7 & 0xff) != 0 && rights == Rights::kCpl)
    match_data_breakpoints(linear_address, length, AccessKind::kRead);
}

void Cpu::write_slow(unsigned segment, std::uint64_t linear_address, const void* from,
                     unsigned length, Rights rights) {
  const Pieces to = pieces(segment, linear_address, length, AccessKind::kWrite, rights);
  before_store(to);
  store_pieces(to, from);
  after_store(to);
  if ((dr7 & 0xff) != 0 && rights == Rights::kCpl)
    match_data_breakpoints(linear_address, length, AccessKind::kWrite);
}

std::uint8_t* Cpu::begin_modify(unsigned segment, std::uint64_t linear_address, unsigned length,
                                bool locked) {
  SystemState& s = system;
  s.modify = pieces(segment, linear_address, length, AccessKind::kWrite, Rights::kCpl);
  before_store(s.modify);
  if ((dr7 & 0xff) != 0) match_data_breakpoints(linear_address, length, AccessKind::kWrite);
  s.modify_staged = s.modify[1].length != 0 || s.modify[0].host == nullptr;
  if (!s.modify_staged) return s.modify[0].host;
  s.modify_locked = locked;
  if (locked) split_lock().lock();
  load_pieces(s.modify, s.staging.data());
  return s.staging.data();
}

void Cpu::finish_modify() {
  SystemState& s = system;
  if (s.modify_staged) {
    store_pieces(s.modify, s.staging.data());
    if (s.modify_locked) split_lock().unlock();
  }
  after_store(s.modify);
}

void Cpu::probe_write(unsigned segment, std::uint64_t offset, unsigned length) {
  const std::uint64_t at = linear(segment, offset, length, AccessKind::kWrite);
  if (((at + length - 1) & kPageMask) == tlb.at(at).write_tag) return;
  before_store(pieces(segment, at, length, AccessKind::kWrite, Rights::kCpl));
}

std::uint8_t* Cpu::host_run(std::uint64_t linear_address, std::uint64_t length, AccessKind kind) {
  const std::uint64_t page = linear_address & kPageMask;
  if (((linear_address + length - 1) & kPageMask) != page || tlb.checked()) return nullptr;
  if (long64 && !canonical(linear_address)) return nullptr;
  const TlbEntry& entry = tlb.at(linear_address);
  const bool writes = kind == AccessKind::kWrite;
  if ((writes ? entry.write_tag : entry.read_tag) != page) {
    Walk found;
    std::uint32_t error = 0;
    if (!walk(linear_address, kind, tlb.bank(), found, error)) return nullptr;
    fill_tlb(linear_address, found, tlb.bank());
    if ((writes ? entry.write_tag : entry.read_tag) != page) return nullptr;
  }
  return access::host(linear_address, entry);
}

}  // namespace hv::softcpu

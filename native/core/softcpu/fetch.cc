// From linear addresses to blocks of decoded instructions: translation, decoding, and the protocol
// of memory/code_pages.h that notices when their bytes change.
#include <algorithm>
#include <cstring>

#include "softcpu/block_cache.h"
#include "softcpu/cpu.h"
#include "softcpu/overseer.h"
#include "softcpu/opcodes.h"

namespace hv::softcpu {

namespace {

void too_long(Cpu& cpu, const Insn&) { cpu.protection_fault(); }

// Guest code may change while it is read: what differs is found by comparing again.
std::uint8_t peek(const std::uint8_t* at) { return __atomic_load_n(at, __ATOMIC_RELAXED); }

void copy_code(std::uint8_t* to, const std::uint8_t* from, std::uint64_t length) {
  std::uint64_t i = 0;
  for (; i + 8 <= length; i += 8) {
    const auto eight = access::load<std::uint64_t>(from + i);
    std::memcpy(to + i, &eight, 8);
  }
  for (; i < length; ++i) to[i] = peek(from + i);
}

bool same_code(const std::uint8_t* copy, const std::uint8_t* host, std::uint64_t length) {
  std::uint64_t i = 0;
  for (; i + 8 <= length; i += 8) {
    std::uint64_t eight;
    std::memcpy(&eight, copy + i, 8);
    if (access::load<std::uint64_t>(host + i) != eight) return false;
  }
  for (; i < length; ++i)
    if (peek(host + i) != copy[i]) return false;
  return true;
}

struct Run {
  std::array<Insn, BlockCache::kMaxInsns> insns;
  std::uint8_t count = 0;
  std::uint16_t bytes = 0;
  bool changes_mode = false;
};

Handler bind_for(Overseer* overseer, const Insn& insn) {
  const Handler handler = bind(insn);
  return overseer == nullptr ? handler : overseer->bind(insn, handler);
}

// What stands for bytes that are no instruction.
Insn failing(const Decoded& decoded, Overseer* overseer) {
  Insn insn = decoded.insn;
  insn.op = Op::kInvalid;
  insn.run = decoded.status == DecodeStatus::kTooLong ? too_long : bind_for(overseer, insn);
  return insn;
}

// Appends one instruction; false when the run ends before or after it.
bool append(Run& run, const Decoded& decoded, Overseer* overseer) {
  if (decoded.status == DecodeStatus::kNeedMore) return false;
  const bool ok = decoded.status == DecodeStatus::kOk;
  if (!ok && run.count != 0) return false;
  Insn& insn = run.insns[run.count++];
  insn = ok ? decoded.insn : failing(decoded, overseer);
  if (ok) insn.run = bind_for(overseer, insn);
  run.bytes = static_cast<std::uint16_t>(run.bytes + insn.length);
  const bool ends = !ok || (decoded.row->traits & kEndsBlock) != 0 || insn.repeat != 0;
  run.changes_mode = ends && family(insn.op) == Family::kSystem;
  return !ends && run.count < run.insns.size();
}

Run decode_run(std::span<const std::uint8_t> bytes, CodeSize size, Overseer* overseer) {
  Run run;
  while (run.bytes < bytes.size() && append(run, decode(bytes.subspan(run.bytes), size), overseer)) {
  }
  return run;
}

}  // namespace

// Marks lines of a page as code. False: a writer has been at them meanwhile.
bool Cpu::guard_code(std::uint64_t physical, std::uint64_t length, CodePage& page,
                     std::uint32_t& version, std::uint64_t& epoch) {
  const std::uint64_t lines = line_mask(physical & ~kPageMask, length);
  CodeEpochs& epochs = memory.epochs();
  if (epochs.protect(page, lines)) {
    drop_write_entry(Gpa{physical & kPageMask});
    const std::uint64_t now = page.epoch.load(std::memory_order_seq_cst);
    // Only when no other page's epoch lies between may this one be acknowledged alone.
    if (now == acknowledged_ + 1)
      memory.epochs().acknowledge(index, acknowledged_ = now);
    else
      signals.raise(Signal::kProtectCode);
    for (VcpuSignals* other : all_signals)
      if (other != &signals) other->raise(Signal::kProtectCode);
  }
  version = page.version.load(std::memory_order_seq_cst);
  epoch = page.epoch.load(std::memory_order_seq_cst);
  return (page.lines.load(std::memory_order_seq_cst) & lines) == lines;
}

// Brings a block up to date with its pages, or says that its bytes have changed: then it stays
// provisional, as entries of the jump cache may still lead to it from other linear addresses.
bool Cpu::revalidate(Block& block) {
  block.provisional = true;
  const std::uint64_t first = block.page2 != nullptr ? block.first_part : block.bytes;
  const std::uint8_t* const copy = block.copy();
  bool quiet = guard_code(block.physical, first, *block.page, block.version, block.epoch);
  if (!same_code(copy, memory.host(Gpa{block.physical}), first)) return false;
  bool settled = memory.epochs().settled(block.epoch);
  if (block.page2 != nullptr) {
    const std::uint64_t rest = block.bytes - first;
    quiet &= guard_code(block.physical2, rest, *block.page2, block.version2, block.epoch2);
    settled &= memory.epochs().settled(block.epoch2);
    if (!same_code(copy + first, memory.host(Gpa{block.physical2}), rest)) return false;
  }
  // Compared once more after everybody was seen to be settled.
  block.provisional = !(quiet && settled) ||
                      !same_code(copy, memory.host(Gpa{block.physical}), first);
  return true;
}

bool Cpu::still_valid(Block& block, std::uint64_t linear) {
  if (block.page2 == nullptr) return block.fresh() || revalidate(block);
  const std::uint64_t next = (linear + block.first_part) & rip_mask_;
  if (raw(translate_fetch(next)) != block.physical2) return false;
  const bool second = block.version2 == block.page2->version.load(std::memory_order_acquire);
  return (block.fresh() && second) || revalidate(block);
}

Block* Cpu::find_block(std::uint64_t linear) {
  if (gpr[kRip] >= code_end_) protection_fault();
  const std::uint64_t physical = raw(translate_fetch(linear));
  Block* block = blocks->find(physical, code_size());
  if (block == nullptr || !still_valid(*block, linear)) block = decode_block(linear, physical);
  if (block->page != nullptr && block->page2 == nullptr)
    blocks->remember(linear, fetch_mode_, tlb.fetch_at(cpl == 3, linear).global(), block);
  return block;
}

Block* Cpu::decode_block(std::uint64_t linear, std::uint64_t physical) {
  const std::uint8_t* const host = memory.host(Gpa{physical});
  if (host == nullptr) return decode_bytewise(linear, physical, true);
  const std::uint64_t rest = kPageSize - (physical & ~kPageMask);
  std::array<std::uint8_t, 256> bytes;
  const std::uint64_t length = std::min<std::uint64_t>(rest, bytes.size());
  copy_code(bytes.data(), host, length);
  const Run run = decode_run({bytes.data(), length}, code_size(), overseer);
  if (run.count == 0) return decode_bytewise(linear, physical, true);

  Block block;
  block.physical = physical;
  block.page = &memory.code_page(Gpa{physical});
  block.count = run.count;
  block.bytes = run.bytes;
  block.size = code_size();
  block.changes_mode = run.changes_mode;
  if (run.count > 1) block.guarded_page = physical & kPageMask;
  return keep(block, {run.insns.data(), run.count}, {bytes.data(), run.bytes});
}

// The copy is guarded after the bytes were read: where they have changed since, the block is
// decoded again when it is next looked at, and compared first until then.
Block* Cpu::keep(const Block& block, std::span<const Insn> insns,
                 std::span<const std::uint8_t> bytes) {
  add_count(count.blocks_decoded);
  Block* const kept = blocks->insert(block, insns, bytes);
  __atomic_store_n(&count.block_bytes, blocks->bytes(), __ATOMIC_RELAXED);
  revalidate(*kept);
  return kept;
}

// What run_one() runs: others may have changed code since without a word, so nothing is kept.
Block* Cpu::decode_alone() {
  const std::uint64_t linear = (code_base_ + gpr[kRip]) & rip_mask_;
  if (gpr[kRip] >= code_end_) protection_fault();
  return decode_bytewise(linear, raw(translate_fetch(linear)), false);
}

// An instruction across two pages, outside RAM, or for once: byte by byte.
Block* Cpu::decode_bytewise(std::uint64_t linear, std::uint64_t physical, bool kept) {
  std::array<std::uint8_t, kMaxLength> bytes;
  std::array<std::uint64_t, 2> pages = {physical, 0};
  const unsigned rest = static_cast<unsigned>(kPageSize - (physical & ~kPageMask));
  unsigned got = 0;
  Decoded decoded{DecodeStatus::kNeedMore, nullptr, {}};
  while (decoded.status == DecodeStatus::kNeedMore) {
    if (gpr[kRip] + got >= code_end_) protection_fault();
    if (got == rest) pages[1] = raw(translate_fetch((linear + got) & rip_mask_));
    const Gpa at = got < rest ? Gpa{physical + got} : Gpa{pages[1] + got - rest};
    const std::uint8_t* const host = memory.host(at);
    bytes[got++] = host != nullptr ? peek(host)
                                   : static_cast<std::uint8_t>(platform.read(index, at, 1));
    decoded = decode({bytes.data(), got}, code_size());
  }
  Run run;
  append(run, decoded, overseer);

  Block block;
  block.physical = physical;
  block.count = 1;
  block.bytes = run.bytes;
  block.size = code_size();
  block.changes_mode = family(run.insns[0].op) == Family::kSystem;
  const bool crosses = got > rest;
  const bool in_ram = memory.host(Gpa{physical}) != nullptr &&
                      (!crosses || memory.host(Gpa{pages[1]}) != nullptr);
  if (!in_ram || !kept) return blocks->scratch(block, run.insns[0]);
  block.page = &memory.code_page(Gpa{physical});
  if (crosses) {
    block.page2 = &memory.code_page(Gpa{pages[1]});
    block.physical2 = pages[1];
    block.first_part = static_cast<std::uint8_t>(rest);
  }
  return keep(block, {run.insns.data(), 1}, {bytes.data(), run.bytes});
}

}  // namespace hv::softcpu

// The run loop: a block of decoded instructions at a time, with a look at the vCPU's signals
// before each; faults and restarts come back to run() by longjmp.
#include "softcpu/block_cache.h"
#include "softcpu/cpu.h"
#include "softcpu/overseer.h"

namespace hv::softcpu {

namespace {

constexpr std::uint64_t kNoPage = ~0ull;
constexpr std::uint64_t kNoJumps = ~0ull - 1;  // the tag of no entry of the jump cache
constexpr auto bit(Signal signal) { return static_cast<std::uint32_t>(signal); }
// A start-up IPI means nothing to a CPU that runs (SDM Vol. 3, "MP Initialization Protocol").
constexpr std::uint32_t kAlwaysLookedAt = ~(bit(Signal::kInterrupt) | bit(Signal::kSipi));
static_assert(bit(Signal::kInterrupt) == 1 && kIf == 1u << 9);

Exit exit_for(Activity activity) {
  return activity == Activity::kShutdown ? Exit::kTripleFault : Exit::kHalted;
}

// Translated code counts all instructions of a block as it enters it.
void count_back(std::uint64_t& counter, std::uint64_t by) {
  __atomic_store_n(&counter, counter - by, __ATOMIC_RELAXED);
}

}  // namespace

const Insn Cpu::kBetween{};

Exit Cpu::run() {
  enter_guest();
  // Nothing below may live in a local variable over a landing: all of it is in *this.
  const int landing = _setjmp(leave);
  retire_partial();
  if (landing == kLeft) {
    memory.epochs().leave(index);
    return Exit::kKicked;
  }
  executing_alone = landing == kRestart || (landing == 0 && one_only && !has_given_);
  if (landing == kFault && !take_exception()) slow.activity = Activity::kShutdown;
  if (landing == 0 && has_given_) take_given();
  if (landing == 0 && slow.accepted_interrupt != 0) take_accepted();
  const Exit exit = loop();
  retire_partial();
  settle_fpu();
  memory.epochs().leave(index);
  return exit;
}

void Cpu::run_one() {
  one_only = true;
  (void)run();
  one_only = false;
}

void Cpu::run_event(const Event& event) {
  inject(event);
  run_one();
}

void Cpu::take_given() {
  has_given_ = false;
  slow.activity = Activity::kRunning;
  if (given_.source == Source::kException) {
    pending = {given_.vector, given_.has_error, given_.error};
    if (!take_exception()) slow.activity = Activity::kShutdown;
    return;
  }
  if (given_.source == Source::kNmi) slow.nmi_blocked = true;
  system.delivering = true;
  system.delivering_exception = false;
  deliver(given_.vector, given_.source, given_.has_error, given_.error);
}

void Cpu::leave_run() {
  gpr[kRip] = instruction_start();
  system.external = 0;
  _longjmp(leave, kLeft);
}

// What retired of a block that was left in the middle; and none runs now.
void Cpu::retire_partial() {
  if (block_start_ != nullptr && insn >= block_start_)
    add_count(count.instructions, static_cast<std::uint64_t>(insn - block_start_));
  settle_flags();
  if (translated.site != nullptr) count_back(count.instructions, translated.site->remaining);
  translated.site = nullptr;
  block_start_ = nullptr;
  insn = &kBetween;
  running_page = kNoPage;
}

// Follows everything that an instruction of the system family or a delivery may have changed.
void Cpu::refresh() {
  code_base_ = long64 ? 0 : segments[kCs].base;
  rip_mask_ = long64 ? ~0ull : 0xffff'ffffull;
  code_end_ = long64 ? ~0ull : std::uint64_t{segments[kCs].limit} + 1;
  const std::uint64_t mode =
      static_cast<std::uint64_t>(code_size()) | (cpl == 3 ? BlockCache::kUserMode : 0u);
  if (mode != fetch_mode_) translated.forget_returns();
  fetch_mode_ = mode;
  // An NMI behind another waits for IRET, and nobody looks at it until then.
  const std::uint32_t always = kAlwaysLookedAt & ~(slow.nmi_blocked ? bit(Signal::kNmi) : 0u);
  translated.poll_mask = always | (static_cast<std::uint32_t>(system_flags >> 9) & 1);
  attention_ = slow_mode() || slow.interrupt_shadow || slow.activity != Activity::kRunning;
  // In attention mode translated code finds no way on, and leaves.
  translated.jump_tag = attention_ ? kNoJumps : blocks->tag(fetch_mode_);
}

inline Block* Cpu::next_block() {
  const std::uint64_t linear = (code_base_ + gpr[kRip]) & rip_mask_;
  Block* const block = blocks->jump(linear, fetch_mode_);
  if (block != nullptr && block->fresh()) [[likely]] return block;
  return find_outside(linear);
}

// Nothing runs while a block is looked for: a fault on the way is the fetch's.
Block* Cpu::find_outside(std::uint64_t linear) {
  running_page = kNoPage;
  insn = &kBetween;
  return find_block(linear);
}

inline void Cpu::execute(const Block& block) {
  const Insn* i = block.insns;
  const Insn* const end = i + block.count;
  running_page = block.guarded_page;
  block_start_ = i;
  std::uint64_t next = gpr[kRip];  // within a block only its last instruction may branch
  do {
    gpr[kRip] = next += i->length;
    insn = i;
    i->run(*this, *i);
  } while (++i != end);
  add_count(count.instructions, block.count);
  block_start_ = nullptr;
  if (block.changes_mode) [[unlikely]] refresh();
  gpr[kRip] &= rip_mask_;
}

// False: the block is to be interpreted.
inline bool Cpu::run_translated(Block& block) {
  if (!long64 || block.page2 != nullptr || !block.fresh()) return false;
  translator::Translation* const code = translator_->find(block, gpr[kRip]);
  if (code == nullptr) return false;
  take_flags_along();
  translated.jump_tag = blocks->tag(fetch_mode_);
  if (translator_->run(*code)) refresh();
  return true;
}

Exit Cpu::loop() {
  refresh();
  if (executing_alone) {
    execute_first(one_only ? *decode_alone() : *next_block());
    executing_alone = false;
  }
  if (one_only) return Exit::kKicked;
  for (;;) {
    const auto interrupts = static_cast<std::uint32_t>(system_flags >> 9) & 1;
    if ((signals.peek() & (kAlwaysLookedAt | interrupts)) != 0) [[unlikely]]
      if (const auto exit = look_at_signals()) return *exit;
    if (attention_) [[unlikely]] {
      if (const auto exit = step()) return *exit;
      continue;
    }
    Block& block = *next_block();
    if (translator_ != nullptr && run_translated(block)) continue;
    settle_flags();
    if (gpr[kRip] + block.bytes > code_end_) [[unlikely]]
      execute_first(block);
    else
      execute(block);
    if (translator_ != nullptr && translator_->full()) blocks->drop_all();
  }
}

// One instruction alone: one that overwrites its own block, the last before CS's limit, and every
// one in attention mode.
void Cpu::execute_first(const Block& block) {
  const Insn& i = *block.insns;
  insn = &kBetween;
  running_page = kNoPage;
  if (gpr[kRip] + i.length > code_end_) protection_fault();
  gpr[kRip] += i.length;
  block_start_ = insn = &i;
  const bool debug = slow_mode();
  if (debug) check_instruction_breakpoints();
  slow.interrupt_shadow = slow.shadow_blocks_debug = false;
  i.run(*this, i);
  add_count(count.instructions, 1);
  block_start_ = nullptr;
  insn = &kBetween;
  refresh();
  gpr[kRip] &= rip_mask_;
  if (debug || slow_mode()) after_instruction();
  refresh();
}

std::optional<Exit> Cpu::step() {
  if (slow.activity != Activity::kRunning) return exit_for(slow.activity);
  settle_flags();
  execute_first(*next_block());
  return std::nullopt;
}

std::optional<Exit> Cpu::look_at_signals() {
  settle_flags();
  insn = &kBetween;
  running_page = kNoPage;
  if (signals.has(Signal::kFlushTlb)) {
    signals.clear(Signal::kFlushTlb);
    flush_tlb(false);
  }
  if (signals.has(Signal::kProtectCode)) acknowledge_code_pages();
  if (signals.has(Signal::kInit)) return Exit::kInit;
  if (signals.has(Signal::kExit)) {
    signals.clear(Signal::kExit);
    return Exit::kKicked;
  }
  const bool sleeps_for_good =
      slow.activity == Activity::kShutdown || slow.activity == Activity::kWaitForSipi;
  if (sleeps_for_good || slow.interrupt_shadow) return std::nullopt;
  if (signals.has(Signal::kNmi) && !slow.nmi_blocked) {
    slow.activity = Activity::kRunning;
    take_nmi();
  } else if (signals.has(Signal::kInterrupt) && (system_flags & kIf) != 0) {
    if (take_interrupt()) slow.activity = Activity::kRunning;
  }
  refresh();
  gpr[kRip] &= rip_mask_;
  return std::nullopt;
}

// A vCPU that comes back has missed the signals of code pages made meanwhile: it acknowledges
// before it looks whether there were any, so that a decoder sees either it or none of its stores.
void Cpu::enter_guest() {
  CodeEpochs& epochs = memory.epochs();
  std::uint64_t now = epochs.current();
  for (;;) {
    epochs.acknowledge(index, now);
    const std::uint64_t again = epochs.current();
    if (again == now) break;
    now = again;
  }
  if (now != acknowledged_) drop_all_write_entries();
  acknowledged_ = now;
}

void Cpu::acknowledge_code_pages() {
  signals.clear(Signal::kProtectCode);
  const std::uint64_t now = memory.epochs().current();
  drop_all_write_entries();
  memory.epochs().acknowledge(index, now);
  acknowledged_ = now;
}

void Cpu::restart_alone() {
  gpr[kRip] -= insn->length;
  _longjmp(leave, kRestart);
}

void Cpu::shadow_interrupts(bool blocks_debug) {
  slow.interrupt_shadow = true;
  slow.shadow_blocks_debug = blocks_debug;
}

void Cpu::halt() { slow.activity = Activity::kHalted; }

void Cpu::flush_jump_cache() {
  blocks->flush_jumps();
  translated.forget_returns();
  translated.jump_tag = blocks->tag(fetch_mode_);
}

}  // namespace hv::softcpu

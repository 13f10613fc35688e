#include "softcpu/translator/block_translator.h"

#include <bit>

#include "softcpu/block_cache.h"
#include "softcpu/opcodes.h"
#include "softcpu/translator/flag_use.h"
#include "softcpu/translator/host.h"
#include "softcpu/translator/recurrence.h"

#if HV_TRANSLATOR
namespace hv::softcpu::translator {

namespace {

using Table = std::array<BlockTranslator::Emitter, static_cast<std::size_t>(Op::kCount)>;

const Table& emitters() {
  static const Table kTable = [] {
    Table table{};
    for (const auto part :
         {BlockTranslator::alu_emitters(), BlockTranslator::move_emitters(),
          BlockTranslator::shift_emitters(), BlockTranslator::branch_emitters(),
          BlockTranslator::simd_emitters(), BlockTranslator::x87_emitters(),
          BlockTranslator::system_emitters()})
      for (const auto& entry : part) table[static_cast<std::size_t>(entry.op)] = entry.emit;
    return table;
  }();
  return kTable;
}

// An instruction's longest code, twice over (hot and cold), and the block's frame.
constexpr std::size_t kRoomPerInsn = 512, kRoomForFrame = 1024;

constexpr std::size_t tag_offset(bool writes) {
  return writes ? offsetof(TlbEntry, write_tag) : offsetof(TlbEntry, read_tag);
}

// Of the system family, but for what says only where interrupts go or what a register is.
bool may_move_pages(Op op) {
  switch (op) {
    case Op::kCli: case Op::kSwapgs: case Op::kPushf: case Op::kRdtsc: case Op::kRdtscp:
    case Op::kMovRSreg: case Op::kMovRCr: case Op::kRdfsbase: case Op::kRdgsbase:
    case Op::kWrfsbase: case Op::kWrgsbase: case Op::kRdmsr: case Op::kCpuid:
      return false;
    default: return family(op) == Family::kSystem;
  }
}

}  // namespace

bool ignores_flags(const Insn& insn) {
  const auto between = [&insn](Op first, Op last) { return insn.op >= first && insn.op <= last; };
  if (insn.op == Op::kMovs || insn.op == Op::kStos || insn.op == Op::kLods) return true;
  if (insn.op == Op::kPause || insn.op == Op::kXlat || insn.op == Op::kDiv || insn.op == Op::kIdiv)
    return true;
  if (between(Op::kMovMr, Op::kLeave)) return true;
  if (family(insn.op) != Family::kSimd) return false;
  switch (insn.op) {
    case Op::kUcomiss: case Op::kUcomisd: case Op::kComiss: case Op::kComisd: case Op::kPtest:
    case Op::kPcmpestrm: case Op::kPcmpestri: case Op::kPcmpistrm: case Op::kPcmpistri:
      return false;
    default: return true;
  }
}

bool BlockTranslator::run(AccessPlan& plan, bool grouped) {
  if (out_.room() < count() * kRoomPerInsn + kRoomForFrame) return false;
  for (const Step& step : trace_.steps) has_system_ |= may_move_pages(step.insn->op);
  recurrent_ = recurrent_loads(trace_.steps, to_.rip);
  std::uint8_t* const begin = out_.here();
  const std::size_t sites = shared_.sites.size(), links = shared_.links.size();
  plan_ = &plan;
  plan.clear();
  if (!emit_all()) return false;
  if (!grouped || !plan.form(trace_.steps)) return true;
  start_again(begin, sites, links);
  grouping_ = true;
  return emit_all();
}

bool BlockTranslator::emit_all() {
  rip_ = to_.rip;
  emit_entry();
  for (index_ = 0; index_ < count(); ++index_) emit_instruction(insn());
  --index_;
  if (!ended_) finish_block();
  emit_cold();
  to_.end = out_.here();
  return !out_.overflowed();
}

void BlockTranslator::start_again(std::uint8_t* begin, std::size_t sites, std::size_t links) {
  out_.restart(begin);
  shared_.sites.resize(sites);
  shared_.links.resize(links);
  to_.links = nullptr;
  cold_.clear();
  in_host_ = ended_ = false;
  in_image_ = true;
  xmm_here_ = 0;
}

// ---- the frame ----------------------------------------------------------------------------------

void BlockTranslator::emit_entry() {
  to_.entry = out_.here();
  to_.self = {.target = to_.rip, .from = &to_};
  store_constant(&cpu_.running_page, block_.physical & kPageMask);
  to_.again = out_.here();
  Cold stale{Cold::Kind::kLink};
  stale.link = &to_.self;
  emit_checks(stale);
  cold_.push_back(stale);
  to_.body = out_.here();
  out_.alu_imm(Alu::kAdd, k64, in_cpu(&cpu_.count.instructions), count());
}

void BlockTranslator::emit_checks(Cold& stale) {
  out_.load_eax(cpu_.translated.pending);
  out_.test(k32, in_cpu(&cpu_.translated.poll_mask), kScratch);
  stale.add(out_.jcc(kNz));
  out_.load_eax(&block_.page->version);
  to_.version_place = out_.compare_eax(static_cast<std::uint32_t>(to_.live_version)).at;
  stale.add(out_.jcc(kNz));
}

// Spoils kScratch.
void BlockTranslator::store_constant(const void* member, std::uint64_t value) {
  const auto number = static_cast<std::int64_t>(value);
  if (number == static_cast<std::int32_t>(number)) return out_.mov_imm(k64, in_cpu(member), value);
  out_.load_imm(kScratch, value);
  out_.mov(k64, in_cpu(member), kScratch);
}

void BlockTranslator::emit_instruction(const Insn& insn) {
  rip_ += insn.length;
  site_ = nullptr;
  led_ = nullptr;
  leaves_by_handler_ = false;
  first_cold_ = cold_.size();
  const Emitter emit = emitters()[static_cast<std::size_t>(insn.op)];
  const bool off = shared_.off.test(static_cast<std::size_t>(insn.op));
  if (emit == nullptr || off || !(this->*emit)(insn)) call_handler(insn);
  for (std::size_t i = first_cold_; i < cold_.size(); ++i) {
    if (cold_[i].kind != Cold::Kind::kHandler) continue;
    cold_[i].resume = out_.here();
    cold_[i].reload_flags = in_host_;
    cold_[i].group = led_;
    cold_[i].slot = led_slot_;
  }
}

const Site* BlockTranslator::site() {
  if (site_ == nullptr)
    site_ = &shared_.sites.emplace_back(Site{&insn(), rip_, std::uint64_t{count() - index_}});
  return site_;
}

void BlockTranslator::call_handler(const Insn& insn) {
  save_flags();
  if (!grouping_) plan_->handler_at(index_);
  out_.load_imm(kScratch2, reinterpret_cast<std::uintptr_t>(site()));
  const Stubs& stubs = shared_.stubs;
  const bool for_mode = last() && trace_.changes_mode;
  Assembler::bind(out_.call(), for_mode              ? stubs.handler_for_mode
                               : ignores_flags(insn) ? stubs.handler
                                                     : stubs.handler_with_flags);
  flags_lost();
  if (family(insn.op) == Family::kSystem || insn.op == Op::kLdmxcsr) xmm_here_ = 0;
  if (!last()) return;
  ended_ = true;
  out_.mov(k64, kAddress, in_cpu(&cpu_.gpr[kRip]));
  look_up();
}

// The block ends because it was long enough, or the page ends.
void BlockTranslator::finish_block() {
  save_flags();
  go_to(rip_);
  ended_ = true;
}

void BlockTranslator::emit_cold() {
  for (std::size_t i = 0; i < cold_.size(); ++i) {
    const Cold cold = cold_[i];
    for (unsigned n = 0; n < cold.count; ++n) out_.bind(cold.from[n]);
    switch (cold.kind) {
      case Cold::Kind::kHandler: emit_cold_handler(cold); break;
      case Cold::Kind::kLoadXmm: emit_cold_xmm(cold); break;
      case Cold::Kind::kLookup:
        out_.load_imm(kAddress, cold.link->target);
        jump_to_address();
        break;
      case Cold::Kind::kExit: emit_cold_exit(cold); break;
      case Cold::Kind::kReturn:
        check_canonical(cold.site);
        release(cold.uncount);
        jump_to_address();
        break;
      case Cold::Kind::kLink:
        cold.link->unlinked = out_.here();
        if (cold.link == &to_.back) to_.back.code = shared_.cache.executable(out_.here());
        leave_by(*cold.link);
        break;
    }
  }
}

void BlockTranslator::emit_cold_handler(const Cold& cold) {
  if (cold.guess != nullptr) emit_cold_guess(cold);
  out_.load_imm(kScratch2, reinterpret_cast<std::uintptr_t>(cold.site));
  Assembler::bind(out_.call(),
                  cold.with_flags ? shared_.stubs.handler_with_flags : shared_.stubs.handler);
  if (cold.uncount != 0)
    out_.alu_imm(Alu::kSub, k64, in_cpu(&cpu_.count.instructions), cold.uncount);
  if (cold.may_change_mode) return leave(kLeftForMode);
  if (cold.leaves) {
    Assembler::bind(out_.jmp(), shared_.stubs.leave_at_rip);
    return;
  }
  if (cold.group != nullptr) emit_cold_group(cold);
  if (cold.reload_flags) {
    in_host_ = false;
    flags_to_host();
  }
  Assembler::bind(out_.jmp(), cold.resume);
}

// Where they cannot be had, the handler raises what is due, or computes with unmasked exceptions.
void BlockTranslator::emit_cold_xmm(const Cold& cold) {
  Assembler::bind(out_.call(), shared_.stubs.load_xmm);
  out_.test_imm(k8, in_cpu(&cpu_.translated.xmm_here), cold.needs);
  Assembler::bind(out_.jcc(kNz), cold.resume);
  emit_cold_handler(cold);
}

// The leader's access is done; its page is looked for once more, for the others. Where they lie in
// two pages, or in one that has to be accessed by handlers, the next instruction begins a new run.
void BlockTranslator::emit_cold_group(const Cold& cold) {
  const Group& group = *cold.group;
  const Use range{.base = group.base, .index = group.index, .scale = group.scale};
  address_of(range, group.first - group.moved);
  look_for_page(group.last - group.first, 0, group.writes);
  const Fixup found = out_.jcc(kZ);
  const auto left = static_cast<std::uint32_t>(cold.site->remaining - 1);
  if (left != 0) out_.alu_imm(Alu::kSub, k64, in_cpu(&cpu_.count.instructions), left);
  leave(reinterpret_cast<std::uintptr_t>(&to_) + kLeftForSplit);
  out_.bind(found);
  out_.mov(k64, kScratch, Rm::at(kScratch, offsetof(TlbEntry, addend)));
  out_.mov(k64, in_cpu(&cpu_.translated.addends[cold.slot]), kScratch);
}

// ---- flags --------------------------------------------------------------------------------------

void BlockTranslator::save_flags() {
  if (in_image_) return;
  out_.lahf();
  out_.setcc(kO, Rm::reg(Host::kRax));
  out_.mov(k16, in_cpu(&cpu_.translated.flags_image), Host::kRax);
  in_image_ = true;
}

// ADD makes OF from AL; SAHF the others.
void BlockTranslator::flags_to_host() {
  if (in_host_) return;
  out_.movzx(k32, Host::kRax, in_cpu(&cpu_.translated.flags_image), k16);
  out_.alu_imm(Alu::kAdd, k8, Rm::reg(Host::kRax), 0x7f);
  out_.sahf();
  in_host_ = true;
}

void BlockTranslator::old_flags_to_host() {
  if (flags_matter(trace_.steps, index_)) flags_to_host();
}

// ---- registers ----------------------------------------------------------------------------------

std::int32_t BlockTranslator::offset(const void* member) const {
  const auto* const base = reinterpret_cast<const std::uint8_t*>(&cpu_.gpr[0]) + kBaseBias;
  return static_cast<std::int32_t>(static_cast<const std::uint8_t*>(member) - base);
}

Host BlockTranslator::value_of(unsigned number, Host spare) {
  if (pinned(number)) return kHome[number];
  out_.mov(k64, spare, guest(number));
  return spare;
}

void BlockTranslator::set_guest(unsigned number, Size size, Host value) {
  if (pinned(number)) return out_.mov(size, kHome[number], Rm::reg(value));
  if (size != k32) return out_.mov(size, guest(number), value);
  out_.mov(k32, kScratch, Rm::reg(value));
  out_.mov(k64, guest(number), kScratch);
}

Rm BlockTranslator::high_to_memory(unsigned number) {
  const unsigned whole = number - kAh;  // RAX, RCX, RDX, RBX, in this order
  Rm at = in_cpu(&cpu_.gpr[whole]);
  out_.mov(k64, at, kHome[whole]);
  at.disp += 1;
  return at;
}
void BlockTranslator::high_from_memory(unsigned number) {
  const unsigned whole = number - kAh;
  out_.mov(k64, kHome[whole], in_cpu(&cpu_.gpr[whole]));
}

// ---- memory -------------------------------------------------------------------------------------

// In kAddress, without the segment's base.
void BlockTranslator::effective_address(const Insn& i) {
  const Size width = i.address == k32 ? k32 : k64;
  if (i.base == kRip) {
    const std::uint64_t at = rip_ + static_cast<std::uint64_t>(std::int64_t{i.disp});
    return out_.load_imm(kAddress, width == k32 ? at & 0xffff'ffff : at);
  }
  const bool has_base = i.base != kNoRegister, has_index = i.index != kNoRegister;
  if (!has_base && !has_index) {
    const auto at = static_cast<std::uint64_t>(std::int64_t{i.disp});
    return out_.load_imm(kAddress, width == k32 ? at & 0xffff'ffff : at);
  }
  const Host base = has_base ? value_of(i.base, kAddress) : kAddress;
  if (!has_index) {
    if (i.disp == 0) return out_.mov(width, kAddress, Rm::reg(base));
    return out_.lea(width, kAddress, Rm::at(base, i.disp));
  }
  const Host index = value_of(i.index, kScratch2);
  out_.lea(width, kAddress, has_base ? Rm::indexed(base, index, i.scale, i.disp)
                                     : Rm::scaled(index, i.scale, i.disp));
}

// 64-bit code knows no base but those of FS and GS.
void BlockTranslator::add_segment_base(unsigned segment) {
  if (segment == kFs || segment == kGs)
    out_.alu(Alu::kAdd, k64, kAddress, in_cpu(&cpu_.windows[segment].base));
}

void BlockTranslator::access(const Insn& i, unsigned bytes, Access kind, bool aligned) {
  if (access_grouped(use_of(i, bytes, kind), aligned)) return;
  save_flags();
  flags_lost();
  effective_address(i);
  add_segment_base(i.segment);
  access_linear(bytes, kind, aligned);
}

void BlockTranslator::access_stack(unsigned base, std::int32_t offset, Access kind) {
  const Use use{.base = static_cast<std::uint8_t>(base), .offset = offset, .bytes = 8,
                .writes = kind == Access::kWrite, .groupable = true};
  if (access_grouped(use, false)) return;
  save_flags();
  flags_lost();
  address_of(use, offset);
  access_linear(8, kind);
}

// As access::hits() of memory_access.h. `aligned`: what is not aligned misses too.
void BlockTranslator::access_linear(unsigned bytes, Access kind, bool aligned) {
  save_flags();
  flags_lost();
  const std::uint64_t alignment = aligned ? bytes - 1 : 0;
  Cold missed = miss();
  const bool waits = (recurrent_ >> index_ & 1) != 0;
  if (waits && kind == Access::kRead && std::has_single_bit(bytes))
    guess_page(bytes, alignment, missed);
  else
    look_for_page(bytes, alignment, kind == Access::kWrite);
  missed.add(out_.jcc(kNz));
  missed.found = out_.here();
  add_cold(missed);
  out_.alu(Alu::kAdd, k64, kAddress,
           Rm::at(kScratch, static_cast<std::int32_t>(offsetof(TlbEntry, addend))));
  memory_ = Rm::at(kAddress);
}

// Compares; kScratch is the TLB's entry. `alignment`: bits of the last byte's address that are
// compared with 0.
void BlockTranslator::look_for_page(std::int64_t bytes, std::uint64_t alignment, bool writes) {
  find_entry();
  out_.alu(Alu::kAdd, k64, kScratch, in_cpu(cpu_.tlb.current_slot()));
  page_of_last_byte(bytes, alignment);
  compare_tag(tag_offset(writes));
}

// As look_for_page() for a load, where the last turn found it: so only the comparison waits for the
// address, and the load no longer for the entry. The place found last says nothing of the first
// byte's page; so what is not aligned, and may lie in two, looks as others do.
void BlockTranslator::guess_page(unsigned bytes, std::uint64_t alignment, Cold& missed) {
  missed.guess = &cpu_.translated.guesses[shared_.next_guess++ % State::kGuesses];
  missed.bytes = bytes;
  missed.alignment = alignment;
  out_.mov(k32, kScratch, in_cpu(missed.guess));
  out_.alu(Alu::kAdd, k64, kScratch, in_cpu(cpu_.tlb.current_slot()));
  page_of_last_byte(bytes, bytes - 1);
  compare_tag(tag_offset(false));
}

// The place of the TLB's entry for kAddress, to kScratch.
void BlockTranslator::find_entry() {
  static_assert(sizeof(TlbEntry) == 32 && Tlb::kEntries == 1024);
  out_.mov(k32, kScratch, Rm::reg(kAddress));
  out_.shift_imm(Shift::kShr, k32, Rm::reg(kScratch), 7);
  out_.alu_imm(Alu::kAnd, k32, Rm::reg(kScratch), (Tlb::kEntries - 1) * sizeof(TlbEntry));
}

void BlockTranslator::page_of_last_byte(std::int64_t bytes, std::uint64_t alignment) {
  if (bytes == 1 || alignment != 0)
    out_.mov(kScratch2, kAddress);
  else
    out_.lea(k64, kScratch2, Rm::at(kAddress, static_cast<std::int32_t>(bytes) - 1));
  out_.alu_imm(Alu::kAnd, k64, Rm::reg(kScratch2), kPageMask | alignment);
}

void BlockTranslator::compare_tag(std::size_t tag) {
  out_.alu(Alu::kCmp, k64, kScratch2, Rm::at(kScratch, static_cast<std::int32_t>(tag)));
}

// The guess was wrong: the entry is where the address says, or this is a miss.
void BlockTranslator::emit_cold_guess(const Cold& cold) {
  find_entry();
  out_.mov(k32, in_cpu(cold.guess), kScratch);
  out_.alu(Alu::kAdd, k64, kScratch, in_cpu(cpu_.tlb.current_slot()));
  page_of_last_byte(cold.bytes, cold.alignment);
  compare_tag(tag_offset(false));
  Assembler::bind(out_.jcc(kZ), cold.found);
}

BlockTranslator::Cold BlockTranslator::miss() {
  Cold missed{Cold::Kind::kHandler};
  missed.site = site();
  missed.with_flags = !ignores_flags(insn());
  missed.leaves = leaves_by_handler_;
  return missed;
}

// ---- groups of accesses (access_plan.h) -----------------------------------------------------------

Use BlockTranslator::use_of(const Insn& i, unsigned bytes, Access kind) const {
  Use use{.insn = static_cast<std::uint8_t>(index_), .base = i.base, .index = i.index,
          .scale = i.scale, .offset = i.disp, .bytes = static_cast<std::uint16_t>(bytes),
          .writes = kind == Access::kWrite};
  use.groupable = i.address == k64 && i.segment != kFs && i.segment != kGs;
  if (i.base == kRip) {
    use.base = kNoRegister;
    use.offset += static_cast<std::int64_t>(rip_);
  }
  return use;
}

bool BlockTranslator::access_grouped(Use use, bool aligned) {
  use.insn = static_cast<std::uint8_t>(index_);
  if (!grouping_) {
    plan_->add(use);
    return false;
  }
  const AccessPlan::Role role = plan_->next(index_);
  if (role.group == nullptr) return false;
  if (role.leads) {
    access_leader(use, role, aligned);
    return true;
  }
  if (!aligned) {
    access_member(use, role.slot);
    return true;
  }
  save_flags();
  flags_lost();
  address_of(use, use.offset);
  out_.test_imm(k8, Rm::reg(kAddress), use.bytes - 1u);
  Cold fails = miss();
  fails.add(out_.jcc(kNz));
  add_cold(fails);
  out_.alu(Alu::kAdd, k64, kAddress, in_cpu(&cpu_.translated.addends[role.slot]));
  memory_ = Rm::at(kAddress);
  return true;
}

// base + index << scale + offset, to kAddress.
void BlockTranslator::address_of(const Use& use, std::int64_t offset) {
  const bool has_base = use.base != kNoRegister, has_index = use.index != kNoRegister;
  if (!has_base && !has_index)
    return out_.load_imm(kAddress, static_cast<std::uint64_t>(offset));
  const auto disp = static_cast<std::int32_t>(offset);
  const Host base = has_base ? value_of(use.base, kAddress) : kAddress;
  if (!has_index) return out_.lea(k64, kAddress, Rm::at(base, disp));
  const Host index = value_of(use.index, kScratch2);
  out_.lea(k64, kAddress, has_base ? Rm::indexed(base, index, use.scale, disp)
                                   : Rm::scaled(index, use.scale, disp));
}

// Checks the whole range, and keeps the page's addend for the others.
void BlockTranslator::access_leader(const Use& use, const AccessPlan::Role& role, bool aligned) {
  const Group& group = *role.group;
  const std::int64_t ahead = group.leader - group.first;
  save_flags();
  flags_lost();
  Cold missed = miss();
  led_ = &group;
  led_slot_ = role.slot;
  address_of(use, use.offset - ahead);
  if (aligned) {
    out_.lea(k32, kScratch, Rm::at(kAddress, static_cast<std::int32_t>(ahead)));
    out_.test_imm(k8, Rm::reg(kScratch), use.bytes - 1u);
    missed.add(out_.jcc(kNz));
  }
  look_for_page(group.last - group.first, 0, group.writes);
  missed.add(out_.jcc(kNz));
  add_cold(missed);
  out_.mov(k64, kScratch, Rm::at(kScratch, offsetof(TlbEntry, addend)));
  out_.mov(k64, in_cpu(&cpu_.translated.addends[role.slot]), kScratch);
  if (ahead == 0)
    out_.lea(k64, kAddress, Rm::indexed(kAddress, kScratch, 0, 0));
  else
    out_.lea(k64, kAddress, Rm::indexed(kAddress, kScratch, 0, static_cast<std::int32_t>(ahead)));
  memory_ = Rm::at(kAddress);
}

// Keeps the flags. The host has an operand of the same shape for a base alone.
void BlockTranslator::access_member(const Use& use, unsigned slot) {
  const Rm addend = in_cpu(&cpu_.translated.addends[slot]);
  if (use.base != kNoRegister && use.index == kNoRegister && pinned(use.base)) {
    out_.mov(k64, kAddress, addend);
    memory_ = Rm::indexed(kAddress, kHome[use.base], 0, static_cast<std::int32_t>(use.offset));
    return;
  }
  address_of(use, use.offset);
  out_.mov(k64, kScratch, addend);
  out_.lea(k64, kAddress, Rm::indexed(kAddress, kScratch, 0, 0));
  memory_ = Rm::at(kAddress);
}

Rm BlockTranslator::operand(const Insn& i, Size size, Access kind) {
  if (i.memory == 0) return guest(i.rm);
  access(i, 1u << size, kind);
  return memory();
}

// ---- leaving ------------------------------------------------------------------------------------

void BlockTranslator::leave(std::uintptr_t why) {
  if (why == kLeftAtRip) return Assembler::bind(out_.jmp(), shared_.stubs.leave_at_rip);
  out_.load_imm(kScratch, why);
  Assembler::bind(out_.jmp(), shared_.stubs.leave);
}

// Whether a jump there may be linked straight to it: within the page, whose mapping and version are
// the same for both.
bool BlockTranslator::linkable(std::uint64_t target) const {
  return ((target ^ to_.rip) & kPageMask) == 0 && !has_system_;
}

// Without the checks it goes only a little ahead, so that no chain of blocks goes on for long
// without them.
Link& BlockTranslator::new_link(std::uint64_t target) {
  constexpr std::uint64_t kStretch = 1024;
  Link& link = shared_.links.emplace_back();
  link.target = target;
  link.from = &to_;
  link.checks = target <= insn_rip() || target / kStretch != insn_rip() / kStretch;
  link.next = to_.links;
  to_.links = &link;
  return link;
}

void BlockTranslator::link_to(std::uint64_t target, Fixup place) {
  Link& link = new_link(target);
  const bool linked = linkable(target);
  if (linked) link.place = place.at;
  Cold cold{linked ? Cold::Kind::kLink : Cold::Kind::kLookup};
  cold.add(place);
  cold.link = &link;
  cold_.push_back(cold);
}

void BlockTranslator::go_to(std::uint64_t target) { link_to(target, out_.jmp()); }

void BlockTranslator::go_to_if(Condition code, std::uint64_t target) {
  link_to(target, out_.jcc(code));
}

void BlockTranslator::exit_if(Condition code, std::uint64_t target) {
  Cold cold{Cold::Kind::kExit};
  cold.add(out_.jcc(code));
  cold.saves_flags = !in_image_;
  cold.uncount = count() - index_ - 1;
  cold.link = &new_link(target);
  cold_.push_back(cold);
}

// What the trace's head and the instructions before the exit have left undone or done too early.
void BlockTranslator::emit_cold_exit(const Cold& cold) {
  if (cold.saves_flags) {
    in_image_ = false;
    save_flags();
  }
  out_.alu_imm(Alu::kSub, k64, in_cpu(&cpu_.count.instructions), cold.uncount);
  if (!linkable(cold.link->target)) {
    out_.load_imm(kAddress, cold.link->target);
    return jump_to_address();
  }
  const Fixup place = out_.jmp();
  out_.bind(place);
  cold.link->place = place.at;
  cold.link->unlinked = out_.here();
  leave_by(*cold.link);
}

void BlockTranslator::leave_by(Link& link) {
  out_.load_imm(kScratch, reinterpret_cast<std::uintptr_t>(&link));
  Assembler::bind(out_.jmp(), shared_.stubs.leave);
}

void BlockTranslator::jump_to_address() {
  out_.mov(k64, in_cpu(&cpu_.gpr[kRip]), kAddress);
  look_up();
}

// The jump cache: BlockCache::jump().
void BlockTranslator::look_up() {
  out_.mov(kScratch, kAddress);
  out_.shift_imm(Shift::kShr, k64, Rm::reg(kScratch), 12);
  out_.alu(Alu::kXor, k32, kScratch, Rm::reg(kAddress));
  out_.alu_imm(Alu::kAnd, k32, Rm::reg(kScratch), cpu_.blocks->jump_table().mask);
  static_assert(sizeof(Jump) == 32);
  out_.shift_imm(Shift::kShl, k32, Rm::reg(kScratch), 5);
  out_.alu(Alu::kAdd, k64, kScratch, in_cpu(&cpu_.translated.jumps));
  out_.mov(k64, kScratch2, in_cpu(&cpu_.translated.jump_tag));
  out_.alu(Alu::kCmp, k64, Rm::at(kScratch, offsetof(Jump, linear)), kAddress);
  Assembler::bind(out_.jcc(kNz), shared_.stubs.leave_at_rip);
  out_.alu(Alu::kCmp, k64, Rm::at(kScratch, offsetof(Jump, tag)), kScratch2);
  Assembler::bind(out_.jcc(kNz), shared_.stubs.leave_at_rip);
  out_.jmp(Rm::at(kScratch, offsetof(Jump, code)));
}

}  // namespace hv::softcpu::translator
#endif

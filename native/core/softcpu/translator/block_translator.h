// Translates one block. Instructions become host code one after the other; what only a TLB miss or
// a fault needs is put behind the block ("cold").
//
// The host's arithmetic flags are the guest's after an instruction that sets them, for as long as
// nothing else disturbs them. Before anything does (an access to memory compares tags), or the
// block ends, they are saved in State::flags_image; a result that the next instruction overwrites
// is so never saved. At every access and every call of a handler the image is right.
#pragma once
#include <array>
#include <bitset>
#include <vector>

#include "softcpu/block_cache.h"
#include "softcpu/cpu.h"
#include "softcpu/translator/access_plan.h"
#include "softcpu/translator/stubs.h"
#include "softcpu/translator/translation.h"

namespace hv::softcpu::translator {

// What all blocks of one CPU share.
struct Shared {
  Cpu& cpu;
  CodeCache& cache;
  Stubs& stubs;
  std::deque<Site>& sites;
  std::deque<Link>& links;
  unsigned& next_guess;
  const std::bitset<static_cast<std::size_t>(Op::kCount)>& off;
};

enum class Access : std::uint8_t { kRead, kWrite };

class BlockTranslator {
 public:
  // What a miss or a fault needs, behind the block.
  struct Cold {
    enum class Kind : std::uint8_t { kHandler, kLink, kLookup, kLoadXmm, kReturn, kExit } kind;
    std::array<Fixup, 4> from{};
    unsigned count = 0;
    const Site* site = nullptr;
    bool with_flags = false;     // the handler's operation knows of flags
    bool leaves = false;         // the handler has set RIP: nothing to resume
    bool may_change_mode = false;  // … and the mode
    bool saves_flags = false;    // kExit: they are in the host alone
    bool reload_flags = false;   // the hot path has the flags in the host
    std::uint8_t needs = 0;      // kLoadXmm: what must be there then
    std::uint32_t uncount = 0;  // instructions behind it that do not run; kReturn: bytes released
    std::uint8_t* resume = nullptr;
    Link* link = nullptr;
    const Group* group = nullptr;  // that the instruction leads
    unsigned slot = 0;
    std::uint32_t* guess = nullptr;  // set: the entry may be elsewhere in the TLB,
    std::uint8_t* found = nullptr;   // … and the access goes on there
    unsigned bytes = 0;              // of that access, and …
    std::uint64_t alignment = 0;     // … as look_for_page() wants it
    void add(Fixup place) { from[count++] = place; }
  };

  // `cold`: room that is kept from block to block.
  BlockTranslator(Shared& shared, Assembler& out, Block& block, const Trace& trace, Translation& to,
                  std::vector<Cold>& cold)
      : shared_(shared), cpu_(shared.cpu), out_(out), block_(block), trace_(trace), to_(to),
        cold_(cold) {}
  // False: it did not fit. `grouped`: accesses may share a look into the TLB.
  bool run(AccessPlan& plan, bool grouped);

  // An emitter translates one instruction, or answers false and has written nothing.
  using Emitter = bool (BlockTranslator::*)(const Insn&);
  struct Entry {
    Op op;
    Emitter emit;
  };
  static std::span<const Entry> alu_emitters();
  static std::span<const Entry> move_emitters();
  static std::span<const Entry> shift_emitters();
  static std::span<const Entry> branch_emitters();
  static std::span<const Entry> simd_emitters();
  static std::span<const Entry> x87_emitters();
  static std::span<const Entry> system_emitters();

 private:
  // ---- the frame (block_translator.cc)
  bool emit_all();
  void start_again(std::uint8_t* begin, std::size_t sites, std::size_t links);
  void emit_entry();
  void emit_checks(Cold& stale);
  void emit_instruction(const Insn& insn);
  void add_cold(const Cold& cold) { cold_.push_back(cold); }
  void emit_cold();
  void emit_cold_handler(const Cold& cold);
  void emit_cold_xmm(const Cold& cold);
  void emit_cold_group(const Cold& cold);
  void emit_cold_guess(const Cold& cold);
  void finish_block();
  const Site* site();
  void call_handler(const Insn& insn);
  unsigned count() const { return static_cast<unsigned>(trace_.steps.size()); }
  const Insn& insn() const { return *trace_.steps[index_].insn; }
  bool last() const { return index_ + 1u == count(); }
  std::uint64_t insn_rip() const { return rip_ - insn().length; }

  // ---- flags
  void save_flags();
  void flags_to_host();
  void old_flags_to_host();  // for an instruction that keeps some, or may do so
  void flags_lost() { in_host_ = false; }
  void flags_written() {
    in_host_ = true;
    in_image_ = false;
  }

  // ---- the Cpu's members and guest registers
  std::int32_t offset(const void* member) const;
  Rm in_cpu(const void* member) const { return Rm::at(kCpuBase, offset(member)); }
  Rm guest(unsigned number) const {
    return pinned(number) ? Rm::reg(kHome[number]) : in_cpu(&cpu_.gpr[number]);
  }
  // The whole register, in its home or loaded to `spare`.
  Host value_of(unsigned number, Host spare);
  // `value` becomes the register's low part; 32 bits clear the upper half.
  void set_guest(unsigned number, Size size, Host value);
  // After an operation of at least 32 bits, or a merging one, on what value_of() gave.
  void put_back(unsigned number, Host value) {
    if (!pinned(number)) out_.mov(k64, guest(number), value);
  }
  // Byte registers above 15 are AH to BH.
  static bool high_byte(Size size, unsigned number) { return size == k8 && number >= 16; }

  // AH to BH as bytes of the Cpu's own copy of their register, where encodings with REX reach them;
  // and the register back from there. Both keep the flags.
  Rm high_to_memory(unsigned number);
  void high_from_memory(unsigned number);

  // ---- guest memory: memory() is the host's operand then. Saves the flags, and loses them (but
  // not where a group's leader has looked already).
  void effective_address(const Insn& insn);
  void access(const Insn& insn, unsigned bytes, Access kind, bool aligned = false);
  void access_stack(unsigned base, std::int32_t offset, Access kind);  // 8 bytes
  void access_linear(unsigned bytes, Access kind, bool aligned = false);  // of what is in kAddress
  void add_segment_base(unsigned segment);
  Rm memory() const { return memory_; }
  Use use_of(const Insn& insn, unsigned bytes, Access kind) const;
  // Access by groups; false: this one goes alone.
  bool access_grouped(Use use, bool aligned);
  void access_leader(const Use& use, const AccessPlan::Role& role, bool aligned);
  void access_member(const Use& use, unsigned slot);
  void address_of(const Use& use, std::int64_t offset);
  void look_for_page(std::int64_t bytes, std::uint64_t alignment, bool writes);
  void guess_page(unsigned bytes, std::uint64_t alignment, Cold& missed);
  void find_entry();
  void page_of_last_byte(std::int64_t bytes, std::uint64_t alignment);
  void compare_tag(std::size_t tag);
  Cold miss();

  // ---- leaving the block
  void go_to(std::uint64_t target);
  void go_to_if(Condition code, std::uint64_t target);
  void exit_if(Condition code, std::uint64_t target);  // from the middle of the trace
  void link_to(std::uint64_t target, Fixup place);
  void emit_cold_exit(const Cold& cold);
  Link& new_link(std::uint64_t target);
  bool linkable(std::uint64_t target) const;
  void look_up();            // RIP is in kAddress and in gpr[kRip]
  void jump_to_address();    // to what is in kAddress, which is canonical
  void check_canonical(const Site* site);
  void leave_by(Link& link);
  void release(std::uint64_t bytes);  // RSP, by a RET
  void remember_return();  // for RET; spoils the scratch registers
  void store_constant(const void* member, std::uint64_t value);
  void leave(std::uintptr_t why);

  // ---- emitters
  bool alu_mr(const Insn& insn);
  bool alu_rm(const Insn& insn);
  bool alu_mi(const Insn& insn);
  bool test_mr(const Insn& insn);
  bool test_mi(const Insn& insn);
  bool not_neg(const Insn& insn);
  bool inc_dec(const Insn& insn);
  bool multiply(const Insn& insn);
  void check_quotient(const Insn& insn);
  bool divide(const Insn& insn);
  bool imul_rm(const Insn& insn);
  bool imul_rmi(const Insn& insn);
  bool widen(const Insn& insn);
  bool sign_to_rdx(const Insn& insn);
  bool mov_mr(const Insn& insn);
  bool mov_rm(const Insn& insn);
  bool mov_mi(const Insn& insn);
  bool mov_ri(const Insn& insn);
  bool extend(const Insn& insn);
  bool lea(const Insn& insn);
  bool xchg_mr(const Insn& insn);
  bool xchg_ar(const Insn& insn);
  bool bswap(const Insn& insn);
  bool cmov(const Insn& insn);
  bool setcc(const Insn& insn);
  bool push_r(const Insn& insn);
  bool push_m(const Insn& insn);
  bool push_i(const Insn& insn);
  bool pop_r(const Insn& insn);
  bool leave_frame(const Insn& insn);
  bool nop(const Insn& insn);
  bool fence(const Insn& insn);
  bool change_carry(const Insn& insn);
  bool shift_mi(const Insn& insn);
  bool shift_mc(const Insn& insn);
  bool shift_double(const Insn& insn);
  bool bit_mi(const Insn& insn);
  bool bit_mr(const Insn& insn);
  bool scan(const Insn& insn);
  bool popcnt(const Insn& insn);
  bool xadd(const Insn& insn);
  bool cmpxchg(const Insn& insn);
  bool jcc(const Insn& insn);
  bool jmp(const Insn& insn);
  bool jmp_m(const Insn& insn);
  bool call(const Insn& insn);
  bool call_m(const Insn& insn);
  bool ret(const Insn& insn);
  bool sse_integer(const Insn& insn);
  bool sse_float(const Insn& insn);
  bool sse_shift_imm(const Insn& insn);
  bool sse_compare(const Insn& insn);
  bool sse_test(const Insn& insn);
  bool sse_from_integer(const Insn& insn);
  bool sse_to_integer(const Insn& insn);
  bool sse_mask(const Insn& insn);
  bool sse_load(const Insn& insn);
  bool sse_store(const Insn& insn);
  bool sse_load_low(const Insn& insn);
  bool sse_store_low(const Insn& insn);
  bool sse_half(const Insn& insn);
  bool sse_store_half(const Insn& insn);
  bool sse_insert(const Insn& insn);
  bool sse_extract(const Insn& insn);
  bool movd_to_xmm(const Insn& insn);
  bool movd_from_xmm(const Insn& insn);
  void need_xmm(std::uint8_t what);
  void sse_two(const Insn& insn, const Row& row);
  void access_xmm(const Insn& insn, unsigned bytes, bool aligned, Access kind);
  Rm xmm_operand(const Insn& insn, const Row& row);
  // The x87 is in the host's registers, or the handler runs instead.
  void need_fpu();
  void x87_operation(const Insn& insn, Rm operand);
  void note_x87(const Insn& insn);
  bool x87_register(const Insn& insn);
  bool x87_memory(const Insn& insn);
  bool x87_to_flags(const Insn& insn);
  bool x87_by_flags(const Insn& insn);
  bool x87_status(const Insn& insn);
  bool x87_store_control(const Insn& insn);
  bool x87_load_control(const Insn& insn);
  void need_cpl0();  // or the handler
  bool cli(const Insn& insn);
  bool swapgs(const Insn& insn);
  bool pushf(const Insn& insn);
  void push_return(Host spare);
  // The r/m operand as a host operand; memory is accessed.
  Rm operand(const Insn& insn, Size size, Access kind = Access::kRead);

  Shared& shared_;
  Cpu& cpu_;
  Assembler& out_;
  Block& block_;  // the trace's first
  const Trace& trace_;
  Translation& to_;
  unsigned index_ = 0;          // of the instruction that is translated
  std::uint64_t rip_ = 0;       // after it
  const Site* site_ = nullptr;  // its own, once it needs one
  bool in_host_ = false, in_image_ = true;
  std::uint64_t recurrent_ = 0;  // of the steps: recurrence.h
  bool has_system_ = false;     // linear addresses may lie elsewhere at the block's end
  bool ended_ = false;          // the block's exits are written
  bool leaves_by_handler_ = false;  // a miss of this instruction sets RIP
  std::uint8_t xmm_here_ = 0;   // what is known of State::xmm_here
  Rm memory_ = Rm::at(kAddress);
  AccessPlan* plan_ = nullptr;
  bool grouping_ = false;       // the plan is made
  const Group* led_ = nullptr;  // by the instruction that is translated
  unsigned led_slot_ = 0;
  std::vector<Cold>& cold_;
  std::size_t first_cold_ = 0;  // of this instruction
};

// Whether an x87 operation has an emitter, and is so worth bringing the x87 for.
bool wants_fpu(const Insn& insn);

// Whether the handler of this operation neither reads nor writes arithmetic flags.
bool ignores_flags(const Insn& insn);

}  // namespace hv::softcpu::translator

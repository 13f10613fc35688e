// One software x86-64 CPU. The hot state lies here, in the layout that handlers want; CpuState
// (accel/cpu_state.h) is the form that is saved and shown.
//
// The contract of a handler, `void handler(Cpu&, const Insn&)`:
//   On entry gpr[kRip] is the address of the next instruction, cpu.insn the instruction itself.
//   It may fault at any guest access or by raise(): neither returns. So a handler changes
//   registers, flags and RIP only after its last access that can fault; a string operation
//   commits each iteration whole. raise() takes RIP back to the instruction by its length, which
//   is why RIP is written last.
//   A store into the block of code that runs is undone in the same way: the access does not
//   return, and the instruction runs again alone. Nothing to do for it but the rule above.
// Handlers are plain functions without destructors to run: faults leave by longjmp.
#pragma once
#include <atomic>
#include <csetjmp>
#include <cstdint>
#include <memory>
#include <optional>

#include "accel/accelerator.h"
#include "accel/cpu_state.h"
#include "softcpu/decoder.h"
#include "softcpu/flags.h"
#include "softcpu/insn.h"
#include "softcpu/opcode_row.h"
#include "softcpu/system_state.h"
#include "softcpu/tlb.h"
#include "softcpu/translator/host_fpu.h"
#include "softcpu/translator/state.h"
#include "softcpu/translator/translator.h"

namespace hv::softcpu {

enum Gpr : std::uint8_t {
  kRax, kRcx, kRdx, kRbx, kRsp, kRbp, kRsi, kRdi, kR8, kR9, kR10, kR11, kR12, kR13, kR14, kR15
};

// SDM Vol. 3, "Protected-Mode Exceptions and Interrupts".
enum class Vector : std::uint8_t {
  kDe = 0, kDb = 1, kNmi = 2, kBp = 3, kOf = 4, kBr = 5, kUd = 6, kNm = 7, kDf = 8, kTs = 10,
  kNp = 11, kSs = 12, kGp = 13, kPf = 14, kMf = 16, kAc = 17, kMc = 18, kXm = 19
};

enum class AccessKind : std::uint8_t { kRead, kWrite, kExecute };

// Other threads read the counters while the vCPU's own, the only writer, runs.
inline void add_count(std::uint64_t& counter, std::uint64_t by = 1) {
  __atomic_store_n(&counter, counter + by, __ATOMIC_RELAXED);
}

class BlockCache;
class Overseer;
struct Block;

class Cpu final : public Vcpu {
 public:
  Cpu(const VcpuWiring& wiring, GuestMemory& memory,
      const TranslatorOptions& options = TranslatorOptions::from_environment());
  ~Cpu() override;

  Exit run() override;
  // One instruction, its exception included, decoded anew; looks at no signal. For accelerators
  // whose hardware could not run it.
  void run_one();
  CpuState state() const override;
  void set_state(const CpuState& state) override;
  VcpuCounters counters() const override;

  // ---- hot state ----------------------------------------------------------------------------
  std::uint64_t gpr[18] = {};  // [kNoRegister] is always 0, [kRip] see above
  LazyFlags flags;             // CF PF AF ZF SF OF; the rest of RFLAGS is in `system_flags`
  std::uint64_t system_flags = 2;  // RFLAGS without the six arithmetic flags
  const Insn* insn = nullptr;
  translator::State translated;  // while translated code runs, its `flags_image` stands for `flags`
  Segment segments[kSegCount];
  // What read() and write() know of a segment: `base`, and the offsets after the last readable
  // and writable byte (0: look closer). Follows segments[]: update_window() after each change.
  struct Window {
    std::uint64_t base = 0, read_end = 0, write_end = 0;
  } windows[kSegCount];
  std::uint64_t linear_mask = 0xffff'ffff;    // all ones in 64-bit code
  std::uint64_t current_stack_mask = 0xffff;  // see stack_mask()
  bool long64 = false;   // CS.L in long mode: 64-bit code
  std::uint8_t cpl = 0;
  Tlb tlb;               // the bank in use follows CPL, EFLAGS.AC and CR4.SMAP

  // ---- the rest of the architectural state -----------------------------------------------------
  Segment ldtr, tr;
  TableRegister gdtr, idtr;
  std::uint64_t cr0 = 0, cr2 = 0, cr3 = 0, cr4 = 0, xcr0 = 1, efer = 0;
  std::uint64_t pdpte[4] = {};
  std::uint64_t dr[4] = {}, dr6 = 0, dr7 = 0;
  CpuState slow;  // MSRs and everything that no hot path reads; its copies of the above are stale
  struct alignas(16) Vectors { Xmm xmm[16]; } sse;
  std::uint32_t mxcsr = 0x1f80;
  FpuState fpu;   // x87 and MMX (its xmm and mxcsr are stale; sse and mxcsr above are true)

  // ---- wiring ------------------------------------------------------------------------------------
  const VcpuIndex index;
  const std::uint32_t vcpu_count;
  Platform& platform;
  VcpuSignals& signals;
  const std::span<VcpuSignals* const> all_signals;
  GuestMemory& memory;
  Overseer* overseer = nullptr;  // changed only while nothing is decoded: overseer.h

  // ---- registers ---------------------------------------------------------------------------------
  std::uint64_t& rip() { return gpr[kRip]; }
  std::uint64_t instruction_start() const { return gpr[kRip] - insn->length; }
  template <class T>
  T reg(unsigned number) const;  // byte registers by kAh … (registers.h)
  // 32-bit writes clear the upper half, narrower ones keep the rest.
  template <class T>
  void set_reg(unsigned number, T value);

  std::uint64_t rflags() const { return system_flags | flags.value(); }
  // Everything as given (reserved bits fixed): who may change what is the caller's business.
  // Recomputes what follows from IF, TF, VM and AC.
  void set_rflags(std::uint64_t value);

  bool protected_mode() const { return (cr0 & 1) != 0; }
  bool long_mode() const { return (efer & (1u << 10)) != 0; }  // EFER.LMA
  bool virtual_8086() const { return (system_flags & kVm) != 0; }
  bool real_or_v86() const { return !protected_mode() || virtual_8086(); }
  CodeSize code_size() const;
  unsigned iopl() const { return static_cast<unsigned>(system_flags >> 12) & 3; }

  // ---- memory (memory_access.h, mmu.cc) -----------------------------------------------------------
  // The address of insn's memory operand within its segment, wrapped to the address size.
  std::uint64_t effective_address(const Insn& i) const;
  // Segmented accesses: limit, type and canonical checks (#GP, #SS), paging (#PF), alignment (#AC).
  // T: an unsigned integer, or Xmm (16 bytes, no alignment demanded).
  template <class T>
  T read(unsigned segment, std::uint64_t offset);
  template <class T>
  void write(unsigned segment, std::uint64_t offset, T value);
  // value = f(value) with a check for writing first, so that f runs only when the store succeeds.
  // Returns the old value. `locked`: one host atomic where it lies in one page, else the other
  // vCPUs are stopped.
  template <class T, class F>
  T modify(unsigned segment, std::uint64_t offset, bool locked, F&& f);
  // Faults now where a write of `length` bytes would fault later.
  void probe_write(unsigned segment, std::uint64_t offset, unsigned length);
  // Linear addresses, with the rights of CPL, or as the CPU itself (descriptor tables, TSS).
  template <class T>
  T read_linear(std::uint64_t linear);
  template <class T>
  void write_linear(std::uint64_t linear, T value);
  template <class T>
  T read_system(std::uint64_t linear);
  template <class T>
  void write_system(std::uint64_t linear, T value);
  // Segment base added and limit checked; for handlers that go on with linear addresses.
  std::uint64_t linear(unsigned segment, std::uint64_t offset, unsigned length, AccessKind kind);
  // String operations: the host bytes of a run inside one page, or nullptr (MMIO, code page, fault
  // pending): the caller then goes item by item.
  std::uint8_t* host_run(std::uint64_t linear, std::uint64_t length, AccessKind kind);

  // Stack of the current SS and stack size (64 in long mode). push/pop of T move RSP by sizeof(T).
  template <class T>
  void push(T value);
  template <class T>
  T pop();
  std::uint64_t stack_mask() const;

  // ---- leaving the instruction (interrupts.cc) -------------------------------------------------------
  [[noreturn]] void raise(Vector vector);                        // no error code
  [[noreturn]] void raise(Vector vector, std::uint32_t error);   // pushes an error code
  [[noreturn]] void raise_page_fault(std::uint64_t linear, std::uint32_t error);
  // #GP(0), the commonest of all.
  [[noreturn]] void protection_fault() { raise(Vector::kGp, 0); }

  // Ends run() with Exit::kKicked from inside an instruction or a delivery, RIP at the instruction.
  [[noreturn]] void leave_run();

  // ---- system (segmentation.cc, interrupts.cc, far_transfer.cc, control_registers.cc, msr.cc) ----------
  void load_segment(unsigned which, std::uint16_t selector);  // MOV/POP Sreg, LDS …: every check
  // Delivers through the IDT (or IVT) from an instruction boundary; RIP is what is pushed. Faults
  // on the way raise in turn; take_exception() turns them into #DF or shutdown.
  enum class Source : std::uint8_t { kException, kHardware, kNmi, kSoftware, kInt1 };
  struct Event {
    std::uint8_t vector = 0;
    Source source = Source::kException;
    bool has_error = false;
    std::uint32_t error = 0;
  };
  // That event and the faults on its way, and no instruction; for accelerators as run_one().
  void run_event(const Event& event);
  // The next run() begins with it.
  void inject(const Event& event) {
    given_ = event;
    has_given_ = true;
  }
  // What is being delivered, and what was where a fault or leave_run() ended it.
  Event delivering;
  void deliver(std::uint8_t vector, Source source, bool has_error, std::uint32_t error);
  // For the run loop, between instructions, where `leave` is set (all may raise):
  // Delivers `pending`, which raise() left. False: shutdown (triple fault).
  bool take_exception();
  // Signal::kInterrupt is up, IF is set, nothing blocks: false when INTR was withdrawn.
  bool take_interrupt();
  void take_accepted();  // slow.accepted_interrupt
  // Signal::kNmi is up (cleared here), and slow.nmi_blocked is not set.
  void take_nmi();
  // TF, RF, a breakpoint in DR7 or a held #DB: the loop runs one instruction at a time, with the
  // next two around it.
  bool slow_mode() const {
    return (system_flags & (kTf | kRf)) != 0 || (dr7 & 0xff) != 0 || slow.pending_debug != 0;
  }
  // Called with `insn` set and RIP past it, as for a handler: raises the #DB of an instruction
  // breakpoint, and remembers TF.
  void check_instruction_breakpoints();
  // The instruction has retired: clears RF, raises the #DB of single steps and data breakpoints.
  void after_instruction();

  // After CR0, CR4, EFER, CS, RFLAGS.VM or CPL changed: long64, cpl, the TLB bank, the slow-path
  // switches. Any handler that changes them ends its block.
  void mode_changed();
  // Recomputes windows[] (and the stack's mask) after segments[segment] changed.
  void update_window(unsigned segment);

  // TLB (mmu.cc). All of these call flush_jump_cache() where fetches may have changed.
  void flush_tlb(bool keep_global);
  void flush_page(std::uint64_t linear);
  void drop_write_entry(Gpa page);  // the page became a code page
  void drop_all_write_entries();    // Signal::kProtectCode
  // Where the instruction byte at `linear` lies, with the rights of CPL. Raises #PF, and #GP(0)
  // where it is not canonical; CS's limit is the caller's. RAM or not; good to the page's end.
  Gpa translate_fetch(std::uint64_t linear);
  // For the loop's and the slow stores' agreement about code that overwrites itself. A slow store
  // into lines of code on this page restarts the instruction before it stores, unless alone.
  std::uint64_t running_page = ~0ull;  // the physical page of the block that runs
  bool executing_alone = false;
  bool one_only = false;
  [[noreturn]] void restart_alone();   // run.cc

  // Slow paths of memory_access.h (memory_slow.cc).
  static constexpr unsigned kNoSegment = kSegCount;  // a linear access
  enum class Rights : std::uint8_t { kCpl, kSystem };
  std::uint64_t segment_slow(unsigned segment, std::uint64_t offset, unsigned length, AccessKind kind);
  void read_slow(unsigned segment, std::uint64_t linear, void* to, unsigned length, Rights rights);
  void write_slow(unsigned segment, std::uint64_t linear, const void* from, unsigned length,
                  Rights rights);
  // The bytes to change in place: RAM, or a copy that finish_modify() stores. Nothing may raise in
  // between.
  Pieces pieces(unsigned segment, std::uint64_t linear, unsigned length, AccessKind kind,
                Rights rights);
  // One page: raises #PF, fills the TLB. `host` of the result is null for MMIO.
  Piece translate(std::uint64_t linear, unsigned length, AccessKind kind, Rights rights);
  // The page walk alone (mmu.cc): false and `error` where it faults. Sets A and D bits.
  struct Walk {
    Gpa gpa{};
    bool user = true, writable = true, executable = true, global = false, dirty = true;
    std::uint8_t shift = 12;  // log2 of the page's size
  };
  bool walk(std::uint64_t linear, AccessKind kind, Bank bank, Walk& out, std::uint32_t& error);
  bool permits(const Walk& page, AccessKind kind, Bank bank) const;
  // As the overseer says.
  void require_rights(Gpa at, std::uint64_t linear, AccessKind kind, bool walk);
  bool all_rights(Gpa at) const;
  // Before a store to RAM, and whether one may come without that.
  void note_write(Gpa at);
  bool write_is_noted(Gpa at) const;
  void fill_tlb(std::uint64_t linear, const Walk& page, Bank bank);
  std::uint8_t* begin_modify(unsigned segment, std::uint64_t linear, unsigned length, bool locked);
  void finish_modify();
  void load_pieces(const Pieces& from, void* to);
  void store_pieces(const Pieces& to, const void* from);
  // Code lines under a store: restarts alone where the running block overwrites itself.
  void before_store(const Pieces& to);
  void after_store(const Pieces& to);
  void match_data_breakpoints(std::uint64_t linear, unsigned length, AccessKind kind);  // debug.cc
  bool page_has_breakpoint(std::uint64_t linear) const;
  SystemState system;

  // The six checks that a FPU, MMX or SSE instruction starts with are the decoder's traits.
  void check_fpu(bool report_pending);  // #NM, #MF (exec_x87.cc)
  void check_mmx();                     // #UD, #NM, #MF
  void check_sse();                     // #UD, #NM
  bool set_cr0(std::uint64_t value);  // false: #GP(0)
  bool set_cr3(std::uint64_t value);
  bool set_cr4(std::uint64_t value);
  std::uint64_t guest_tsc();  // Platform::tsc() + IA32_TSC_ADJUST

  // ---- the run loop (run.cc) ---------------------------------------------------------------------------
  // STI, MOV SS, POP SS: no interrupt before the instruction after next; MOV SS holds #DB too.
  void shadow_interrupts(bool blocks_debug);
  // HLT: the loop leaves with Exit::kHalted after this instruction.
  void halt();
  // Where linear addresses lie may have changed: fetches must be translated again. Not needed for
  // a change of CPL or of CS, which the jump cache knows, nor for stores into code.
  void flush_jump_cache();
  // What `insn` is between instructions: its length is 0, so that raise() leaves RIP alone.
  static const Insn kBetween;

  struct Pending {  // what raise() left for the loop
    std::uint8_t vector = 0;
    bool has_error = false;
    std::uint32_t error = 0;
  } pending;
  enum Landing : int { kFault = 1, kRestart = 2, kLeft = 3 };
  std::jmp_buf leave;  // raise() (with kFault) and restart_alone() land here, in run()
  VcpuCounters count;
  std::unique_ptr<BlockCache> blocks;

  // `flags` become true again, and translated code's form of them.
  void settle_flags() {
    if (!translated.flags_here) return;
    translated.flags_here = false;
    flags.set(translator::rflags_of_image(translated.flags_image));
  }
  void take_flags_along() {
    if (translated.flags_here) return;
    translated.flags_here = true;
    translated.flags_image = translator::image_of_rflags(flags.value());
  }
  // `fpu` becomes true again, wherever the x87 was (translator/host_fpu.h).
  void settle_fpu() {
    if (translated.fpu_here) [[unlikely]] translator::save_fpu(*this);
  }
  // What the loop does after an instruction that may have changed the mode.
  void follow_mode() {
    refresh();
    gpr[kRip] &= rip_mask_;
  }
  // Another translator than XHYVED_SOFTCPU asks for. Not while run() runs.
  void choose_translator(const TranslatorOptions& options);
  const Translator* get_translator() const { return translator_.get(); }

 private:
  Exit loop();
  void take_given();
  std::optional<Exit> look_at_signals();
  std::optional<Exit> step();
  Block* next_block();
  Block* find_outside(std::uint64_t linear);
  Block* find_block(std::uint64_t linear);  // fetch.cc, as are the next
  bool still_valid(Block& block, std::uint64_t linear);
  bool revalidate(Block& block);
  bool guard_code(std::uint64_t physical, std::uint64_t length, CodePage& page,
                  std::uint32_t& version, std::uint64_t& epoch);
  Block* decode_block(std::uint64_t linear, std::uint64_t physical);
  Block* decode_bytewise(std::uint64_t linear, std::uint64_t physical, bool kept);
  Block* decode_alone();
  Block* keep(const Block& block, std::span<const Insn> insns,
              std::span<const std::uint8_t> bytes);
  void execute(const Block& block);
  void execute_first(const Block& block);
  void retire_partial();
  void refresh();
  void enter_guest();
  void acknowledge_code_pages();
  bool run_translated(Block& block);

  // Follow the mode and the segments; refresh() computes them after every instruction that may
  // change either.
  std::uint64_t code_base_ = 0;
  std::uint64_t rip_mask_ = ~0ull;
  std::uint64_t code_end_ = ~0ull;  // the offset after CS's last byte
  std::uint64_t fetch_mode_ = 0;    // what beside the address decides a fetch: CPL and code size
  bool attention_ = false;          // go by single instructions: step()
  const Insn* block_start_ = nullptr;  // of the block that runs: what retired is counted from here
  std::uint64_t acknowledged_ = CodeEpochs::kAway;
  std::unique_ptr<Translator> translator_;
  Event given_;
  bool has_given_ = false;
};

}  // namespace hv::softcpu

#include "softcpu/registers.h"
#include "softcpu/memory_access.h"

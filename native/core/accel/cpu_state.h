// The architectural state of one vCPU, the same for every accelerator: what is saved, shown,
// restored, and set at reset. Not the layout that any accelerator runs on.
#pragma once
#include <array>
#include <cstdint>
#include <string_view>

namespace hv {

// Segment registers by their encoding in instructions (SDM Vol. 2, "Segment Register Field").
enum SegIndex : std::uint8_t { kEs, kCs, kSs, kDs, kFs, kGs, kSegCount };

// `access` holds bits 8 to 23 of the descriptor's high word moved down, as VMX does (SDM Vol. 3,
// "Guest Register State"): type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15, unusable 16.
// `limit` is in bytes, granularity applied.
struct Segment {
  std::uint64_t base = 0;
  std::uint32_t limit = 0;
  std::uint32_t access = 0;
  std::uint16_t selector = 0;

  template <class Visit>
  void fields(Visit&& visit) {
    visit("base", base);
    visit("limit", limit);
    visit("access", access);
    visit("selector", selector);
  }
  friend bool operator==(const Segment&, const Segment&) = default;
};

struct TableRegister {
  std::uint64_t base = 0;
  std::uint16_t limit = 0;
  template <class Visit>
  void fields(Visit&& visit) {
    visit("base", base);
    visit("limit", limit);
  }
  friend bool operator==(const TableRegister&, const TableRegister&) = default;
};

// One x87 register: the 64-bit significand and the word that holds sign and exponent.
struct F80 {
  std::uint64_t significand = 0;
  std::uint16_t sign_exponent = 0;
  template <class Visit>
  void fields(Visit&& visit) {
    visit("significand", significand);
    visit("signExponent", sign_exponent);
  }
  friend bool operator==(const F80&, const F80&) = default;
};

struct Xmm {
  std::array<std::uint64_t, 2> qword{};
  template <class Visit>
  void fields(Visit&& visit) {
    visit("qword", qword);
  }
  friend bool operator==(const Xmm&, const Xmm&) = default;
};

struct FpuState {
  std::array<F80, 8> physical{};  // by physical number: ST(i) is physical[(top + i) & 7]
  std::uint16_t control = 0x37f;
  std::uint16_t status = 0;  // TOP in bits 13:11
  std::uint16_t tags = 0xffff;  // the full tag word, two bits a physical register
  std::uint16_t opcode = 0;     // 11 bits
  std::uint64_t instruction = 0, data = 0;
  std::uint16_t instruction_selector = 0, data_selector = 0;
  std::array<Xmm, 16> xmm{};
  std::uint32_t mxcsr = 0x1f80;

  template <class Visit>
  void fields(Visit&& visit) {
    visit("physical", physical);
    visit("control", control);
    visit("status", status);
    visit("tags", tags);
    visit("opcode", opcode);
    visit("instruction", instruction);
    visit("data", data);
    visit("instructionSelector", instruction_selector);
    visit("dataSelector", data_selector);
    visit("xmm", xmm);
    visit("mxcsr", mxcsr);
  }
  friend bool operator==(const FpuState&, const FpuState&) = default;
};

// What the vCPU is doing between two instructions.
enum class Activity : std::uint8_t { kRunning, kHalted, kWaitForSipi, kShutdown };

struct CpuState {
  static constexpr std::string_view kName = "cpu";
  static constexpr std::uint32_t kVersion = 3;

  std::array<std::uint64_t, 16> gpr{};  // RAX RCX RDX RBX RSP RBP RSI RDI R8 … R15
  std::uint64_t rip = 0, rflags = 2;
  std::array<Segment, kSegCount> segments{};
  Segment ldtr, tr;
  TableRegister gdtr, idtr;
  std::uint64_t cr0 = 0, cr2 = 0, cr3 = 0, cr4 = 0;
  std::array<std::uint64_t, 4> pdpte{};  // PAE paging's, loaded with CR3
  std::uint64_t xcr0 = 1;
  std::array<std::uint64_t, 4> dr{};
  std::uint64_t dr6 = 0xffff0ff0, dr7 = 0x400;
  std::uint64_t efer = 0, star = 0, lstar = 0, cstar = 0, fmask = 0, kernel_gs_base = 0;
  std::uint64_t sysenter_cs = 0, sysenter_esp = 0, sysenter_eip = 0;
  std::uint64_t tsc_aux = 0, tsc_adjust = 0, pat = 0x0007040600070406, misc_enable = 0;
  std::uint64_t spec_ctrl = 0;
  // MSR_KVM_WALL_CLOCK_NEW and MSR_KVM_SYSTEM_TIME_NEW (Linux, Documentation/virt/kvm/x86/msr.rst): only
  // where the machine has a ParavirtualClock.
  std::uint64_t kvm_wall_clock = 0, kvm_system_time = 0;
  std::uint64_t mtrr_def_type = 0;
  std::array<std::uint64_t, 11> mtrr_fixed{};
  std::array<std::uint64_t, 16> mtrr_variable{};  // base 0, mask 0, base 1, …
  std::uint64_t mcg_status = 0, mcg_ctl = 0;
  std::array<std::uint64_t, 40> mc_banks{};  // CTL, STATUS, ADDR, MISC of bank 0, bank 1, …
  FpuState fpu;
  Activity activity = Activity::kRunning;
  bool interrupt_shadow = false;  // STI or MOV SS in the instruction before
  bool shadow_blocks_debug = false;  // … and it was MOV SS or POP SS
  bool nmi_blocked = false;       // an NMI handler is running
  // 0x100 | vector: an interrupt that was acknowledged and whose delivery must still begin; comes
  // before everything else. 0: none.
  std::uint16_t accepted_interrupt = 0;
  std::uint64_t pending_debug = 0;  // DR6 bits of a #DB that MOV SS holds back
  std::uint64_t instructions = 0;   // retired since reset of the VM

  template <class Visit>
  void fields(Visit&& visit) {
    visit("gpr", gpr);
    visit("rip", rip);
    visit("rflags", rflags);
    visit("segments", segments);
    visit("ldtr", ldtr);
    visit("tr", tr);
    visit("gdtr", gdtr);
    visit("idtr", idtr);
    visit("cr0", cr0);
    visit("cr2", cr2);
    visit("cr3", cr3);
    visit("cr4", cr4);
    visit("pdpte", pdpte);
    visit("xcr0", xcr0);
    visit("dr", dr);
    visit("dr6", dr6);
    visit("dr7", dr7);
    visit("efer", efer);
    visit("star", star);
    visit("lstar", lstar);
    visit("cstar", cstar);
    visit("fmask", fmask);
    visit("kernelGsBase", kernel_gs_base);
    visit("sysenterCs", sysenter_cs);
    visit("sysenterEsp", sysenter_esp);
    visit("sysenterEip", sysenter_eip);
    visit("tscAux", tsc_aux);
    visit("tscAdjust", tsc_adjust);
    visit("pat", pat);
    visit("miscEnable", misc_enable);
    visit("specCtrl", spec_ctrl);
    visit("kvmWallClock", kvm_wall_clock);
    visit("kvmSystemTime", kvm_system_time);
    visit("mtrrDefType", mtrr_def_type);
    visit("mtrrFixed", mtrr_fixed);
    visit("mtrrVariable", mtrr_variable);
    visit("mcgStatus", mcg_status);
    visit("mcgCtl", mcg_ctl);
    visit("mcBanks", mc_banks);
    visit("fpu", fpu);
    visit("activity", activity);
    visit("interruptShadow", interrupt_shadow);
    visit("shadowBlocksDebug", shadow_blocks_debug);
    visit("nmiBlocked", nmi_blocked);
    visit("acceptedInterrupt", accepted_interrupt);
    visit("pendingDebug", pending_debug);
    visit("instructions", instructions);
  }
};

// SDM Vol. 3, "Processor State After Reset" (power-up) and INIT, which keeps the FPU, MTRRs, MSRs
// and the cache bits of CR0. The BSP starts at the reset vector, an AP waits for its SIPI.
CpuState reset_state(bool bootstrap_processor);
void apply_init(CpuState& state, bool bootstrap_processor);
// After a SIPI: real mode, CS base vector << 12, IP 0, running.
void apply_sipi(CpuState& state, std::uint8_t vector);

}  // namespace hv

// The opcode rows of the system family: SDM Vol. 2, appendix A, "Opcode Map". What has no row is
// not offered and is #UD: VMX, SVM, MONITOR, XSAVE, RSM, RDPID.
#pragma once
#include <array>

#include "softcpu/insn.h"
#include "softcpu/opcode_row.h"

namespace hv::softcpu {

// clang-format off
inline constexpr auto kSystemRows = [] {
  using enum Map;
  using enum Form;
  using enum Arg;
  constexpr auto kAnyP = Prefix::kNone;
  constexpr std::uint32_t kSegs = kNotUser;  // needs descriptors that a user's program has not
  constexpr std::uint32_t kFar = kEndsBlock | kNotUser;
  constexpr std::uint32_t kPriv = kPrivileged;
  constexpr std::uint32_t kPrivEnds = kPrivileged | kEndsBlock;
  return std::to_array<Row>({
    {kOne, 0x06, Op::kPushEs, "push", kNoModrm, {}, kNot64 | kUserVisible},
    {kOne, 0x07, Op::kPopEs, "pop", kNoModrm, {}, kNot64 | kSegs},
    {kOne, 0x0e, Op::kPushCs, "push", kNoModrm, {}, kNot64 | kUserVisible},
    {kOne, 0x16, Op::kPushSs, "push", kNoModrm, {}, kNot64 | kUserVisible},
    {kOne, 0x17, Op::kPopSs, "pop", kNoModrm, {}, kNot64 | kSegs | kEndsBlock},
    {kOne, 0x1e, Op::kPushDs, "push", kNoModrm, {}, kNot64 | kUserVisible},
    {kOne, 0x1f, Op::kPopDs, "pop", kNoModrm, {}, kNot64 | kSegs},
    {kOne, 0x63, Op::kArpl, "arpl", kAny, {Ew, Gw}, kNot64},
    {kOne, 0x6c, Op::kIns, "ins", kNoModrm, {Yb, DX}, kByte | kRepeats | kNotUser},
    {kOne, 0x6d, Op::kIns, "ins", kNoModrm, {Yv, DX}, kRepeats | kNotUser},
    {kOne, 0x6e, Op::kOuts, "outs", kNoModrm, {DX, Xb}, kByte | kRepeats | kNotUser},
    {kOne, 0x6f, Op::kOuts, "outs", kNoModrm, {DX, Xv}, kRepeats | kNotUser},
    {kOne, 0x8c, Op::kMovRSreg, "mov", kAny, {Ev, Sw}, kUserVisible},
    {kOne, 0x8e, Op::kMovSregR, "mov", kAny, {Sw, Ew}, kSegs | kEndsBlock},
    {kOne, 0x9a, Op::kCallFar, "call", kNoModrm, {Ap}, kNot64 | kFar},
    {kOne, 0x9c, Op::kPushf, "pushf", kNoModrm, {}, kDefault64},
    {kOne, 0x9d, Op::kPopf, "popf", kNoModrm, {}, kDefault64 | kEndsBlock},
    {kOne, 0xc4, Op::kLes, "les", kMemory, {Gv, Mp}, kNot64 | kSegs},
    {kOne, 0xc5, Op::kLds, "lds", kMemory, {Gv, Mp}, kNot64 | kSegs},
    {kOne, 0xca, Op::kRetFarI, "retf", kNoModrm, {Iw}, kFar},
    {kOne, 0xcb, Op::kRetFar, "retf", kNoModrm, {}, kFar},
    {kOne, 0xcc, Op::kInt3, "int3", kNoModrm, {}, kFar},
    {kOne, 0xcd, Op::kIntN, "int", kNoModrm, {Ib}, kFar},
    {kOne, 0xce, Op::kInto, "into", kNoModrm, {}, kNot64 | kFar},
    {kOne, 0xcf, Op::kIret, "iret", kNoModrm, {}, kFar},
    {kOne, 0xe4, Op::kInI, "in", kNoModrm, {AL, Ib}, kByte | kNotUser},
    {kOne, 0xe5, Op::kInI, "in", kNoModrm, {eAX, Ib}, kNotUser},
    {kOne, 0xe6, Op::kOutI, "out", kNoModrm, {Ib, AL}, kByte | kNotUser | kEndsBlock},
    {kOne, 0xe7, Op::kOutI, "out", kNoModrm, {Ib, eAX}, kNotUser | kEndsBlock},
    {kOne, 0xea, Op::kJmpFar, "jmp", kNoModrm, {Ap}, kNot64 | kFar},
    {kOne, 0xec, Op::kInDx, "in", kNoModrm, {AL, DX}, kByte | kNotUser},
    {kOne, 0xed, Op::kInDx, "in", kNoModrm, {eAX, DX}, kNotUser},
    {kOne, 0xee, Op::kOutDx, "out", kNoModrm, {DX, AL}, kByte | kNotUser | kEndsBlock},
    {kOne, 0xef, Op::kOutDx, "out", kNoModrm, {DX, eAX}, kNotUser | kEndsBlock},
    {kOne, 0xf1, Op::kInt1, "int1", kNoModrm, {}, kFar},
    {kOne, 0xf4, Op::kHlt, "hlt", kNoModrm, {}, kPrivEnds},
    {kOne, 0xfa, Op::kCli, "cli", kNoModrm, {}, kNotUser | kEndsBlock},
    {kOne, 0xfb, Op::kSti, "sti", kNoModrm, {}, kNotUser | kEndsBlock},
    {kOne, 0xff, Op::kCallFar, "call", kMemory, {Mp}, kFar, 0, kAnyP, 3},
    {kOne, 0xff, Op::kJmpFar, "jmp", kMemory, {Mp}, kFar, 0, kAnyP, 5},

    {k0F, 0x00, Op::kSldt, "sldt", kAny, {Ev}, kUserVisible, 0, kAnyP, 0},
    {k0F, 0x00, Op::kStr, "str", kAny, {Ev}, kUserVisible, 0, kAnyP, 1},
    {k0F, 0x00, Op::kLldt, "lldt", kAny, {Ew}, kPriv, 0, kAnyP, 2},
    {k0F, 0x00, Op::kLtr, "ltr", kAny, {Ew}, kPriv, 0, kAnyP, 3},
    {k0F, 0x00, Op::kVerr, "verr", kAny, {Ew}, kUserVisible, 0, kAnyP, 4},
    {k0F, 0x00, Op::kVerw, "verw", kAny, {Ew}, kUserVisible, 0, kAnyP, 5},
    {k0F, 0x01, Op::kSgdt, "sgdt", kMemory, {Ms}, kUserVisible, 0, kAnyP, 0},
    {k0F, 0x01, Op::kSidt, "sidt", kMemory, {Ms}, kUserVisible, 0, kAnyP, 1},
    {k0F, 0x01, Op::kLgdt, "lgdt", kMemory, {Ms}, kPriv, 0, kAnyP, 2},
    {k0F, 0x01, Op::kLidt, "lidt", kMemory, {Ms}, kPriv, 0, kAnyP, 3},
    {k0F, 0x01, Op::kSmsw, "smsw", kAny, {Ev}, kUserVisible, 0, kAnyP, 4},
    {k0F, 0x01, Op::kLmsw, "lmsw", kAny, {Ew}, kPrivEnds, 0, kAnyP, 6},
    {k0F, 0x01, Op::kInvlpg, "invlpg", kMemory, {Mb}, kPrivEnds, 0, kAnyP, 7},
    {k0F, 0x01, Op::kClac, "clac", kRegister, {}, kPrivEnds, 0, Prefix::kNp, kAnyDigit, 0xca},
    {k0F, 0x01, Op::kStac, "stac", kRegister, {}, kPrivEnds, 0, Prefix::kNp, kAnyDigit, 0xcb},
    {k0F, 0x01, Op::kSwapgs, "swapgs", kRegister, {}, kPriv | kOnly64, 0, kAnyP, kAnyDigit, 0xf8},
    {k0F, 0x01, Op::kRdtscp, "rdtscp", kRegister, {}, kUserVisible, 0, kAnyP, kAnyDigit, 0xf9},
    {k0F, 0x02, Op::kLar, "lar", kAny, {Gv, Ew}, kUserVisible},
    {k0F, 0x03, Op::kLsl, "lsl", kAny, {Gv, Ew}, kUserVisible},
    {k0F, 0x05, Op::kSyscall, "syscall", kNoModrm, {}, kFar},
    {k0F, 0x06, Op::kClts, "clts", kNoModrm, {}, kPriv},
    // In compatibility mode Intel has #UD and AMD goes on to #GP.
    {k0F, 0x07, Op::kSysret, "sysret", kNoModrm, {}, kPrivEnds | kUserVisible},
    {k0F, 0x08, Op::kInvd, "invd", kNoModrm, {}, kPriv},
    {k0F, 0x09, Op::kWbinvd, "wbinvd", kNoModrm, {}, kPriv},
    {k0F, 0x20, Op::kMovRCr, "mov", kRegister, {Ry, Cy}, kPriv | kForce64},
    {k0F, 0x21, Op::kMovRDr, "mov", kRegister, {Ry, Dy}, kPriv | kForce64},
    {k0F, 0x22, Op::kMovCrR, "mov", kRegister, {Cy, Ry}, kPrivEnds | kForce64},
    {k0F, 0x23, Op::kMovDrR, "mov", kRegister, {Dy, Ry}, kPrivEnds | kForce64},
    {k0F, 0x30, Op::kWrmsr, "wrmsr", kNoModrm, {}, kPrivEnds},
    {k0F, 0x31, Op::kRdtsc, "rdtsc", kNoModrm, {}, kUserVisible},
    {k0F, 0x32, Op::kRdmsr, "rdmsr", kNoModrm, {}, kPriv},
    {k0F, 0x33, Op::kRdpmc, "rdpmc", kNoModrm, {}, kUserVisible},
    {k0F, 0x34, Op::kSysenter, "sysenter", kNoModrm, {}, kFar},
    {k0F, 0x35, Op::kSysexit, "sysexit", kNoModrm, {}, kPrivEnds},
    {k0F, 0xa0, Op::kPushFs, "push", kNoModrm, {}, kDefault64 | kUserVisible},
    {k0F, 0xa1, Op::kPopFs, "pop", kNoModrm, {}, kDefault64 | kSegs},
    {k0F, 0xa2, Op::kCpuid, "cpuid", kNoModrm, {}, kUserVisible},
    {k0F, 0xa8, Op::kPushGs, "push", kNoModrm, {}, kDefault64 | kUserVisible},
    {k0F, 0xa9, Op::kPopGs, "pop", kNoModrm, {}, kDefault64 | kSegs},
    {k0F, 0xae, Op::kRdfsbase, "rdfsbase", kRegister, {Ry}, kOnly64 | kUserVisible, 0, Prefix::kF3, 0},
    {k0F, 0xae, Op::kRdgsbase, "rdgsbase", kRegister, {Ry}, kOnly64 | kUserVisible, 0, Prefix::kF3, 1},
    {k0F, 0xae, Op::kWrfsbase, "wrfsbase", kRegister, {Ry}, kOnly64 | kSegs, 0, Prefix::kF3, 2},
    {k0F, 0xae, Op::kWrgsbase, "wrgsbase", kRegister, {Ry}, kOnly64 | kSegs, 0, Prefix::kF3, 3},
    {k0F, 0xb2, Op::kLss, "lss", kMemory, {Gv, Mp}, kSegs | kEndsBlock},
    {k0F, 0xb4, Op::kLfs, "lfs", kMemory, {Gv, Mp}, kSegs},
    {k0F, 0xb5, Op::kLgs, "lgs", kMemory, {Gv, Mp}, kSegs},
    {k0F, 0xc7, Op::kRdrand, "rdrand", kRegister, {Ev}, kUserVisible, 0, kAnyP, 6},
    {k0F, 0xc7, Op::kRdseed, "rdseed", kRegister, {Ev}, kUserVisible, 0, kAnyP, 7},
    {k0F38, 0x82, Op::kInvpcid, "invpcid", kMemory, {Gy, Mdq}, kPrivEnds | kForce64, 0, Prefix::k66},
  });
}();
// clang-format on

Handler bind_system(const Insn& insn);

}  // namespace hv::softcpu

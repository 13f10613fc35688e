// Long mode: IST, SYSCALL and SYSRET, SWAPGS, compatibility mode, far transfers, IRETQ, CR8.
// SDM Vol. 3, "64-Bit Mode" parts of chapters 3, 5 and 6; Vol. 2, the instructions' entries.
#include "guest.h"

word arg __asm__("arg");
u64 target[2] __asm__("target");
u64 frame[5] __asm__("frame");
u64 seen[8] __asm__("seen");
u8 user_stack2[4096] __asm__("user_stack2") __attribute__((aligned(16)));
extern u8 ist_stack_top[] __asm__("ist_stack_top");
asm(".bss\n.balign 16\n.skip 4096\n.globl ist_stack_top\nist_stack_top:\n.text");
enum { GATE = FREE, CODE3 = FREE + 0x10, RING1 = FREE + 0x18 };
enum { EFER = 0xc0000080, STAR, LSTAR, CSTAR, FMASK, FS_BASE = 0xc0000100, GS_BASE, KERNEL_GS_BASE };


// ---- IST and the frame ----------------------------------------------------------------------
SNIPPET(int_70, "int $0x70\nmov $1,%eax\nret");
SNIPPET(int_70_odd, "mov %rsp,%rdx\nand $-16,%rsp\nsub $3,%rsp\nint $0x70\nmov %rdx,%rsp\nmov $1,%eax\nret");
SNIPPET(ud_, "ud2\nret");
SNIPPET(gp_, "mov $0x7f8,%ecx\nmov %ecx,%fs\nret");

static word frame_at;
static int note(struct frame *f) {
  frame_at = (word)&f->ip;
  print("  frame: aligned=%x ist=%x tss=%x ss=%x ", (word)(&f->ss + 1) & 15,
        (word)((word)&f->ss + 8 == (word)ist_stack_top), (word)((word)&f->ss + 8 == (word)exception_stack_top),
        f->ss & 0xffff);
  u16 ss;
  FLAT("mov %%ss,%0" : "=r"(ss));
  print("new-ss=%x\n", (word)ss);
  return 0;
}

static void ist(void) {
  hook = note;
  gate(0x70, KERNEL_CODE, stub(0x70), A_INT32 | A_DPL3);
  report("ist.none", int_70), report("ist.none-odd-stack", int_70_odd), report_user("ist.none-user", int_70);
  report("ist.ud", ud_), report("ist.gp", gp_);
  *(u64 *)(tss + 36) = (u64)ist_stack_top;
  idt_bytes(0x70, gate_bits(KERNEL_CODE, stub(0x70), A_INT32 | A_DPL3, 1));
  report("ist.1", int_70), report_user("ist.1-user", int_70);
  *(u64 *)(tss + 36) = (u64)ist_stack_top + 5;
  report("ist.unaligned", int_70);
  hook = 0;
  // Compatibility mode enters 64-bit handlers too.
  gate(0x70, KERNEL_CODE, stub(0x70), A_INT32 | A_DPL3);
  static const struct { const char *name; unsigned selector, type; } cases[] = {
    {"compat-code", KERNEL_CODE32, A_INT32}, {"null", 0, A_INT32}, {"data", KERNEL_DATA, A_INT32},
    {"int16", KERNEL_CODE, A_INT16}, {"task-gate", KERNEL_CODE, A_TASK_GATE}, {"call", KERNEL_CODE, A_CALL32},
    {"absent", KERNEL_CODE, 0x0e}, {"dpl0", KERNEL_CODE, A_INT32}, {"trap", KERNEL_CODE, A_TRAP32 | A_DPL3}};
  for (unsigned n = 0; n < sizeof cases / sizeof *cases; ++n) {
    gate(0x70, cases[n].selector, stub(0x70), cases[n].type);
    print("gate.%s.", cases[n].name), report("kernel", int_70);
    print("gate.%s.", cases[n].name), report_user("user", int_70);
    user_code = USER_CODE32;
    print("gate.%s.", cases[n].name), report_user("compat", int_70);
    user_code = USER_CODE64;
  }
}

// ---- compatibility mode ---------------------------------------------------------------------
#define SNIPPET32(name, ...) SNIPPET(name, ".code32\n" __VA_ARGS__ "\n.code64")
SNIPPET32(c_inc, "mov $0x10,%eax\n.byte 0x40\nret");  // INC EAX, not REX
SNIPPET32(c_push, "push %cs\npop %eax\nret");
SNIPPET32(c_wrap, "mov $0xffffffff,%ecx\nmov $0x12,%eax\nmov 1(%ecx),%al\nmovzbl %al,%eax\nxor %eax,%eax\nret");
SNIPPET32(c_daa, "mov $0x9,%al\nadd $1,%al\ndaa\nmovzbl %al,%eax\nret");
SNIPPET32(c_syscall, "mov $1f,%edx\nsyscall\n1: mov $5,%eax\nret");
SNIPPET32(c_sysenter, "mov %esp,%ecx\nmov $1f,%edx\nsysenter\n1: mov $0x5e,%eax\nret");
SNIPPET32(c_ud, "nop\nud2\nret");
SNIPPET32(c_swapgs, ".byte 0x0f,0x01,0xf8\nret");
SNIPPET32(c_high, "mov $0xfffffff8,%ecx\nmov (%ecx),%eax\nret");
SNIPPET32(c_int, "int $0x70\nret");
SNIPPET32(c_lds, ".byte 0xc5,0x05\n.long target\nmov %ds,%eax\nmov $0x23,%ecx\nmov %ecx,%ds\nret");
SNIPPET32(c_far, "lcall *target\nmov %eax,%eax\nret");
SNIPPET(to_compat, "ljmp *target\n");
SNIPPET32(compat_kernel, "mov %cs,%eax\nljmp *target+8\n");
SNIPPET(back_in_64, "ret");

static void compatibility(void) {
  user_code = USER_CODE32;
  report_user("compat.inc", c_inc), report_user("compat.push-cs", c_push), report_user("compat.wrap", c_wrap);
  report_user("compat.daa", c_daa), report_user("compat.ud", c_ud), report_user("compat.swapgs", c_swapgs);
  report_user("compat.high-address", c_high);
  target[0] = 0x0023123400000000ull;  // offset 0, selector 23 follows at +4
  AT(u32, target) = 0x1234, AT(u16, (word)target + 4) = USER_DATA;
  report_user("compat.lds", c_lds);
  user_code = USER_CODE64;
  // Kernel to a compatibility segment and back, by far jumps.
  AT(u32, target) = (u32)(word)compat_kernel, AT(u16, (word)target + 4) = KERNEL_CODE32;
  AT(u32, (word)target + 8) = (u32)(word)back_in_64, AT(u16, (word)target + 12) = KERNEL_CODE;
  report("compat.kernel-and-back", to_compat);
}

// ---- SYSCALL, SYSRET ------------------------------------------------------------------------
SNIPPET(syscall_, "syscall\nor %ecx,%ecx\nmov $0x5c,%eax\nret");
SNIPPET(sysret_, "mov $0x44,%ecx\nsysretq\nret");
SNIPPET(kernel_syscall, "mov %rsp,seen\nmov %cs,%eax\nmov %eax,seen+8\nmov %ss,%eax\nmov %eax,seen+16\npushf_at: mov %r11,seen+24\n"
        "mov $user_stack2+2048,%esp\npushf\npopq seen+32\nmov seen,%rsp\nsysretq");
SNIPPET(kernel_sysretl, "mov $after_sysretl,%ecx\nsysretl");
SNIPPET32(after_sysretl, "mov %cs,%eax\nshl $16,%eax\nmov %ss,%ax\nint $0x60");
SNIPPET(sysret_bad, "mov $0x8000,%rcx\nshl $32,%rcx\nmov $2,%r11d\nsysretq");

static void system_calls(void) {
  wrmsr(STAR, (u64)0x1b << 48 | (u64)KERNEL_CODE << 32);
  wrmsr(LSTAR, (word)kernel_syscall), wrmsr(CSTAR, (word)kernel_syscall), wrmsr(FMASK, 0x4700);
  wrmsr(EFER, rdmsr(EFER) & ~1ull);
  report_user("syscall.no-sce", syscall_), report("sysret.no-sce", sysret_);
  wrmsr(EFER, rdmsr(EFER) | 1);
  user_flags = 0x3ed7 & ~0x100;
  report_user("syscall.and-back", syscall_);
  print("syscall.seen: cs=%x ss=%x r11=%x flags=%x\n", seen[1], seen[2], seen[3], seen[4]);
  user_flags = 2;
  report_user("sysret.user", sysret_);
  wrmsr(LSTAR, (word)kernel_sysretl);
  report_user("sysret.to-compat", syscall_);
  report("sysret.non-canonical", sysret_bad);
  user_code = USER_CODE32;
  report_user("syscall.compat", c_syscall);
  user_code = USER_CODE64;
}

// ---- SYSENTER in long mode ------------------------------------------------------------------
SNIPPET(sysenter_, "mov %rsp,%rcx\nlea 1f(%rip),%rdx\nsysenter\nud2\n1: mov $0x5e,%eax\nret");
SNIPPET(entry64, "mov %cs,%eax\nmov %eax,seen\nmov %ss,%eax\nmov %eax,seen+8\nmov %rsp,seen+16\nsysexitq");
SNIPPET(entry32, "mov %cs,%eax\nmov %eax,seen\nsysexitl");
SNIPPET(sysexit_bad, "mov $0x8000,%rdx\nshl $32,%rdx\nmov %rsp,%rcx\nsysexitq");
static void sysenters(void) {
  wrmsr(0x174, KERNEL_CODE), wrmsr(0x175, 0xffff800000001234ull), wrmsr(0x176, (word)entry64);
  report_user("sysenter.64", sysenter_);
  print("sysenter.64.seen: cs=%x ss=%x rsp=%x\n", seen[0], seen[1], seen[2]);
  wrmsr(0x175, (word)ist_stack_top), wrmsr(0x176, (word)entry32);
  user_code = USER_CODE32;
  report_user("sysenter.compat", c_sysenter);
  user_code = USER_CODE64;
  report("sysexit.non-canonical", sysexit_bad);
}

// ---- SWAPGS, FS and GS bases ------------------------------------------------------------------
SNIPPET(swapgs_, "swapgs\nmov $1,%eax\nret");
SNIPPET(read_gs, "mov %gs:0,%eax\nret");
SNIPPET(rdfsbase_, "rdfsbase %rax\nret");
SNIPPET(wrfsbase_, "mov arg,%rcx\nwrfsbase %rcx\nrdfsbase %rax\nret");
SNIPPET(wrgsbase32, "mov arg,%rcx\nwrgsbase %ecx\nrdgsbase %rax\nret");
SNIPPET(null_fs, "xor %eax,%eax\nmov %eax,%fs\nmov $0xc0000100,%ecx\nrdmsr\nret");
SNIPPET(load_fs, "mov $0x23,%eax\nmov %eax,%fs\nmov $0xc0000100,%ecx\nrdmsr\nret");
SNIPPET(bad_base, "mov $0xc0000100,%ecx\nxor %eax,%eax\nmov $0x8000,%edx\nwrmsr\nret");
SNIPPET(bad_lstar, "mov $0xc0000082,%ecx\nxor %eax,%eax\nmov $0x8000,%edx\nwrmsr\nret");
SNIPPET(bad_msr, "mov $0x12345678,%ecx\nrdmsr\nret");
SNIPPET(user_rdmsr, "mov $0x1b,%ecx\nrdmsr\nret");

static void bases(void) {
  static u32 a = 0x1111, b = 0x2222;
  wrmsr(GS_BASE, (word)&a), wrmsr(KERNEL_GS_BASE, (word)&b);
  report("gs.before", read_gs);
  FLAT("swapgs");
  report("gs.swapped", read_gs);
  print("gs.msrs: %x\n", (word)(rdmsr(GS_BASE) == (word)&b && rdmsr(KERNEL_GS_BASE) == (word)&a));
  report_user("gs.swapgs-user", swapgs_);
  wrmsr(FS_BASE, 0xffff800012345678ull);
  print("fs.msr: %q\n", rdmsr(FS_BASE));
  report("fs.load", load_fs);
  wrmsr(FS_BASE, 0x1234);
  report("fs.null", null_fs);
  report("fs.bad-base", bad_base), report("msr.bad-lstar", bad_lstar), report("msr.unknown", bad_msr);
  report_user("msr.user", user_rdmsr);
  set_cr4(get_cr4() & ~(word)CR4_FSGSBASE);
  report("fsgsbase.off", rdfsbase_);
  set_cr4(get_cr4() | CR4_FSGSBASE);
  arg = 0x123456789abcul;
  report_user("fsgsbase.wrfs", wrfsbase_), report("fsgsbase.wrgs32", wrgsbase32);
  arg = 0x800000000000ul;
  report("fsgsbase.non-canonical", wrfsbase_);
}

// ---- far transfers and IRETQ ------------------------------------------------------------------
SNIPPET(lcall_, "rex.w lcall *target\nret");
SNIPPET(ljmp_, "rex.w ljmp *target\n");
SNIPPET(lcall32, "lcall *target\nret");
SNIPPET(far_back, "mov %cs,%eax\nlretq");
SNIPPET(far_back32, "mov %cs,%eax\nlretl");
SNIPPET(gate_back, "mov %ss,%eax\nshl $16,%eax\nmov %cs,%ax\nmov %rsp,seen\nlretq");
SNIPPET(iretq_, "pushq frame+32\npushq frame+24\npushq frame+16\npushq frame+8\npushq frame\niretq\nnop");
SNIPPET(iretl_, "sub $20,%rsp\nmov frame,%eax\nmov %eax,(%rsp)\nmov frame+8,%eax\nmov %eax,4(%rsp)\nmov frame+16,%eax\nmov %eax,8(%rsp)\n"
        "mov frame+24,%eax\nmov %eax,12(%rsp)\nmov frame+32,%eax\nmov %eax,16(%rsp)\niretl\nnop");
SNIPPET(landed, "mov %ss,%eax\nshl $16,%eax\nmov %cs,%ax\nint $0x60");
SNIPPET32(landed32, "mov %ss,%eax\nshl $16,%eax\nmov %cs,%ax\nint $0x60");
SNIPPET(iret_nt, "pushf\norl $0x4000,(%rsp)\npopf\niretq\nret");
SNIPPET(direct_far, ".byte 0x9a\n.long 0\n.word 8\nret");
SNIPPET(push_ds, ".byte 0x1e\nret");

static void far_call(const char *name, unsigned selector, word to, int user) {
  target[0] = to, target[1] = selector;
  if (user) report_user(name, lcall_); else report(name, lcall_);
}

static void far_transfers(void) {
  far_call("far.same", KERNEL_CODE, (word)far_back, 0);
  AT(u32, target) = (u32)(word)far_back32, AT(u16, (word)target + 4) = KERNEL_CODE;
  report("far.same32", lcall32);
  far_call("far.null", 0, 0, 0), far_call("far.data", KERNEL_DATA, 0, 0), far_call("far.tss", TSS_SELECTOR, 0, 0);
  far_call("far.user-to-kernel", KERNEL_CODE, (word)far_back, 1);
  descriptor(CODE3, 0, 0xfffff, A_CODE | A_G | A_BIG | A_LONG);
  far_call("far.l-and-d", CODE3, (word)far_back, 0);
  report("far.direct-call", direct_far), report("far.push-ds", push_ds);
  // Call gates of 16 bytes.
  gdt[GATE >> 3] = gate_bits(KERNEL_CODE, (word)gate_back, A_CALL32 | A_DPL3, 0), gdt[(GATE >> 3) + 1] = 0;
  far_call("callgate.user", GATE | 3, 0, 1);
  print("callgate.used: %x\n", (word)exception_stack_top - seen[0]);
  far_call("callgate.kernel", GATE, 0, 0);
  gdt[(GATE >> 3) + 1] = 0x100ull << 32;
  far_call("callgate.upper-type", GATE | 3, 0, 1);
  gdt[(GATE >> 3) + 1] = 0x8000;
  far_call("callgate.non-canonical", GATE | 3, 0, 1);
  gdt[GATE >> 3] = gate_bits(KERNEL_CODE32, (word)gate_back, A_CALL32 | A_DPL3, 0), gdt[(GATE >> 3) + 1] = 0;
  far_call("callgate.to-compat", GATE | 3, 0, 1);
  gdt[GATE >> 3] = gate_bits(KERNEL_CODE, (word)gate_back, A_CALL16 | A_DPL3, 0);
  far_call("callgate.16-bit", GATE | 3, 0, 1);
  static const struct { const char *name; u64 ip; unsigned cs, flags, ss; } cases[] = {
    {"user", 0, USER_CODE64, 2, USER_DATA}, {"user-compat", 1, USER_CODE32, 2, USER_DATA}, {"same", 0, KERNEL_CODE, 2, KERNEL_DATA},
    {"same-null-ss", 0, KERNEL_CODE, 2, 0}, {"user-null-ss", 0, USER_CODE64, 2, 3}, {"user-null0-ss", 0, USER_CODE64, 2, 0},
    {"compat-null-ss", 1, USER_CODE32, 2, 3}, {"null-cs", 0, 0, 2, USER_DATA}, {"vm", 0, KERNEL_CODE, 0x20002, KERNEL_DATA},
    {"kernel-user-ss", 0, KERNEL_CODE, 2, USER_DATA}, {"kernel-compat", 1, KERNEL_CODE32, 2, KERNEL_DATA},
    {"non-canonical", 2, USER_CODE64, 2, USER_DATA}, {"l-and-d", 0, CODE3, 2, KERNEL_DATA}};
  for (unsigned n = 0; n < sizeof cases / sizeof *cases; ++n) {
    frame[0] = cases[n].ip == 0 ? (word)landed : cases[n].ip == 1 ? (word)landed32 : 0x800000000000ul;
    frame[1] = cases[n].cs, frame[2] = cases[n].flags, frame[3] = user_stack_top, frame[4] = cases[n].ss;
    print("iretq."), report(cases[n].name, iretq_);
    if (cases[n].ip != 2) print("iretl."), report(cases[n].name, iretl_);
  }
  report("iretq.nt", iret_nt);
}

SNIPPET(cr8_user, "mov %cr8,%rax\nret");
SNIPPET(cr8_big, "mov $16,%eax\nmov %rax,%cr8\nret");
SNIPPET(cr8_, "mov $5,%eax\nmov %rax,%cr8\nmov %cr8,%rax\nmov %rax,%rdx\nxor %eax,%eax\nmov %rax,%cr8\nmov %rdx,%rax\nret");

void guest(void) {
  ist();
  compatibility();
  system_calls();
  sysenters();
  bases();
  far_transfers();
  report("cr8.kernel", cr8_), report("cr8.too-big", cr8_big), report_user("cr8.user", cr8_user);
  AT(u32, 0xfee00080) = 0x70;
  report("cr8.of-tpr", cr8_);
  print("cr8.tpr-after: %x\n", (word)AT(u32, 0xfee00080));
}

// Virtual-8086 mode: what IOPL guards, interrupts and faults out of it, and IRET back into it.
// SDM Vol. 3, "8086 Emulation".
#include "runtime/real.h"

#define DONE "\nhlt\n"  // #GP(0) in any case; the guest takes it as the end
u32 v86_flags __asm__("v86_flags");
word v86_bx, v86_cx;
static struct frame taken;

SNIPPET(enter_v86, "pushl $0x1111\npushl $0x2222\npushl $0x3333\npushl $0x0\npushl $0\npushl $0x7000\npushl v86_flags\n"
        "pushl $0x900\npushl $0\nxor %eax,%eax\nxor %ebx,%ebx\nxor %ecx,%ecx\nxor %edx,%edx\nxor %esi,%esi\n"
        "xor %edi,%edi\niretl");
SNIPPET16(plain, "mov $0x1234,%ax" DONE);
SNIPPET16(segments, "mov %ds,%ax\nmov %es,%bx\nmov %fs,%cx\nmov %gs,%dx" DONE);
SNIPPET16(cli_, "cli\nmov $1,%ax" DONE);
SNIPPET16(sti_, "sti\nmov $1,%ax" DONE);
SNIPPET16(pushf_, "pushf\npop %ax" DONE);
SNIPPET16(pushfl_, "pushfl\npop %eax" DONE);
SNIPPET16(popf_, "pushw $0x7fd7\npopf\nmov $1,%ax" DONE);
SNIPPET16(popf_read, "pushw $0x4ed7\npopf\npushf\npop %ax" DONE);
SNIPPET16(int_, "int $0x70" DONE);
SNIPPET16(int_dpl0, "int $0x71" DONE);
SNIPPET16(int3_, "int3" DONE);
SNIPPET16(into_, "mov $0x7fff,%ax\ninc %ax\ninto" DONE);
SNIPPET16(icebp, ".byte 0xf1" DONE);
SNIPPET16(iret_, "pushw $0x0ed5\npush %cs\npush $0x20\niret\n.org iret_+0x20\npushf\npop %ax" DONE);
SNIPPET16(iretl_, "pushl $0x40ed5\npushl $0x900\npushl $0x30\niretl\n.org iretl_+0x30\npushfl\npop %eax" DONE);
SNIPPET16(in_, "in $0x80,%al\nmov $1,%ax" DONE);
SNIPPET16(out_, "mov $0x80,%dx\nout %al,%dx\nmov $1,%ax" DONE);
SNIPPET16(segment_load, "mov $0x1234,%ax\nmov %ax,%ds\nmov %ds,%bx\nmov 0x10,%cx" DONE);
SNIPPET16(word_ffff, "mov $0xffff,%bx\nmov (%bx),%ax" DONE);
SNIPPET16(far_call, "lcall $0x910,$0\nmov $2,%dx" DONE);
SNIPPET16(far_target, "mov %cs,%ax\nlret");
SNIPPET16(lgdt_, "lgdt 0x500" DONE);
SNIPPET16(lldt_, "lldt %ax" DONE);
SNIPPET16(sldt_, "sldt %ax" DONE);
SNIPPET16(str_, "str %ax" DONE);
SNIPPET16(lar_, "lar %ax,%bx" DONE);
SNIPPET16(verr_, "verr %ax" DONE);
SNIPPET16(arpl_, ".byte 0x63,0xc8" DONE);
SNIPPET16(smsw_, "smsw %ax" DONE);
SNIPPET16(lmsw_, "lmsw %ax" DONE);
SNIPPET16(clts_, "clts" DONE);
SNIPPET16(mov_cr0, "mov %cr0,%eax" DONE);
SNIPPET16(mov_dr0, "mov %dr0,%eax" DONE);
SNIPPET16(rdmsr_, "rdmsr" DONE);
SNIPPET16(rdtsc_, "rdtsc\nxor %eax,%eax\nxor %edx,%edx" DONE);
SNIPPET16(invlpg_, "invlpg 0x500" DONE);
SNIPPET16(sysenter_, "sysenter" DONE);
SNIPPET16(sysexit_, "sysexit" DONE);
SNIPPET16(cpuid_, "xor %ax,%ax\ncpuid\nmov $7,%eax\nxor %ebx,%ebx\nxor %ecx,%ecx\nxor %edx,%edx" DONE);
SNIPPET16(ud_, "ud2" DONE);
SNIPPET16(div_, "xor %cx,%cx\ndiv %cx" DONE);
SNIPPET16(push_ss_wrap, "mov $0,%sp\npush %ax\nmov %sp,%bx" DONE);
SNIPPET16(lock_, "lock incw 0x500" DONE);
SNIPPET16(wbinvd_, "wbinvd" DONE);

static int take(struct frame *f) {
  taken = *f;
  v86_bx = f->bx, v86_cx = f->cx;
  return 0;
}

static void v86(const char *prefix, const char *name, code *fn) {
  copy((void *)REAL_CODE, (void *)fn, 0x100);
  AT(u32, 0x500) = 0;
  attempt(enter_v86);
  const int in_v86 = (last.flags & F_VM) != 0;
  const int done = last.vector == GP && in_v86 && AT(u8, REAL_CODE + (last.ip & 0xff)) == 0xf4;
  print("%s.%s: ", prefix, name);
  if (done) print("done");
  else print("v%u", last.vector);
  if (!done && last.vector >= TS && last.vector <= PF) print(".%x", last.error);
  print(" ip=%x cs=%x flags=%x ax=%x bx=%x cx=%x", last.ip, last.cs & 0xffff, last.flags & 0x3e7fd7, last.ax,
        v86_bx, v86_cx);
  if (in_v86)
    print(" sp=%x ss=%x es=%x ds=%x fs=%x gs=%x", taken.sp, taken.ss & 0xffff, (word)taken.v86_es & 0xffff,
          (word)taken.v86_ds & 0xffff, (word)taken.v86_fs & 0xffff, (word)taken.v86_gs & 0xffff);
  print("\n");
}

static void all(const char *prefix) {
#define V(fn) v86(prefix, #fn, fn)
  V(plain), V(segments), V(cli_), V(sti_), V(pushf_), V(pushfl_), V(popf_), V(popf_read), V(int_), V(int_dpl0), V(int3_);
  V(into_), V(icebp), V(iret_), V(iretl_), V(in_), V(out_), V(segment_load), V(word_ffff);
  V(far_call), V(lgdt_), V(lldt_), V(sldt_), V(str_), V(lar_), V(verr_), V(arpl_), V(smsw_), V(lmsw_);
  V(clts_), V(mov_cr0), V(mov_dr0), V(rdmsr_), V(rdtsc_), V(invlpg_), V(sysexit_), V(cpuid_), V(ud_);
  V(div_), V(push_ss_wrap), V(lock_), V(wbinvd_);
}

// IRET to virtual-8086 mode from ring 3 does not set VM.
SNIPPET(user_iret_vm, "pushl $0\npushl $0\npushl $0\npushl $0\npushl $0x23\npushl %esp\npushl $0x20002\npushl $0x1b\n"
        "pushl $1f\niretl\n1: pushf\npop %eax\nint $0x60");

void guest(void) {
  AT(u32, 0x12340 + 0x10) = 0x9876;
  copy((void *)0x9100, (void *)far_target, 0x20);
  hook = take;
  gate(0x70, KERNEL_CODE, stub(0x70), A_INT32 | A_DPL3);
  v86_flags = F_VM | 2, all("iopl0");
  v86_flags = F_VM | 0x3002, all("iopl3");
  tss[104 + 16] = 0;
  descriptor(TSS_SELECTOR, (word)tss, 104 + 31, A_TSS32);
  FLAT("ltr %w0" ::"r"(TSS_SELECTOR));
  v86("open-map", "in_", in_), v86("open-map", "out_", out_);
  gate(0x70, USER_CODE32, stub(0x70), A_INT32 | A_DPL3);
  v86("to-ring-3", "int_", int_);
  descriptor(FREE, 0, 0xfffff, A_CONFORMING | A_G | A_BIG);
  gate(0x70, FREE, stub(0x70), A_INT32 | A_DPL3);
  v86("to-conforming", "int_", int_);
  hook = 0;
  report_user("user-iret-vm", user_iret_vm);
}

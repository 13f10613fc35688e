// Real-address mode: the IVT, far transfers, wrap at 64 KiB, faults at the limit, "unreal" segments,
// the A20 gate. SDM Vol. 3, "8086 Emulation".
#include "runtime/real.h"

SNIPPET16(plain, "mov $0x1234,%ax" FINISH);
SNIPPET16(int_, "stc\nint $0x21" FINISH);
SNIPPET16(int_back, "push %ds\nxor %ax,%ax\nmov %ax,%ds\nmovw $0x40,0x88\nmovw $0x900,0x8a\npop %ds\nsti\nint $0x22\n"
          "pushf\npop %ax" FINISH "\n.org int_back+0x40\npushf\npop %bx\nmov %sp,%bp\nmov (%bp),%cx\n"
          "mov 2(%bp),%dx\nmov 4(%bp),%si\niret");
SNIPPET16(int3_, "int3" FINISH);
SNIPPET16(into_, "mov $0x7fff,%ax\ninc %ax\ninto" FINISH);
SNIPPET16(into_not, "xor %ax,%ax\ninto" FINISH);
SNIPPET16(bound_, "movw $1,0x500\nmovw $5,0x502\nmov $6,%ax\nbound %ax,0x500" FINISH);
SNIPPET16(div_, "xor %cx,%cx\ndiv %cx" FINISH);
SNIPPET16(ud_, "ud2" FINISH);
SNIPPET16(far_call, "lcall $0x910,$0\nmov %cs,%dx" FINISH "\n.org far_call+0x100\n");
SNIPPET16(far_target, "mov %sp,%bp\nmov (%bp),%bx\nmov 2(%bp),%cx\nmov %cs,%ax\nlret");
SNIPPET16(far_call32, "lcalll $0x910,$0x20\nmov %cs,%dx\n" FINISH);
SNIPPET16(far_jump_memory, "movw $0x50,0x500\nmovw $0x900,0x502\nljmp *0x500\nud2\n.org far_jump_memory+0x50\nmov $0x51,%al" FINISH);
SNIPPET16(word_ffff, "mov $0xffff,%bx\nmov (%bx),%ax" FINISH);
SNIPPET16(dword_fffd, "mov $0xfffd,%bx\nmov (%bx),%eax" FINISH);
SNIPPET16(write_ffff, "mov $0xffff,%bx\nmov %ax,(%bx)" FINISH);
SNIPPET16(byte_10000, "mov $0x10000,%ebx\nmov (%ebx),%al" FINISH);
SNIPPET16(stack_word, "mov $0x77,%ax\n.byte 0x36,0xa1,0xff,0xff" FINISH);
SNIPPET16(index_wraps, "movw $0x4242,0x510\nmov $0xf510,%bx\nmov 0x1000(%bx),%ax" FINISH);
SNIPPET16(push_wraps, "mov $0x1000,%ax\nmov %ax,%ss\nxor %sp,%sp\nmov $0xabcd,%dx\npush %dx\nmov %sp,%bx\nmov $0x2000,%ax\nmov %ax,%es\n"
          "movw %ss:0xfffe,%cx\nxor %ax,%ax\nmov %ax,%ss\nmov $0x7000,%sp" FINISH);
SNIPPET16(push_sp, "push %sp\npop %ax" FINISH);
SNIPPET16(movs_wraps, "mov $0x1000,%ax\nmov %ax,%ds\nmov %ax,%es\nmovb $0x11,0xffff\nmovb $0x22,0\nmov $0xffff,%si\nmov $0x200,%di\nmov $2,%cx\n"
          "rep movsb\nmov 0x200,%ax\nxor %bx,%bx\nmov %bx,%ds" FINISH);
SNIPPET16(stosw_end, "mov $0x1000,%ax\nmov %ax,%es\nmov $0xfffd,%di\nmov $2,%cx\nrep stosw" FINISH);
SNIPPET16(lods_down, "std\nmov $1,%si\nlodsb\nlodsb\nlodsb\ncld\nmov $0,%ax" FINISH);
SNIPPET16(cmps_, "mov $0x500,%si\nmov $0x540,%di\nmovb $1,0x500\nmovb $1,0x540\nmovb $2,0x501\nmovb $3,0x541\nmov $9,%cx\nrepe cmpsb\nlahf" FINISH);
SNIPPET16(loop_cx, "mov $0x10003,%ecx\n1: inc %ax\nloop 1b" FINISH);
SNIPPET16(jcxz_, "mov $0x10000,%ecx\njcxz 1f\nmov $1,%ax\n1: jecxz 2f\nmov $2,%bx\n2:" FINISH);
SNIPPET16(rep32, "mov $0x10002,%ecx\nmov $0x500,%di\nrep stosb" FINISH);
SNIPPET16(flags_, "pushw $0x7fd7\npopf\npushf\npop %ax\npushw $2\npopf" FINISH);
SNIPPET16(flags32, "pushl $0x247ed7\npopfl\npushfl\npop %eax\npushl $2\npopfl" FINISH);
SNIPPET16(iret_, "pushw $0x3ed5\npush %cs\npush $0x20\niret\n.org iret_+0x20\npushf\npop %ax\ncli\ncld" FINISH);
SNIPPET16(lmsw_smsw, "smsw %ax" FINISH);
SNIPPET16(sldt_, "sldt %ax" FINISH);
SNIPPET16(str_, "str %ax" FINISH);
SNIPPET16(lar_, "lar %cx,%ax" FINISH);
SNIPPET16(verr_, "verr %cx" FINISH);
SNIPPET16(arpl_, ".byte 0x63,0xc8" FINISH);
SNIPPET16(lldt_, "lldt %cx" FINISH);
SNIPPET16(sysenter_, "sysenter" FINISH);
SNIPPET16(syscall_, "syscall" FINISH);
SNIPPET16(invlpg_, "invlpg 0x500\nmov $5,%ax" FINISH);
SNIPPET16(sgdt_, "sgdt 0x500\nmov 0x500,%ax" FINISH);
SNIPPET16(hlt_skipped, "nop" FINISH);
SNIPPET16(lock_, "lock incw 0x500" FINISH);
SNIPPET16(lock_ud, ".byte 0xf0,0x40" FINISH);
SNIPPET16(long_insn, ".byte 0x2e,0x2e,0x2e,0x2e,0x2e,0x2e,0x2e,0x2e,0x2e,0x2e,0x2e,0x2e,0x2e,0x2e,0x2e,0x90" FINISH);
SNIPPET16(mov_cs, ".byte 0x8e,0xc8" FINISH);
SNIPPET16(lds_, "movw $0x11,0x500\nmovw $0x22,0x502\nlds 0x500,%bx\nmov %ds,%ax\nxor %cx,%cx\nmov %cx,%ds" FINISH);
SNIPPET16(les_ffff, "mov $0xfffd,%bx\nles (%bx),%ax" FINISH);
SNIPPET16(enter_, "mov $0x1111,%bp\nenter $8,$1\nmov %bp,%ax\nmov %sp,%bx\nleave\nmov %bp,%cx" FINISH);
SNIPPET16(unreal, "mov $0x900010,%ebx\nmov %fs:(%ebx),%eax" FINISH);
SNIPPET16(unreal_loads, "mov %fs,%ax\nmov %ax,%fs\nmov $0x900010,%ebx\nmov %fs:(%ebx),%eax" FINISH);
SNIPPET16(a20_off, "in $0x92,%al\nand $0xfc,%al\nout %al,$0x92\nmov $0xffff,%ax\nmov %ax,%es\nmovl %es:0x510,%eax\nmov %eax,%ebx\n"
          "in $0x92,%al\nor $2,%al\nout %al,$0x92\nmovl %es:0x510,%ecx\nmovzbw %al,%ax\nand $2,%ax\n" FINISH);
SNIPPET16(ivt_moved, "movw $0x3f,0x500\nmovl $0,0x502\nlidt 0x500\nint $0x21" FINISH);
SNIPPET16(paddr, "mov $0xffff,%ax\nmov %ax,%es\nmovb %es:0x10,%al" FINISH);

// FS with 4 GiB, made in protected mode, keeps its limit.
SNIPPET(enter_unreal, "lidt real_ivt\nmov $0x50,%eax\nmov %eax,%ds\nmov %eax,%es\nmov %eax,%ss\nmov $0x10,%eax\nmov %eax,%fs\n"
        "mov %eax,%gs\nljmp $0x48,$0x8010\n");

static void unreal_segment(const char *name, code *fn) {
  copy((void *)REAL_CODE, (void *)fn, 0x100);
  attempt(enter_unreal);
  real_line(name);
}

void guest(void) {
  real_prepare();
#define RUN(fn) real(#fn, fn)
  RUN(plain), RUN(int_), RUN(int_back), RUN(int3_), RUN(into_), RUN(into_not), RUN(bound_), RUN(div_), RUN(ud_);
  copy((void *)0x9100, (void *)far_target, 0x20);
  copy((void *)0x9120, (void *)far_target, 0x20);
  AT(u8, 0x9120 + 10) = 0x66, AT(u8, 0x9120 + 11) = 0xcb;  // lretl
  RUN(far_call), RUN(far_call32), RUN(far_jump_memory);
  RUN(word_ffff), RUN(dword_fffd), RUN(write_ffff), RUN(byte_10000), RUN(stack_word);
  RUN(index_wraps), RUN(push_wraps), RUN(push_sp), RUN(movs_wraps), RUN(stosw_end), RUN(lods_down), RUN(cmps_);
  RUN(loop_cx), RUN(jcxz_), RUN(rep32), RUN(flags_), RUN(flags32), RUN(iret_);
  RUN(sldt_), RUN(str_), RUN(lar_), RUN(verr_), RUN(arpl_), RUN(lldt_), RUN(sysenter_);
  RUN(lmsw_smsw), RUN(invlpg_), RUN(sgdt_), RUN(lock_), RUN(lock_ud), RUN(long_insn), RUN(mov_cs), RUN(lds_), RUN(les_ffff);
  RUN(enter_), RUN(ivt_moved);
  AT(u32, 0x900010) = 0x12345678;
  RUN(unreal);
  unreal_segment("unreal.kept", unreal);
  unreal_segment("unreal.base-reloaded", unreal_loads);
  AT(u32, 0x500) = 0x0badcafe, AT(u32, 0x100500) = 0;
  const u32 kept = AT(u32, 0x100500);
  AT(u32, 0x100500) = 0x600dcafe;
  real("a20", a20_off);
  AT(u32, 0x100500) = kept;
}

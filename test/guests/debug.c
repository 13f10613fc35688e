// Debug exceptions: single steps, breakpoints, DR6 and DR7, RF, INT1, the shadows of MOV SS, POP SS
// and STI. SDM Vol. 3, "Debug, Branch Profile, TSC, and Intel Resource Director Technology".
#include "guest.h"

word start __asm__("start");
u32 cell[8] __asm__("cell") __attribute__((aligned(16)));
static unsigned steps, step_limit;
static int quiet;

// Prints each #DB (and NMI, #BP) and goes on; the flags' TF goes when the limit is reached.
static int trace(struct frame *f) {
  if (f->vector != DB) return 0;
  const word dr6 = get_dr6();
  if (!quiet) print(" [+%x dr6=%x flags=%x]", f->ip - start, dr6 & 0xe00f, f->flags & 0x10100);
  set_dr6(0xffff0ff0);
  if (++steps >= step_limit) f->flags &= ~(word)F_TF;
  return 1;
}

static void traced(const char *name, code *fn, int user) {
  print("%s:", name);
  start = (word)fn, steps = 0, step_limit = 40;
  hook = trace;
  if (user) attempt_user(fn); else attempt(fn);
  hook = 0;
  set_dr7(0x400);
  set_dr6(0xffff0ff0);
  outcome_line(" end", fn);
}

#define TRACE_ON "pushf\norl $0x100,(%esp)\npopf\n"
#define TRACE_OFF "pushf\nandl $~0x100,(%esp)\npopf\n"
SNIPPET(steps_, TRACE_ON "nop\ninc %eax\njmp 1f\nnop\n1: nop\n" TRACE_OFF "xor %eax,%eax\nret");
SNIPPET(rep_, "mov $3,%ecx\nmov $cell,%edi\nxor %eax,%eax\n" TRACE_ON "rep stosb\nnop\n" TRACE_OFF "ret");
SNIPPET(mov_ss, "mov %ss,%edx\n" TRACE_ON "mov %edx,%ss\nnop\nnop\n" TRACE_OFF "xor %eax,%eax\nret");
SNIPPET(pop_ss, "push %ss\n" TRACE_ON "pop %ss\nnop\nnop\n" TRACE_OFF "xor %eax,%eax\nret");
SNIPPET(mov_ss_twice, "mov %ss,%edx\n" TRACE_ON "mov %edx,%ss\nmov %edx,%ss\nnop\nnop\n" TRACE_OFF "xor %eax,%eax\nret");
SNIPPET(mov_ds, "mov %ds,%edx\n" TRACE_ON "mov %edx,%ds\nnop\n" TRACE_OFF "xor %eax,%eax\nret");
SNIPPET(sti_traced, TRACE_ON "sti\nnop\ncli\n" TRACE_OFF "xor %eax,%eax\nret");
SNIPPET(int_traced, TRACE_ON "int $0x70\nnop\n" TRACE_OFF "xor %eax,%eax\nret");
SNIPPET(fault_traced, TRACE_ON "nop\nud2\nret");
SNIPPET(iret_traced, "pushf\norl $0x100,(%esp)\npush %cs\npush $1f\niretl\n1: nop\nnop\n" TRACE_OFF "xor %eax,%eax\nret");
SNIPPET(popf_clears, TRACE_ON "nop\n" TRACE_OFF "nop\nnop\nxor %eax,%eax\nret");
SNIPPET(int1_, "nop\n.byte 0xf1\nnop\nxor %eax,%eax\nret");
SNIPPET(pushf_traced, TRACE_ON "pushf\npop %eax\n" TRACE_OFF "and $0x100,%eax\nret");
SNIPPET(cpuid_traced, TRACE_ON "xor %eax,%eax\ncpuid\nnop\n" TRACE_OFF "xor %eax,%eax\nret");
SNIPPET(loop_traced, "mov $2,%ecx\n" TRACE_ON "1: loop 1b\n" TRACE_OFF "xor %eax,%eax\nret");

SNIPPET(three_nops, "nop\nnop\nnop\nmov $7,%eax\nret");
SNIPPET(touches, "movl $1,cell\nmov cell,%eax\nmovb $1,cell+3\nmovw $1,cell+6\nmov cell+4,%eax\naddl $1,cell\n"
        "mov cell+8,%eax\nmovl $1,cell+8\nmov $8,%eax\nret");
SNIPPET(movs_, "mov $cell+16,%esi\nmov $cell,%edi\nmov $6,%ecx\nrep movsb\nmov %ecx,%eax\nret");
SNIPPET(push_pop, "mov %esp,%edx\nmov $cell+8,%esp\npush $1\npop %eax\nmov %edx,%esp\nmov $9,%eax\nret");
SNIPPET(ss_then_data, "mov %ss,%edx\nmov %edx,%ss\nmovl $1,cell\nnop\nmov $3,%eax\nret");
SNIPPET(mov_ss_data, "mov %ss,cell\nmov cell,%ss\nnop\nnop\nmov $3,%eax\nret");
SNIPPET(in_80, "mov $0x80,%edx\nout %al,%dx\nin %dx,%al\nout %al,$0x84\nmov $4,%eax\nret");
SNIPPET(rf_iret, "pushf\norl $0x10000,(%esp)\npush %cs\npush $1f\niretl\n1: nop\nnop\nmov $5,%eax\nret");
SNIPPET(rf_popf, "pushf\norl $0x10000,(%esp)\npopf\nnop\nnop\nmov $5,%eax\nret");
SNIPPET(read_dr0, "mov %dr0,%eax\nmov $1,%eax\nret");
SNIPPET(read_dr4, "mov %dr4,%eax\nret");
SNIPPET(read_dr5, "mov %dr5,%eax\nret");
SNIPPET(write_dr7, "mov $0x400,%eax\nmov %eax,%dr7\nmov $1,%eax\nret");
SNIPPET(both, "nop\nmovl $1,cell\nnop\nmov $6,%eax\nret");

static word condition(unsigned n, unsigned type, unsigned length) {
  return (word)(1u << (2 * n) | type << (16 + 4 * n) | length << (18 + 4 * n)) | 0x400;
}

// Instruction breakpoints push RF here by hand: a handler that returns must set it.
static int code_trace(struct frame *f) {
  if (f->vector != DB) return 0;
  print(" [+%x dr6=%x rf=%x]", f->ip - start, get_dr6() & 0xe00f, f->flags & F_RF);
  set_dr6(0xffff0ff0);
  f->flags |= F_RF;
  return ++steps < 20;
}

static void code_breaks(const char *name, code *fn, word offset) {
  print("%s:", name);
  start = (word)fn, steps = 0;
  hook = code_trace;
  set_dr0(start + offset);
  set_dr7(condition(0, 0, 0));
  attempt(fn);
  hook = 0;
  set_dr7(0x400);
  outcome_line(" end", fn);
}

static void data_breaks(const char *name, code *fn, word at, unsigned type, unsigned length) {
  set_dr1((word)cell + at);
  set_dr7(condition(1, type, length));
  traced(name, fn, fn == push_pop);  // which has no stack for an exception of its own ring
}

static int count_70(struct frame *f) {
  if (f->vector == 0x70) return 1;
  return trace(f);
}

static void registers(void) {
  set_dr6(0), print("dr6.zero: %x\n", get_dr6());
  set_dr6(0xffffffff), print("dr6.ones: %x\n", get_dr6() & 0xffffe7ff);
  set_dr7(0), print("dr7.zero: %x\n", get_dr7());
  set_dr7(0xffff0000), print("dr7.ones: %x\n", get_dr7());
  set_dr7(0x400), set_dr6(0xffff0ff0);
  set_dr0(0x12345678), print("dr0: %x\n", get_dr0());
  set_cr4(get_cr4() & ~(word)CR4_DE);
  report("dr4.alias", read_dr4), report("dr5.alias", read_dr5);
  set_cr4(get_cr4() | CR4_DE);
  report("dr4.de", read_dr4), report("dr5.de", read_dr5);
  report_user("dr0.user", read_dr0), report_user("dr4.user", read_dr4);
  set_dr7(0x2400);
  report("gd.read", read_dr0);
  print("gd.after: dr6=%x dr7=%x\n", get_dr6() & 0xe00f, get_dr7());
  set_dr6(0xffff0ff0), set_dr7(0x2400);
  report("gd.write", write_dr7);
  set_dr7(0x400), set_dr6(0xffff0ff0);
}

void guest(void) {
  traced("step", steps_, 0), traced("step.user", steps_, 1), traced("step.rep", rep_, 0);
  traced("step.mov-ss", mov_ss, 0), traced("step.pop-ss", pop_ss, 0), traced("step.mov-ss-twice", mov_ss_twice, 0);
  traced("step.mov-ds", mov_ds, 0), traced("step.sti", sti_traced, 0), traced("step.fault", fault_traced, 0);
  traced("step.iret", iret_traced, 0), traced("step.popf", popf_clears, 0), traced("step.pushf", pushf_traced, 0);
  traced("step.cpuid", cpuid_traced, 0), traced("step.loop", loop_traced, 0);
  print("step.int:");
  start = (word)int_traced, steps = 0, step_limit = 20, hook = count_70;
  attempt(int_traced);
  hook = 0, outcome_line(" end", int_traced);
  traced("int1", int1_, 0), traced("int1.user", int1_, 1);
  code_breaks("code.first", three_nops, 0), code_breaks("code.second", three_nops, 1);
  code_breaks("code.after-mov-ss", mov_ss_data, 12), code_breaks("code.after-shadow", mov_ss_data, 13);
  code_breaks("code.rf-iret", rf_iret, 0x11), code_breaks("code.rf-popf", rf_popf, 9);
  code_breaks("code.int1-at-break", int1_, 1);
  static const struct { const char *name; unsigned at, type, length; } cases[] = {
    {"write4", 0, 1, 3}, {"write1", 3, 1, 0}, {"write2", 6, 1, 1}, {"access4", 4, 3, 3}, {"access1", 1, 3, 0},
    {"write4-unaligned", 2, 1, 3}, {"access2", 8, 3, 1}};
  for (unsigned n = 0; n < sizeof cases / sizeof *cases; ++n) {
    print("data."), data_breaks(cases[n].name, touches, cases[n].at, cases[n].type, cases[n].length);
  }
  data_breaks("data.movs", movs_, 2, 1, 0);
  data_breaks("data.stack", push_pop, 4, 3, 3);
  data_breaks("data.after-mov-ss", ss_then_data, 0, 1, 3);
  data_breaks("data.held-by-mov-ss", mov_ss_data, 0, 3, 3);
  set_dr2((word)cell), set_dr3((word)cell + 2);
  set_dr7(condition(2, 1, 3) | condition(3, 1, 1));
  traced("data.two-at-once", both, 0);
  set_cr4(get_cr4() | CR4_DE);
  set_dr1(0x80), set_dr7(condition(1, 2, 0));
  traced("io", in_80, 0);
  set_cr4(get_cr4() & ~(word)CR4_DE);
  registers();
}

// Hardware task switches: JMP, CALL, IRET, task gates, both kinds of TSS, faults of a switch.
// SDM Vol. 3, "Task Management".
#include "guest.h"

struct tss32 {
  u32 link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi, es, cs, ss,
      ds, fs, gs, ldt;
  u16 trap, map;
};
struct tss16 {
  u16 link, sp0, ss0, sp1, ss1, sp2, ss2, ip, flags, ax, cx, dx, bx, sp, bp, si, di, es, cs, ss, ds, ldt;
};
enum { OTHER = FREE, GATE = FREE + 8, NARROW = FREE + 0x10, FAULTY = FREE + 0x18, LDT = FREE + 0x20, STACK2 = 0x910000,
       STACK3 = 0x920000 };
static struct tss32 other;
static struct tss16 narrow;
u32 target[2] __asm__("target");
u32 seen[8] __asm__("seen");
u32 resume_sp __asm__("resume_sp");

#define MAIN (*(struct tss32 *)tss)
SNIPPET(call_task, "mov $0x1110,%ebx\nstc\nlcall *target\nsetc %al\nmovzbl %al,%eax\nor %ebx,%eax\nret");
SNIPPET(jump_task, "mov $0x2222,%ebx\nljmp *target\nmov %ebx,%eax\nret");
SNIPPET(int_task, "mov $0x3333,%ebx\nint $0x70\nmov %ebx,%eax\nret");
SNIPPET(nested_iret, "pushf\norl $0x4000,(%esp)\npopf\niretl\nret");
// The other task notes what it was given, and returns; its registers come from its TSS.
SNIPPET(other_iret, "other_again: mov %eax,seen\nmov %ecx,seen+4\npushf\npopl seen+8\nstr %eax\nmov %eax,seen+12\n"
        "mov %cr0,%eax\nand $8,%eax\nmov %eax,seen+16\nmov %fs,%eax\nmov %eax,seen+20\nclts\nmov $0x55,%eax\niretl\n"
        "mov $0x66,%ecx\njmp other_again");
SNIPPET(other_jumps, "mov %eax,seen\nstr %eax\nmov %eax,seen+12\npushf\npopl seen+8\nmov %cr0,%eax\nand $8,%eax\n"
        "mov %eax,seen+16\nclts\nljmp $0x30,$0\n");
SNIPPET(other_error, "popl seen\nmov %esp,seen+4\nmov $1,%eax\nmov MAIN_EIP,%eax\niretl");
asm(".globl MAIN_EIP\n.set MAIN_EIP, tss+32");

static unsigned type_of(unsigned selector) { return (unsigned)(gdt[selector >> 3] >> 40) & 0xff; }

static void fresh(struct tss32 *t, code *fn) {
  fill(t, 0, sizeof *t);
  t->eip = (word)fn, t->eflags = 2, t->esp = STACK2, t->cs = KERNEL_CODE;
  t->ss = t->ds = t->es = KERNEL_DATA;
  t->eax = 0xaaaa, t->ecx = 0xcccc, t->map = 104;
  t->esp0 = STACK3, t->ss0 = KERNEL_DATA;
}

static void prepare(code *fn) {
  fill(seen, 0, sizeof seen);
  fresh(&other, fn);
  other.cr3 = get_cr3();
  system_descriptor(OTHER, (word)&other, 103, A_TSS32);
  system_descriptor(TSS_SELECTOR, (word)tss, 103, 0x8b);
  target[1] = OTHER;
  FLAT("clts");
}

static void state(const char *name) {
  u16 tr;
  FLAT("str %0" : "=r"(tr));
  print("%s: main=%x other=%x tr=%x link=%x nt=%x seen=%x %x flags=%x tr=%x ts=%x\n", name, (word)type_of(TSS_SELECTOR),
        (word)type_of(OTHER), (word)tr, (word)other.link, get_cr0() & 8, (word)seen[0], (word)seen[1],
        (word)seen[2] & 0x7fff, (word)seen[3], (word)seen[4]);
}

static void switches(void) {
  prepare(other_iret);
  report("call.tss", call_task), state("call.tss.state");
  print("call.tss.saved: ebx=%x cs=%x ss=%x flags=%x\n", (word)MAIN.ebx, (word)MAIN.cs, (word)MAIN.ss,
        (word)MAIN.eflags & 0x7fd7);
  print("call.tss.other-saved: eax=%x flags=%x\n", (word)other.eax, (word)other.eflags);
  report("call.again", call_task), state("call.again.state");
  prepare(other_jumps);
  report("jump.tss", jump_task), state("jump.tss.state");
  prepare(other_iret);
  gdt[GATE >> 3] = gate_bits(OTHER, 0, A_TASK_GATE, 0);
  target[1] = GATE;
  report("call.gate", call_task), state("call.gate.state");
  prepare(other_iret);
  idt_bytes(0x70, gate_bits(OTHER, 0, A_TASK_GATE, 0));
  report("int.gate", int_task), state("int.gate.state");
  report_user("int.user-gate-dpl0", int_task);
  prepare(other_iret);
  idt_bytes(0x70, gate_bits(OTHER, 0, A_TASK_GATE | A_DPL3, 0));
  report_user("int.user-gate", int_task), state("int.user-gate.state");
  print("int.user-gate.saved: cs=%x ss=%x\n", (word)MAIN.cs, (word)MAIN.ss);
  prepare(other_iret);
  other.trap = 1;
}

// An exception through a task gate: the error code is on the new task's stack.
SNIPPET(bad_load, "mov $0x7f8,%ecx\nmov %ecx,%fs\nmov $0x9,%eax\nret");
SNIPPET(gp_task, "popl seen\nmov %esp,seen+4\naddl $2,tss+32\nclts\niretl");

static void exceptions(void) {
  prepare(gp_task);
  idt_bytes(GP, gate_bits(OTHER, 0, A_TASK_GATE, 0));
  report("exception.gp", bad_load), state("exception.gp.state");
  gate(GP, KERNEL_CODE, stub(GP), A_INT32);
}

static void refuse(const char *name, u32 access, u32 limit) {
  system_descriptor(OTHER, (word)&other, limit, access);
  print("refuse.%s.", name), report("call", call_task);
  print("refuse.%s.", name), report("jmp", jump_task);
  print("refuse.%s.", name), report("int", int_task);
}

static void refusals(void) {
  prepare(other_iret);
  idt_bytes(0x70, gate_bits(OTHER, 0, A_TASK_GATE, 0));
  refuse("busy", 0x8b, 103), refuse("absent", 0x09, 103), refuse("limit", A_TSS32, 102);
  refuse("ldt", A_LDT, 103), refuse("data", A_DATA, 103);
  prepare(other_iret);
  print("refuse.user."), report_user("call", call_task);
  gdt[GATE >> 3] = gate_bits(OTHER, 0, 0x05, 0), target[1] = GATE;
  report("refuse.gate-absent", call_task);
  gdt[GATE >> 3] = gate_bits(0, 0, A_TASK_GATE, 0);
  report("refuse.gate-null", call_task);
  gdt[GATE >> 3] = gate_bits(OTHER | 4, 0, A_TASK_GATE, 0);
  report("refuse.gate-local", call_task);
  gdt[GATE >> 3] = gate_bits(0x7f8, 0, A_TASK_GATE, 0);
  report("refuse.gate-beyond", call_task);
  MAIN.link = OTHER;
  report("refuse.iret-not-busy", nested_iret);
  MAIN.link = 0;
  report("refuse.iret-null", nested_iret);
  MAIN.link = 0x7f8;
  report("refuse.iret-beyond", nested_iret);
}

// What the incoming task's TSS holds is checked in the new task, whose stack may be as bad: tasks of
// their own take the exceptions.
enum { HANDLERS = FREE + 0x30 };
static struct tss32 handlers[3];
static const unsigned handled[3] = {TS, NP, GP};
#define HANDLER(name, vector) \
  SNIPPET(name, "push $" #vector "\ncall handle")
HANDLER(handle_ts, 10);
HANDLER(handle_np, 11);
HANDLER(handle_gp, 13);

__attribute__((used)) static void handle(word vector, word error) {
  u16 tr;
  FLAT("str %0" : "=r"(tr));
  const struct tss32 *self = &handlers[vector == TS ? 0 : vector == NP ? 1 : 2];
  print("v%u.%x in-task=%x link=%x first-ip=%x other=%x main=%x\n", vector, error, (word)tr, (word)self->link,
        (word)(other.eip == (word)other_iret), (word)type_of(OTHER), (word)type_of(TSS_SELECTOR));
  // Back to the main task for recover().
  FLAT("pushf; andl $~0x4000,(%esp); popf");
  system_descriptor(TSS_SELECTOR, (word)tss, 103, A_TSS32);
  FLAT("clts; lldt %w0; ltr %w1" ::"r"(0), "r"(TSS_SELECTOR));
  recover();
}

static void handle_by_tasks(void) {
  static code *const entries[3] = {handle_ts, handle_np, handle_gp};
  for (unsigned n = 0; n < 3; ++n) {
    fresh(&handlers[n], entries[n]);
    handlers[n].cr3 = get_cr3(), handlers[n].esp = STACK3 + 0x1000 * n;
    system_descriptor(HANDLERS + 8 * n, (word)&handlers[n], 103, A_TSS32);
    idt_bytes(handled[n], gate_bits(HANDLERS + 8 * n, 0, A_TASK_GATE, 0));
  }
}

static struct { word taken, tr, first_ip, nt, dr6; } trap;

static int in_task(struct frame *f) {
  u16 tr;
  FLAT("str %0" : "=r"(tr));
  trap.taken = f->vector, trap.tr = tr, trap.first_ip = f->ip == other.eip, trap.nt = f->flags & F_NT;
  trap.dr6 = get_dr6() & 0xe00f;
  FLAT("pushf; andl $~0x4000,(%esp); popf");
  system_descriptor(TSS_SELECTOR, (word)tss, 103, A_TSS32);
  FLAT("clts; lldt %w0; ltr %w1" ::"r"(0), "r"(TSS_SELECTOR));
  return 0;
}

static void bad_images(void) {
  static const struct { const char *name; u32 cs, ss, ds, ldt; } cases[] = {
    {"cs-null", 0, KERNEL_DATA, KERNEL_DATA, 0}, {"cs-data", KERNEL_DATA, KERNEL_DATA, KERNEL_DATA, 0},
    {"cs-beyond", 0x7f8, KERNEL_DATA, KERNEL_DATA, 0}, {"cs-rpl3-dpl0", KERNEL_CODE | 3, KERNEL_DATA, KERNEL_DATA, 0},
    {"cs-absent", FAULTY, KERNEL_DATA, KERNEL_DATA, 0}, {"ds-beyond", KERNEL_CODE, KERNEL_DATA, 0x7f8, 0},
    {"ds-tss", KERNEL_CODE, KERNEL_DATA, TSS_SELECTOR, 0}, {"ds-absent", KERNEL_CODE, KERNEL_DATA, FAULTY, 0},
    {"ss-null", KERNEL_CODE, 0, KERNEL_DATA, 0}, {"ss-beyond", KERNEL_CODE, 0x7f8, KERNEL_DATA, 0},
    {"ss-rpl3", KERNEL_CODE, USER_DATA, KERNEL_DATA, 0}, {"ss-code", KERNEL_CODE, KERNEL_CODE, KERNEL_DATA, 0},
    {"user-ss0", USER_CODE32, KERNEL_DATA, USER_DATA, 0}, {"user-ds0", USER_CODE32, USER_DATA, KERNEL_DATA, 0},
    {"ldt-data", KERNEL_CODE, KERNEL_DATA, KERNEL_DATA, KERNEL_DATA},
    {"ldt-beyond", KERNEL_CODE, KERNEL_DATA, KERNEL_DATA, 0x7f8},
    {"ldt-absent", KERNEL_CODE, KERNEL_DATA, KERNEL_DATA, LDT}};
  system_descriptor(LDT, 0, 0xff, 0x02);
  for (unsigned n = 0; n < sizeof cases / sizeof *cases; ++n) {
    prepare(other_iret);
    descriptor(FAULTY, 0, 0xfffff, (cases[n].cs == FAULTY ? 0x1b : 0x13) | A_G | A_BIG);
    other.cs = cases[n].cs, other.ss = cases[n].ss, other.ds = cases[n].ds, other.ldt = cases[n].ldt;
    handle_by_tasks();
    print("image.%s: ", cases[n].name), attempt(call_task);
  }
  prepare(other_iret);
  descriptor(FAULTY, 0, 0xfff, A_CODE | A_BIG), other.cs = FAULTY;
  handle_by_tasks();
  print("image.eip-past-limit: "), attempt(call_task);
  for (unsigned n = 0; n < 3; ++n) gate(handled[n], KERNEL_CODE, stub(handled[n]), A_INT32);
  prepare(other_iret);
  hook = in_task;
  other.trap = 1;
  report("image.trap-bit", call_task);
  print("image.trap-bit.state: v%u tr=%x first-ip=%x nt=%x dr6=%x\n", trap.taken, trap.tr, trap.first_ip, trap.nt,
        trap.dr6);
  hook = 0;
}

// A 16-bit TSS: words of the registers, and the code in low memory as IP has 16 bits.
SNIPPET(narrow_code, "mov %eax,0x600\nmov %ebx,0x604\nmov %esp,0x608\nmov %fs,%edx\nmov %edx,0x60c\nclts\niretl\n");

static void narrow_task(void) {
  prepare(other_iret);
  copy((void *)0x9000, (void *)narrow_code, 0x80);
  fill(&narrow, 0, sizeof narrow);
  narrow.ip = 0x9000, narrow.flags = 2, narrow.cs = KERNEL_CODE, narrow.ss = narrow.ds = narrow.es = KERNEL_DATA;
  narrow.ax = 0x1234, narrow.bx = 0x5678, narrow.sp = 0x7000;
  system_descriptor(NARROW, (word)&narrow, 43, A_TSS16);
  target[1] = NARROW;
  // The high halves come up as ones or as they were: SDM says undefined, so only words count. SP
  // as well: the frame is not touched in this task.
  report("narrow.call", call_task);
  print("narrow.state: ax=%x bx=%x sp=%x fs=%x busy=%x link=%x\n", (word)AT(u16, 0x600), (word)AT(u16, 0x604),
        (word)AT(u16, 0x608), (word)AT(u32, 0x60c) & 0xffff, (word)type_of(NARROW), (word)narrow.link);
  print("narrow.saved: ip-moved=%x flags=%x ax=%x\n", (word)(narrow.ip > 0x9000), (word)narrow.flags, (word)narrow.ax);
  system_descriptor(NARROW, (word)&narrow, 42, A_TSS16);
  report("narrow.limit", call_task);
}

void guest(void) {
  MAIN.cr3 = get_cr3();
  switches();
  exceptions();
  refusals();
  narrow_task();
  bad_images();
}

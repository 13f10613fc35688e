// Interrupt, trap and call gates, returns to outer rings, the TSS's stacks and I/O bitmap, SYSENTER.
// SDM Vol. 3, "Privilege Levels", "Interrupt and Exception Handling"; Vol. 1, "I/O Protection".
#include "guest.h"

word arg __asm__("arg");
word target[2] __asm__("target");
u32 frame_sp __asm__("frame_sp");
u32 frame_words[10] __asm__("frame_words");
enum { STACK = 0x910000, CODE3 = FREE + 8, GATE = FREE, RING1 = FREE + 0x10, RING1_DATA = FREE + 0x18 };

#define INT(name, number) SNIPPET(name, "int $" #number "\nmov $0x11,%eax\nret")
INT(int_70, 0x70);
INT(int_71, 0x71);
SNIPPET(int3_, "int3\nret");
SNIPPET(into_, "mov $0x7fffffff,%eax\ninc %eax\ninto\nret");
SNIPPET(int4_, "int $4\nret");
SNIPPET(bound_, "mov $9,%eax\nbound %eax,limits_0_5\nret\nlimits_0_5: .long 0,5");
SNIPPET(div_, "xor %ecx,%ecx\ndiv %ecx\nret");
SNIPPET(div_overflow, "mov $5,%edx\nmov $2,%ecx\ndiv %ecx\nret");
SNIPPET(int_beyond, "int $0xff\nret");

static int flags_of_frame(struct frame *f) {
  word now;
  FLAT("pushf; pop %0" : "=r"(now));
  print("  entered: if=%x pushed-flags=%x cs=%x\n", now & F_IF, f->flags & ~0x8d5ul, f->cs & 0xffff);
  return 0;
}

static void interrupts(void) {
  static const struct { const char *name; unsigned type; } types[] = {
    {"int32", A_INT32}, {"trap32", A_TRAP32}, {"int32-dpl3", A_INT32 | A_DPL3},
    {"trap32-dpl3", A_TRAP32 | A_DPL3}, {"absent", 0x0e}, {"absent-dpl3", 0x6e}, {"call", A_CALL32},
    {"type-0", 0x80}, {"type-9", 0xe9}, {"code-type", 0x9b}};
  hook = flags_of_frame;
  user_flags = 0x3202;
  for (unsigned n = 0; n < sizeof types / sizeof *types; ++n) {
    gate(0x70, KERNEL_CODE, stub(0x70), types[n].type);
    print("int.%s.", types[n].name), report("kernel", int_70);
    print("int.%s.", types[n].name), report_user("user", int_70);
  }
  user_flags = 2;
  hook = 0;
  static const struct { const char *name; unsigned selector; } targets[] = {
    {"null", 0}, {"beyond", 0x7f8}, {"data", KERNEL_DATA}, {"tss", TSS_SELECTOR}, {"user", USER_CODE32},
    {"local", 0xc}, {"rpl3", KERNEL_CODE | 3}};
  for (unsigned n = 0; n < sizeof targets / sizeof *targets; ++n) {
    gate(0x70, targets[n].selector, stub(0x70), A_INT32 | A_DPL3);
    print("int.to-%s.", targets[n].name), report("kernel", int_70);
    print("int.to-%s.", targets[n].name), report_user("user", int_70);
  }
  descriptor(FREE, 0, 0xfffff, 0x1b | A_G | A_BIG);
  gate(0x70, FREE, stub(0x70), A_INT32 | A_DPL3);
  report("int.to-absent", int_70);
  descriptor(FREE, 0, 0xfff, A_CODE | A_BIG);
  report("int.past-limit", int_70);
  report_user("int.user-past-limit", int_70);
  show_ring = 1;
  report("exception.int3", int3_), report("exception.into", into_), report("exception.bound", bound_);
  report("exception.div", div_), report("exception.div-overflow", div_overflow);
  report_user("exception.user-int3", int3_), report_user("exception.user-into", into_);
  gate(3, KERNEL_CODE, stub(3), A_INT32 | A_DPL3), gate(4, KERNEL_CODE, stub(4), A_INT32 | A_DPL3);
  report_user("exception.user-int3-dpl3", int3_), report_user("exception.user-into-dpl3", into_);
  report_user("exception.user-int4-dpl3", int4_), report_user("exception.user-div", div_);
  show_ring = 0;
  struct { u16 limit; u32 base; } __attribute__((packed)) table;
  FLAT("sidt %0" : "=m"(table));
  const u16 kept = table.limit;
  table.limit = 0x7f * 8 + 7;
  FLAT("lidt %0" ::"m"(table));
  report("int.beyond-idt", int_beyond), report_user("int.user-beyond-idt", int_beyond);
  table.limit = kept;
  FLAT("lidt %0" ::"m"(table));
}

// Stacks that the TSS names. An exception with a bad stack is #TS in its turn, with the same bad
// stack: #DF by a task gate would be needed; so only INT n through a gate to ring 1 is tried.
static void stacks(void) {
  u32 *esp1 = (u32 *)(tss + 12), *ss1 = (u32 *)(tss + 16);
  descriptor(RING1, 0, 0xfffff, 0xbb | A_G | A_BIG);
  gate(0x71, RING1 | 1, stub(0x71), A_INT32 | A_DPL3);
  static const struct { const char *name; u32 ss, access, limit, esp; } cases[] = {
    {"null", 0, 0xb3, 0xfffff, STACK}, {"beyond", 0x7f9, 0xb3, 0xfffff, STACK},
    {"rpl0", RING1_DATA, 0xb3, 0xfffff, STACK}, {"rpl3", RING1_DATA | 3, 0xb3, 0xfffff, STACK},
    {"dpl0", RING1_DATA | 1, 0x93, 0xfffff, STACK}, {"absent", RING1_DATA | 1, 0x33, 0xfffff, STACK},
    {"read-only", RING1_DATA | 1, 0xb1, 0xfffff, STACK}, {"code", RING1_DATA | 1, 0xbb, 0xfffff, STACK},
    {"limit", RING1_DATA | 1, 0xb3, 0xf, STACK}};
  for (unsigned n = 0; n < sizeof cases / sizeof *cases; ++n) {
    *esp1 = cases[n].esp, *ss1 = cases[n].ss;
    descriptor(RING1_DATA, 0, cases[n].limit, cases[n].access | A_BIG | (cases[n].limit > 0xff ? A_G : 0));
    print("stack.");
    report_user(cases[n].name, int_71);
  }
  descriptor(TSS_SELECTOR, (word)tss, 15, A_TSS32);
  FLAT("ltr %w0" ::"r"(TSS_SELECTOR));
  report_user("stack.tss-limit", int_71);
  descriptor(TSS_SELECTOR, (word)tss, 103, A_TSS32);
  FLAT("ltr %w0" ::"r"(TSS_SELECTOR));
}

// A contributory exception while another is delivered is #DF; a benign one is not.
SNIPPET(bad_fs, "mov $0x7f8,%ecx\nmov %ecx,%fs\nret");
SNIPPET(undefined, "ud2\nret");

static void double_faults(void) {
  gate(GP, KERNEL_CODE, stub(GP), 0x0e);
  report("double.gp-np", bad_fs), report_user("double.gp-np-user", bad_fs);
  gate(GP, 0x7f8, stub(GP), A_INT32);
  report("double.gp-gp", bad_fs);
  gate(GP, KERNEL_CODE, stub(GP), A_INT32);
  gate(UD, KERNEL_CODE, stub(UD), 0x0e);
  report("double.ud-np", undefined);
  gate(UD, KERNEL_CODE, stub(UD), A_INT32);
  gate(DE, KERNEL_DATA, stub(DE), A_INT32);
  report("double.de-gp", div_);
  gate(DE, KERNEL_CODE, stub(DE), A_INT32);
  gate(0x70, KERNEL_CODE, stub(0x70), 0x6e), gate(NP, KERNEL_CODE, stub(NP), 0x0e);
  report("double.int-np-np", int_70);
  gate(NP, KERNEL_CODE, stub(NP), A_INT32);
}

// ---- call gates: ring 3 calls, the target notes its stack and returns --------------------------
SNIPPET(call_gate, "mov %esp,%ebx\npush $0x33\npush $0x22\npush $0x11\nlcall *target\nsub %esp,%ebx\n"
        "mov %ebx,%eax\nadd %ebx,%esp\nret");
SNIPPET(jump_gate, "ljmp *target\nret");
SNIPPET(note, "mov %esp,%eax\nmov %eax,%cs:frame_sp\n"
        "push %ds\nmov $0x10,%ecx\nmov %ecx,%ds\nmov %esp,%esi\nadd $4,%esi\n"
        "mov $frame_words,%edi\nmov $8,%ecx\n1: mov %ss:(%esi),%edx\nmov %edx,(%edi)\nadd $4,%esi\n"
        "add $4,%edi\nloop 1b\nmov %eax,frame_sp\npop %ds\n");
SNIPPET(note_ret, "call note_frame\nlret $12");
SNIPPET(note_ret16, "call note_frame\nlretw $6");
SNIPPET(note_ret_plain, "call note_frame\nlret");
SNIPPET(note_frame, "push %ds\nmov $0x10,%ecx\nmov %ecx,%ds\nlea 8(%esp),%esi\nmov %esi,frame_sp\n"
        "mov $frame_words,%edi\nmov $8,%ecx\n1: mov %ss:(%esi),%edx\nmov %edx,(%edi)\nadd $4,%esi\n"
        "add $4,%edi\nloop 1b\npop %ds\nret");
SNIPPET(kernel_jumped, "call note_frame\nmov $0x77,%eax\nmov saved_sp,%esp\nret\nsaved_sp: .long 0");

static void frame_is(const char *name, unsigned words) {
  print("%s: used=%x words:", name, (word)exception_stack_top - frame_sp);
  for (unsigned n = 0; n < words; ++n) {
    const u32 w = frame_words[n];
    const int high = (w & 0xffff0000u) != 0 && w >= 0x100000 && w < 0x400000;
    if (high) print(" image"); else print(" %x", (word)w);
  }
  print("\n");
}

static void to(unsigned selector, code *fn, unsigned type, unsigned parameters) {
  gdt[GATE >> 3] = gate_bits(selector, (word)fn, type, parameters);
  target[0] = 0x5555;
  target[1] = GATE | 3;
}

static void call_gates(void) {
  to(KERNEL_CODE, note_ret, A_CALL32 | A_DPL3, 3);
  report_user("callgate.3-parameters", call_gate), frame_is("callgate.frame", 7);
  to(KERNEL_CODE, note_ret_plain, A_CALL32 | A_DPL3, 0);
  report_user("callgate.0-parameters", call_gate), frame_is("callgate.frame0", 4);
  static const struct { const char *name; unsigned selector, type, rpl; } cases[] = {
    {"dpl0", KERNEL_CODE, A_CALL32, 3}, {"absent", KERNEL_CODE, 0x6c, 3}, {"null", 0, 0xec, 3},
    {"beyond", 0x7f8, 0xec, 3}, {"data", KERNEL_DATA, 0xec, 3}, {"user-code", USER_CODE32, 0xec, 3},
    {"rpl0", KERNEL_CODE, 0xec, 0}, {"int-gate", KERNEL_CODE, 0xee, 3}, {"tss", TSS_SELECTOR, 0xec, 3}};
  for (unsigned n = 0; n < sizeof cases / sizeof *cases; ++n) {
    to(cases[n].selector, note_ret_plain, cases[n].type, 0);
    target[1] = GATE | cases[n].rpl;
    print("callgate.%s.", cases[n].name), report_user("call", call_gate);
    print("callgate.%s.", cases[n].name), report_user("jmp", jump_gate);
  }
  target[1] = 0, report_user("far.null", call_gate);
  target[1] = KERNEL_CODE, report_user("far.kernel", call_gate), report_user("far.kernel-jmp", jump_gate);
  target[1] = KERNEL_DATA, report("far.data", jump_gate);
  target[1] = 0x7f8, report("far.beyond", jump_gate);
  target[1] = TSS_SELECTOR, report("far.busy-tss", jump_gate);
  descriptor(CODE3, 0, 0xfffff, 0x1b | A_G | A_BIG);
  target[1] = CODE3, report("far.absent", jump_gate);
  descriptor(CODE3, 0, 0xfff, A_CODE | A_BIG);
  report("far.past-limit", jump_gate);
  descriptor(CODE3, 0, 0xfffff, A_CONFORMING | A_G | A_BIG);
  extern code conforming;
  target[0] = (word)conforming, target[1] = CODE3 | 3;
  report_user("far.conforming", call_gate);
  descriptor(CODE3, 0, 0xfffff, A_CONFORMING | A_DPL3 | A_G | A_BIG);
  report("far.conforming-dpl3", call_gate);
}
SNIPPET(conforming, "mov %cs,%eax\nlret");

// A 16-bit gate: words on the stack, and a target below 64 KiB.
static void call_gates16(void) {
  static const u8 code16[] = {0x66, 0xcb};  // lretw: words were pushed
  copy((void *)0x9000, code16, sizeof code16);
  gdt[GATE >> 3] = gate_bits(KERNEL_CODE, 0x9000, A_CALL16 | A_DPL3, 0);
  target[1] = GATE | 3;
  extern code at_64k;
  // Returning words of EIP cannot come back to 1 MiB: the user code lies in low memory.
  fill((void *)0x8000, 0x90, 0x100);
  static const u8 user16[] = {0xff, 0x1d, 0, 0, 0, 0, 0xb8, 0x16, 0, 0, 0, 0xc3};
  copy((void *)0x8000, user16, sizeof user16);
  AT(u32, 0x8002) = (word)target;
  user_stack_top = 0x8800;
  report_user("callgate16.and-back", (code *)0x8000);
  gdt[GATE >> 3] = gate_bits(KERNEL_CODE, 0x9000, A_CALL16 | A_DPL3, 2);
  static const u8 pops[] = {0x66, 0xca, 4, 0};
  copy((void *)0x9000, pops, sizeof pops);
  static const u8 with2[] = {0x68, 0x22, 0x11, 0x44, 0x33, 0xff, 0x1d, 0, 0, 0, 0, 0x89, 0xe0, 0x83, 0xc4,
                             0, 0xc3};
  copy((void *)0x8000, with2, sizeof with2);
  AT(u32, 0x8007) = (word)target;
  report_user("callgate16.parameters", (code *)0x8000);
}

// ---- IRET -------------------------------------------------------------------------------------
u32 iret_frame[5] __asm__("iret_frame");
SNIPPET(do_iret, "pushl iret_frame+16\npushl iret_frame+12\npushl iret_frame+8\npushl iret_frame+4\n"
        "pushl iret_frame\niretl\nnop");
SNIPPET(do_lret, "pushl iret_frame+16\npushl iret_frame+12\npushl iret_frame+4\npushl iret_frame\nlretl\nnop");
SNIPPET(landed, "pushf\npop %eax\nint $0x60");

static void returns(void) {
  static const struct { const char *name; u32 cs, flags, ss; } cases[] = {
    {"user", USER_CODE32, 2, USER_DATA}, {"user-flags", USER_CODE32, 0x247ed7, USER_DATA},
    {"same", KERNEL_CODE, 0x247ed7 & ~0x4100, 0}, {"null-cs", 0, 2, USER_DATA}, {"null-cs-rpl3", 3, 2, USER_DATA},
    {"beyond-cs", 0x7fb, 2, USER_DATA}, {"data-cs", USER_DATA, 2, USER_DATA},
    {"kernel-rpl3", KERNEL_CODE | 3, 2, USER_DATA}, {"null-ss", USER_CODE32, 2, 0},
    {"null-ss-rpl3", USER_CODE32, 2, 3}, {"ss-rpl0", USER_CODE32, 2, USER_DATA & ~3},
    {"ss-kernel", USER_CODE32, 2, KERNEL_DATA | 3}, {"ss-code", USER_CODE32, 2, USER_CODE32},
    {"ss-beyond", USER_CODE32, 2, 0x7fb}, {"user-rpl0", USER_CODE32 & ~3, 2, USER_DATA}};
  for (unsigned n = 0; n < sizeof cases / sizeof *cases; ++n) {
    iret_frame[0] = (word)landed, iret_frame[1] = cases[n].cs, iret_frame[2] = cases[n].flags & ~F_TF;
    iret_frame[3] = user_stack_top, iret_frame[4] = cases[n].ss;
    print("iret."), report(cases[n].name, do_iret);
    print("lret."), report(cases[n].name, do_lret);
  }
  descriptor(CODE3, 0, 0xfffff, 0x7b | A_G | A_BIG);
  iret_frame[1] = CODE3 | 3, iret_frame[2] = 2, iret_frame[4] = USER_DATA;
  report("iret.cs-absent", do_iret);
  descriptor(CODE3, 0, 0xfffff, 0x73 | A_G | A_BIG);
  iret_frame[1] = USER_CODE32, iret_frame[4] = CODE3 | 3;
  report("iret.ss-absent", do_iret);
  descriptor(CODE3, 0, 0xfff, 0xfb | A_BIG);
  iret_frame[1] = CODE3 | 3, iret_frame[4] = USER_DATA;
  report("iret.past-limit", do_iret);
}

// Data segments of the kernel are gone at ring 3.
SNIPPET(segments_left, "mov %fs,%eax\nshl $16,%eax\nmov %gs,%ax\nint $0x60");
SNIPPET(lret_with_segments, "mov $0x10,%eax\nmov %eax,%fs\nmov $0x23,%eax\nmov %eax,%gs\n"
        "pushl $0x23\npushl user_stack_top\npushl $0x1b\npushl $segments_left\nlret");

// ---- I/O permission ---------------------------------------------------------------------------
SNIPPET(in_80, "mov $0x80,%edx\nin %dx,%al\nmov $0x80,%eax\nret");
SNIPPET(in_80w, "mov $0x80,%edx\nin %dx,%ax\nmov $0x81,%eax\nret");
SNIPPET(out_imm, "out %al,$0x80\nmov $0x82,%eax\nret");
SNIPPET(in_87w, "mov $0x87,%edx\nin %dx,%ax\nmov $0x83,%eax\nret");
SNIPPET(in_ffff, "mov $0xffff,%edx\nin %dx,%al\nmov $0x84,%eax\nret");
SNIPPET(cli_, "cli\nmov $0x85,%eax\nret");
SNIPPET(sti_, "sti\ncli\nmov $0x86,%eax\nret");
SNIPPET(outs_, "mov $0x80,%edx\nmov $4,%ecx\nmov $frame_words,%esi\nrep outsb\nmov %ecx,%eax\nret");
SNIPPET(ins_bad, "mov $0x80,%edx\nmov $4,%ecx\nmov $0x100,%edi\nmov selector_ro,%eax\nmov %eax,%es\nrep insb\nret\n"
        "selector_ro: .long 0x7b");
SNIPPET(popf_if, "pushf\npop %eax\nxor $0x3200,%eax\npush %eax\npopf\npushf\npop %eax\nand $0x3200,%eax\nret");

static void input_output(void) {
  static const struct { const char *name; code *fn; } ways[] = {
    {"in", in_80}, {"in-word", in_80w}, {"out-imm", out_imm}, {"in-straddling", in_87w},
    {"in-ffff", in_ffff}, {"outs", outs_}, {"cli", cli_}, {"sti", sti_}, {"popf", popf_if}};
  for (unsigned mode = 0; mode < 4; ++mode) {
    static const char *const modes[] = {"no-map", "iopl3", "map-open", "map-80-only"};
    user_flags = mode == 1 ? 0x3002 : 2;
    fill(tss + 104, mode == 2 ? 0 : 0xff, 8193);
    if (mode == 3) tss[104 + 0x10] = 0xfe;
    descriptor(TSS_SELECTOR, (word)tss, mode < 2 ? 103 : 104 + 0x1fff, A_TSS32);
    FLAT("ltr %w0" ::"r"(TSS_SELECTOR));
    for (unsigned n = 0; n < sizeof ways / sizeof *ways; ++n)
      print("io.%s.", modes[mode]), report_user(ways[n].name, ways[n].fn);
  }
  descriptor(TSS_SELECTOR, (word)tss, 104 + 0x1fff + 1, A_TSS32);
  FLAT("ltr %w0" ::"r"(TSS_SELECTOR));
  fill(tss + 104, 0, 8192), tss[104 + 8192] = 0xff;
  report_user("io.whole-map.in-ffff", in_ffff);
  user_flags = 2;
}

// ---- SYSENTER, SYSEXIT ------------------------------------------------------------------------
SNIPPET(sysenter_, "mov %esp,%ecx\nmov $1f,%edx\nsysenter\nud2\n1: mov $0x5e,%eax\nret");
SNIPPET(kernel_entry, "mov %cs,%eax\nshl $16,%eax\nmov %ss,%ax\nmov %eax,frame_words\npushf\n"
        "popl frame_words+4\nsysexit");
SNIPPET(sysexit_, "mov $0x44,%edx\nsysexit\nret");

static void fast_calls(void) {
  wrmsr(0x174, 0);
  report_user("sysenter.cs0", sysenter_), report("sysexit.cs0", sysexit_);
  wrmsr(0x174, KERNEL_CODE), wrmsr(0x175, STACK), wrmsr(0x176, (word)kernel_entry);
  user_flags = 0x3202;
  report_user("sysenter.and-back", sysenter_);
  print("sysenter.state: cs:ss=%x flags=%x\n", (word)frame_words[0], (word)frame_words[1] & 0x3302);
  user_flags = 2;
  report_user("sysexit.user", sysexit_);
  report("sysenter.kernel", sysenter_);
}

void guest(void) {
  interrupts();
  stacks();
  double_faults();
  call_gates();
  returns();
  report("lret.segments", lret_with_segments);
  input_output();
  fast_calls();
  call_gates16();
}

// Segmentation: what may be loaded, limits, expand-down, LAR, LSL, VERR, VERW, ARPL, the LDT.
// SDM Vol. 3, "Protected-Mode Memory Management", "Protection"; Vol. 2, the instructions' entries.
#include "guest.h"

word arg __asm__("arg");
word selector __asm__("selector");
enum { DATA = 0x900000, LDT = 0x910000 };

#define LOAD(name, reg) \
  SNIPPET(name, "mov selector,%ecx\nmov %" reg ",%edx\nmov %ecx,%" reg "\nmov %edx,%" reg "\nmov $1,%eax\nret")
LOAD(load_ds, "ds");
LOAD(load_fs, "fs");
LOAD(load_ss, "ss");
SNIPPET(pop_es, "mov selector,%ecx\nmov %es,%edx\npush %ecx\npop %es\nmov %edx,%es\nmov $2,%eax\nret");
SNIPPET(pop_ss, "mov selector,%ecx\nmov %ss,%edx\npush %ecx\npop %ss\nmov %edx,%ss\nmov $2,%eax\nret");
SNIPPET(lfs_, "push selector\npush $0x55\nlfs (%esp),%eax\nlea 8(%esp),%esp\nret");
SNIPPET(lss_, "mov selector,%ecx\nmov %ss,%ebx\nmov %esp,%edx\npush %ecx\npush %edx\nlss (%esp),%esp\n"
        "mov %ebx,%ss\nmov %edx,%esp\nmov $3,%eax\nret");
SNIPPET(load_cs, "mov %eax,%eax\n.byte 0x8e,0xc8\nret");
SNIPPET(load_seg6, "nop\n.byte 0x8e,0xf0\nret");

SNIPPET(lar_, "mov selector,%ecx\nmov $0x1111,%eax\nlar %ecx,%eax\njz 1f\nmov $0xbad,%eax\n1: ret");
SNIPPET(lar16, "mov selector,%ecx\nmov $0x11111111,%eax\nlar %cx,%ax\njz 1f\nmov $0xbad,%eax\n1: ret");
SNIPPET(lsl_, "mov selector,%ecx\nmov $0x1111,%eax\nlsl %ecx,%eax\njz 1f\nmov $0xbad,%eax\n1: ret");
SNIPPET(verr_, "mov selector,%ecx\nverr %cx\nsetz %al\nmovzbl %al,%eax\nret");
SNIPPET(verw_, "mov selector,%ecx\nverw %cx\nsetz %al\nmovzbl %al,%eax\nret");

static void verdict(void) {
  if (last.vector < 0) print(" ok");
  else print(" v%u.%x", last.vector, last.error);
}

static void loads(const char *name, unsigned sel) {
  static const struct { const char *name; code *fn; int user; } ways[] = {
    {"ds", load_ds, 0}, {"ss", load_ss, 0}, {"pop-es", pop_es, 0}, {"pop-ss", pop_ss, 0},
    {"lfs", lfs_, 0}, {"lss", lss_, 0}, {"user-ds", load_ds, 1}, {"user-ss", load_ss, 1}};
  selector = sel;
  print("load.%s:", name);
  for (unsigned n = 0; n < sizeof ways / sizeof *ways; ++n) {
    if (ways[n].user) attempt_user(ways[n].fn); else attempt(ways[n].fn);
    print(" %s", ways[n].name);
    verdict();
  }
  print("\n");
}

static void all_loads(void) {
  static const struct { const char *name; u32 access; unsigned rpl; } cases[] = {
    {"data", A_DATA, 0}, {"data-rpl3", A_DATA, 3}, {"data-dpl3", A_DATA | A_DPL3, 0},
    {"data-dpl3-rpl3", A_DATA | A_DPL3, 3}, {"data-absent", 0x13, 0}, {"read-only", A_READ_ONLY, 0},
    {"code", A_CODE, 0}, {"code-rpl3", A_CODE, 3}, {"execute-only", A_EXECUTE_ONLY, 0},
    {"execute-only-absent", 0x19, 0}, {"conforming", A_CONFORMING, 3},
    {"conforming-absent", 0x1f, 3}, {"conforming-execute-only", 0x9d, 0}, {"tss", A_TSS32, 0},
    {"tss-absent", 0x09, 0}, {"ldt", A_LDT, 0}, {"call-gate", A_CALL32, 0}, {"type0", 0x80, 0},
    {"data-dpl1", 0xb3, 0}, {"data-dpl1-rpl1", 0xb3, 1}, {"absent-dpl0-rpl3", 0x13, 3}};
  loads("null", 0);
  loads("null-rpl3", 3);
  loads("beyond", 0x7f8);
  loads("last", GDT_ENTRIES * 8);
  loads("no-ldt", 0xc);
  for (unsigned n = 0; n < sizeof cases / sizeof *cases; ++n) {
    descriptor(FREE, 0, 0xfffff, cases[n].access | A_G | A_BIG);
    loads(cases[n].name, FREE | cases[n].rpl);
  }
  // A set accessed bit.
  descriptor(FREE, 0, 0xfffff, 0xc092);
  selector = FREE;
  attempt(load_ds);
  print("accessed.data: %h\n", (u32)(gdt[FREE >> 3] >> 40));
  descriptor(FREE, 0, 0xfffff, 0xc012);
  attempt(load_ds);
  print("accessed.absent: %h\n", (u32)(gdt[FREE >> 3] >> 40));
  descriptor(FREE, 0, 0xfffff, 0xc092);
  attempt(lar_);
  print("accessed.lar: %h\n", (u32)(gdt[FREE >> 3] >> 40));
  report("load.cs", load_cs);
  report("load.segment-6", load_seg6);
}

static void questions(void) {
  for (unsigned type = 0; type < 32; ++type) {
    descriptor(FREE, 0x12345678, 0x54321, 0x80 | type | (type & 1 ? A_G : 0) | (type & 4 ? A_BIG : 0));
    for (unsigned rpl = 0; rpl < 4; rpl += 3) {
      selector = FREE | rpl;
      print("ask.type-%x.rpl%u:", (word)type, (word)rpl);
      attempt(lar_), print(" %x", last.ax);
      attempt(lsl_), print(" %x", last.ax);
      attempt(verr_), print(" %x", last.ax);
      attempt(verw_), print(" %x", last.ax);
      print("\n");
    }
  }
  descriptor(FREE, 0, 0x54321, A_DATA | A_DPL3);
  selector = FREE | 3;
  report_user("ask.user-lar", lar_);
  report_user("ask.user-verw", verw_);
  descriptor(FREE, 0, 0x54321, A_DATA);
  report_user("ask.user-dpl0", lsl_);
  report("ask.lar16", lar16);
  selector = 0;
  report("ask.null-lar", lar_);
  report("ask.null-lsl", lsl_);
  report("ask.null-verr", verr_);
  selector = 0xfff8;
  report("ask.beyond-lar", lar_);
  descriptor(FREE, 0, 0x321, 0x13);
  selector = FREE;
  report("ask.absent-lar", lar_);
  report("ask.absent-lsl", lsl_);
  report("ask.absent-verr", verr_);
}

#define THROUGH(name, text) \
  SNIPPET(name, "mov selector,%eax\nmov %eax,%fs\nmov arg,%ecx\nmov $9,%eax\n" text "\nmov $9,%eax\nret")
THROUGH(read1, "movb %fs:(%ecx),%al");
THROUGH(read2, "movw %fs:(%ecx),%ax");
THROUGH(read4, "movl %fs:(%ecx),%eax");
THROUGH(write4, "movl %eax,%fs:(%ecx)");
THROUGH(add4, "addl $0,%fs:(%ecx)");
THROUGH(bound_, "mov $5,%eax\nbound %eax,%fs:(%ecx)");
SNIPPET(stack4, "mov selector,%eax\nmov %ss,%ebx\nmov %esp,%edx\nmov arg,%ecx\nmov %eax,%ss\nmov %ecx,%esp\n"
        "mov (%esp),%eax\nmov %ebx,%ss\nmov %edx,%esp\nmov $9,%eax\nret");

static void limits(void) {
  fill((void *)DATA, 0, 0x20000);
  selector = FREE;
  static const struct { const char *name; u32 limit, access, at; code *fn; } cases[] = {
    {"last-byte", 0xfff, A_DATA, 0xfff, read1}, {"byte-after", 0xfff, A_DATA, 0x1000, read1},
    {"word-across", 0xfff, A_DATA, 0xfff, read2}, {"dword-fits", 0xfff, A_DATA, 0xffc, read4},
    {"dword-across", 0xfff, A_DATA, 0xffd, read4}, {"write-across", 0xfff, A_DATA, 0xffd, write4},
    {"modify-across", 0xfff, A_DATA, 0xffd, add4}, {"bound-across", 0xfff, A_DATA, 0xffc, bound_},
    {"wrap", 0xfffff, A_DATA | A_G, 0xfffffffe, read4},
    {"pages", 0x1, A_DATA | A_G, 0x1ffc, read4}, {"pages-beyond", 0x1, A_DATA | A_G, 0x1ffd, read4},
    {"down-above", 0xfff, A_DOWN | A_BIG, 0x1000, read4},
    {"down-at", 0xfff, A_DOWN | A_BIG, 0xfff, read4}, {"down-below", 0xfff, A_DOWN | A_BIG, 0, read4},
    {"down16-top", 0xfff, A_DOWN, 0xfffc, read4}, {"down16-beyond", 0xfff, A_DOWN, 0xfffd, read4},
    {"write-read-only", 0xfff, A_READ_ONLY, 0, write4}, {"read-read-only", 0xfff, A_READ_ONLY, 0, read4},
    {"write-code", 0xfff, A_CODE, 0, write4}, {"read-code", 0xfff, A_CODE, 0, read4}};
  for (unsigned n = 0; n < sizeof cases / sizeof *cases; ++n) {
    descriptor(FREE, DATA, cases[n].limit, cases[n].access);
    arg = cases[n].at;
    print("limit.");
    report(cases[n].name, cases[n].fn);
  }
  descriptor(FREE, DATA, 0xfff, A_DATA | A_DPL3 | A_BIG);
  selector = FREE | 3;
  arg = 0xffd;
  report_user("limit.stack", stack4);
  arg = 0xffc;
  report_user("limit.stack-fits", stack4);
  selector = 0;
  arg = 0;
  report("limit.null-read", read4);
  report("limit.null-write", write4);
  // A base past 4 GiB wraps.
  descriptor(FREE, 0xfffff000, 0xfffff, A_DATA | A_G | A_BIG);
  selector = FREE;
  AT(u32, DATA) = 9;
  arg = DATA + 0x1000;
  report("limit.base-wraps", read4);
}

SNIPPET(sgdt_, "sub $8,%esp\nsgdt (%esp)\nmovzwl (%esp),%eax\nadd $8,%esp\nret");
SNIPPET(sldt_, "sldt %eax\nret");
SNIPPET(str_, "str %eax\nret");
SNIPPET(smsw_, "smsw %eax\nret");
SNIPPET(lldt_, "mov selector,%ecx\nlldt %cx\nsldt %eax\nret");
SNIPPET(ltr_, "mov selector,%ecx\nltr %cx\nstr %eax\nret");
SNIPPET(lidt_, "lidt arg\nret");
SNIPPET(lmsw_, "mov $0x1,%eax\nlmsw %ax\nsmsw %eax\nand $0xf,%eax\nret");
SNIPPET(lmsw_clear, "xor %eax,%eax\nlmsw %ax\nsmsw %eax\nand $0xf,%eax\nret");
SNIPPET(arpl_, "mov $0x10,%eax\nmov $3,%ecx\narpl %cx,%ax\nret");
SNIPPET(clts_, "clts\nret");

static void tables(void) {
  static const struct { const char *name; u32 access; } cases[] = {
    {"ldt", A_LDT}, {"absent", 0x02}, {"tss", A_TSS32}, {"tss-busy", 0x8b}, {"data", A_DATA},
    {"tss-absent", 0x09}, {"tss16", A_TSS16}};
  for (unsigned n = 0; n < sizeof cases / sizeof *cases; ++n) {
    selector = FREE;
    descriptor(FREE, LDT, 0x3f, cases[n].access);
    print("lldt.");
    report(cases[n].name, lldt_);
    if (n == 2 || n == 6) continue;  // LTR of what would leave no usable TSS
    print("ltr.");
    report(cases[n].name, ltr_);
  }
  selector = 0, report("lldt.null", lldt_);
  selector = 3, report("lldt.null-rpl", lldt_);
  selector = 0x7f8, report("lldt.beyond", lldt_), report("ltr.beyond", ltr_);
  selector = FREE | 4, report("lldt.local", lldt_), report("ltr.local", ltr_);
  selector = TSS_SELECTOR, report("ltr.busy-now", ltr_);
  report_user("user.lldt", lldt_), report_user("user.ltr", ltr_), report_user("user.lidt", lidt_);
  report_user("user.sgdt", sgdt_), report_user("user.sldt", sldt_), report_user("user.str", str_);
  report_user("user.lmsw", lmsw_), report_user("user.clts", clts_), report_user("user.arpl", arpl_);
  report("lmsw.set", lmsw_), report("lmsw.clear-pe", lmsw_clear);
  u32 r[4];
  cpuid(7, 0, r);
  if (r[2] >> 2 & 1) {
    set_cr4(get_cr4() | CR4_UMIP);
    report_user("umip.sgdt", sgdt_), report_user("umip.sldt", sldt_), report_user("umip.str", str_);
    report_user("umip.smsw", smsw_), report("umip.kernel-smsw", sldt_);
    set_cr4(get_cr4() & ~CR4_UMIP);
  }
}

static void local(void) {
  fill((void *)LDT, 0, 0x40);
  AT(u64, LDT + 8) = 0x00cff3000000ffffull;
  AT(u64, LDT + 16) = 0x00cf93000000ffffull;
  descriptor(FREE, LDT, 0x17, A_LDT);
  FLAT("lldt %w0" ::"r"(FREE));
  loads("ldt-entry-dpl3", 0xf);
  loads("ldt-entry", 0x14);
  loads("ldt-null", 4);
  loads("ldt-beyond", 0x1c);
  FLAT("lldt %w0" ::"r"(0));
  loads("ldt-gone", 0xf);
}

void guest(void) {
  all_loads();
  questions();
  limits();
  tables();
  local();
}

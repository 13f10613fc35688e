// 32-bit paging: rights, A and D bits, error codes, CR2, 4 MiB pages, INVLPG, global pages.
// SDM Vol. 3, "32-Bit Paging", "Access Rights", "Page-Fault Exceptions".
typedef unsigned int pte;
#include "paging.h"

enum { DIRECTORY = 0x800000, LOW = 0x801000, TABLE = 0x802000, DATA = 0x900000, OTHER = 0x901000,
       LARGE = 0xc00000 };
#define WINDOW 0x40000000u  // where the test pages appear
#define BIG 0x50000000u
#define pd ((volatile pte *)DIRECTORY)
#define pt ((volatile pte *)TABLE)

static void set_up(void) {
  fill((void *)DIRECTORY, 0, 0x3000);
  for (unsigned n = 0; n < 1024; ++n) AT(pte, LOW + 4 * n) = n << 12 | 7;
  pd[0] = LOW | 7;
  for (unsigned n = 1; n < 8; ++n) pd[n] = n << 22 | 0x87;
  pd[WINDOW >> 22] = TABLE | 7;
  set_cr4(get_cr4() | CR4_PSE);
  set_cr3(DIRECTORY);
  set_cr0(get_cr0() | CR0_PG);
}

static void rights(const char *prefix, pte wp) {
  static const char *const names[] = {"none", "p", "pw", "pu", "puw"};
  static const pte bits[] = {0, 1, 3, 5, 7};
  pte *slots[] = {(pte *)&pd[WINDOW >> 22], (pte *)&pt[0]};
  set_cr0(wp ? get_cr0() | CR0_WP : get_cr0() & ~CR0_WP);
  for (unsigned d = 0; d < 5; ++d)
    for (unsigned t = 0; t < 5; ++t) {
      pd[WINDOW >> 22] = TABLE | bits[d];
      pt[0] = DATA | bits[t];
      print("%s.pde-%s.pte-", prefix, names[d]);
      all_accesses(names[t], WINDOW, DATA, slots, 2);
    }
  pd[WINDOW >> 22] = TABLE | 7;
}

static void large_pages(void) {
  static const char *const names[] = {"none", "p", "pw", "pu", "puw", "reserved"};
  static const pte bits[] = {0x80, 0x81, 0x83, 0x85, 0x87, 0x200087};
  pte *slots[] = {(pte *)&pd[BIG >> 22]};
  set_cr0(get_cr0() | CR0_WP);
  for (unsigned d = 0; d < 6; ++d) {
    pd[BIG >> 22] = LARGE | bits[d];
    print("4m.");
    all_accesses(names[d], BIG + 0x123000, LARGE + 0x123000, slots, 1);
  }
  // With PSE off bit 7 means nothing; first, what the guest runs on must not be large.
  for (unsigned n = 1; n < 4; ++n) {
    for (unsigned i = 0; i < 1024; ++i)
      AT(pte, 0x810000 + n * 0x1000 + 4 * i) = n << 22 | i << 12 | 7;
    pd[n] = 0x810000 + n * 0x1000 + 7;
  }
  set_cr4(get_cr4() & ~CR4_PSE);
  set_cr3(DIRECTORY);
  pt[0] = DATA | 7;
  pd[BIG >> 22] = TABLE | 0x87;
  all_accesses("4m.pse-off", BIG, DATA, slots, 1);
  set_cr4(get_cr4() | CR4_PSE);
}

static void across_pages(void) {
  pt[0] = DATA | 7, pt[1] = 0, pt[2] = OTHER | 5, pt[3] = DATA | 7;
  set_cr3(DIRECTORY);
  AT(u32, WINDOW + 0xffc) = 0x11223344;
  line("cross.read-absent", WINDOW + 0xffe, do_read, 0);
  line("cross.write-absent", WINDOW + 0xffe, do_write, 0);
  line("cross.modify-absent", WINDOW + 0xffe, do_modify, 0);
  line("cross.execute-absent", WINDOW + 0xfff, do_execute, 0);
  print("cross.first-unchanged: %x\n", (word)AT(u32, WINDOW + 0xffc));
  pt[1] = DATA + 0x3000 + 7;
  invlpg(WINDOW + 0x1000);
  line("cross.write-ro", WINDOW + 0x1ffe, do_write, 0);
  line("cross.user-write-ro", WINDOW + 0x1fff, do_write, 1);
  line("cross.from-ro", WINDOW + 0x2ffe, do_write, 1);
  line("cross.user-cmpxchg-ro", WINDOW + 0x2000, do_cmpxchg, 1);
  line("absent.modify", 0x60000000, do_modify, 0);
  line("absent.locked", 0x60000000, do_locked, 0);
  line("absent.user", 0xfffffffc, do_read, 1);
}

SNIPPET(push_, "mov arg,%ecx\nmov %esp,%edx\nmov %ecx,%esp\npush %eax\nmov %edx,%esp\nret");
SNIPPET(pusha_, "mov arg,%ecx\nmov %esp,%edx\nmov %ecx,%esp\npusha\nmov %edx,%esp\nret");
SNIPPET(enter_, "mov arg,%ecx\nmov %esp,%edx\nmov %ecx,%esp\nenter $0x20,$0\nmov %edx,%esp\nret");
SNIPPET(movs_, "mov arg,%edi\nmov $0x900000,%esi\nmov $16,%ecx\nrep movsl\nmov %ecx,%eax\nret");
SNIPPET(stos_, "mov arg,%edi\nmov $16,%ecx\nrep stosl\nmov %ecx,%eax\nret");
SNIPPET(fxsave_, "mov arg,%ecx\nfxsave (%ecx)\nret");
SNIPPET(bts_, "mov arg,%ecx\nmov $0x8000,%eax\nbts %eax,(%ecx)\nret");
SNIPPET(xlat_, "mov arg,%ebx\nmov $0xff,%al\nxlat\nret");

SNIPPET(ins_, "mov arg,%edi\nmov $0x80,%edx\nmov $8,%ecx\nrep insb\nmov %ecx,%eax\nret");
SNIPPET(outs_, "mov arg,%esi\nmov $0x80,%edx\nmov $8,%ecx\nxor %edi,%edi\nrep outsb\nmov %ecx,%eax\nret");
SNIPPET(cmps_, "mov arg,%esi\nmov $0x900000,%edi\nmov $16,%ecx\nrepe cmpsb\nmov %ecx,%eax\nret");
SNIPPET(call_, "mov arg,%ecx\nmov %esp,%edx\nmov %ecx,%esp\ncall 1f\n1: mov %edx,%esp\nret");
SNIPPET(bad_fs, "mov $0x7f8,%ecx\nmov %ecx,%fs\nret");
SNIPPET(pop_mem, "mov arg,%ecx\npush $1\npop (%ecx)\nret");

static int show_registers(struct frame *f) {
  print("  at the fault: cx=%x di-window=%x\n", f->cx, f->di - WINDOW);
  return 0;
}

static void instructions(void) {
  pt[0] = pt[2] = DATA | 7, pt[1] = 0, pt[7] = DATA | 5;
  set_cr4(get_cr4() | CR4_OSFXSR);
  set_cr3(DIRECTORY);
  line("push.absent", WINDOW + 0x1004, push_, 1);
  line("push.cross", WINDOW + 0x1002, push_, 1);
  line("pusha.absent", WINDOW + 0x2010, pusha_, 1);
  line("enter.absent", WINDOW + 0x2000, enter_, 1);
  hook = show_registers;
  line("movs.into-absent", WINDOW + 0xff0, movs_, 0);
  line("movs.misaligned-into-absent", WINDOW + 0xff2, movs_, 0);
  line("stos.into-absent", WINDOW + 0xff8, stos_, 0);
  line("stos.into-ro", WINDOW + 0x7000, stos_, 1);
  line("ins.into-absent", WINDOW + 0xffc, ins_, 0);
  line("outs.from-absent", WINDOW + 0xffc, outs_, 0);
  line("cmps.into-absent", WINDOW + 0xff8, cmps_, 0);
  hook = 0;
  line("call.absent", WINDOW + 0x1004, call_, 1);
  line("pop.into-absent", WINDOW + 0x1000, pop_mem, 1);
  print("pop.into-absent.sp: %x\n", user_stack_top - last.sp);
  gate(PF, KERNEL_CODE, stub(PF), 0x0e);
  line("double.pf-np", WINDOW + 0x1000, do_read, 0);
  line("double.pf-np-user", WINDOW + 0x1000, do_read, 1);
  gate(PF, KERNEL_CODE, stub(PF), A_INT32);
  gate(GP, KERNEL_CODE, WINDOW + 0x1000, A_INT32);
  report("fetch.handler-absent", bad_fs);
  gate(GP, KERNEL_CODE, stub(GP), A_INT32);
  line("fxsave.cross", WINDOW + 0xf00, fxsave_, 0);
  line("bts.far-bit", WINDOW + 0x10, bts_, 0);
  line("xlat.absent", WINDOW + 0xf80, xlat_, 0);
}

static void translations(void) {
  AT(u32, DATA) = 0x1111, AT(u32, OTHER) = 0x2222;
  pt[4] = DATA | 7;
  print("tlb.first: %x\n", (word)AT(u32, WINDOW + 0x4000));
  pt[4] = OTHER | 7;
  invlpg(WINDOW + 0x4000);
  print("tlb.after-invlpg: %x\n", (word)AT(u32, WINDOW + 0x4000));
  pt[4] = DATA | 7;
  set_cr3(DIRECTORY);
  print("tlb.after-cr3: %x\n", (word)AT(u32, WINDOW + 0x4000));
  set_cr4(get_cr4() | CR4_PGE);
  pt[4] = DATA | 0x107;
  invlpg(WINDOW + 0x4000);
  print("tlb.global: %x\n", (word)AT(u32, WINDOW + 0x4000));
  pt[4] = OTHER | 0x107;
  invlpg(WINDOW + 0x4000);
  print("tlb.global-invlpg: %x\n", (word)AT(u32, WINDOW + 0x4000));
  pt[4] = DATA | 0x107;
  set_cr4(get_cr4() & ~CR4_PGE);
  print("tlb.global-pge-toggled: %x\n", (word)AT(u32, WINDOW + 0x4000));
  pt[5] = 0;
  line("tlb.absent", WINDOW + 0x5000, do_read, 0);
  pt[5] = OTHER | 7;
  line("tlb.present-without-invlpg", WINDOW + 0x5000, do_read, 0);
  // A write through a page that was only read so far sets D.
  pt[6] = DATA | 7;
  invlpg(WINDOW + 0x6000);
  (void)AT(u32, WINDOW + 0x6000);
  print("ad.read: %x\n", (word)(pt[6] & 0x60));
  AT(u32, WINDOW + 0x6000) = 1;
  print("ad.then-written: %x\n", (word)(pt[6] & 0x60));
  pt[6] &= ~0x40u;
  invlpg(WINDOW + 0x6000);
  AT(u32, WINDOW + 0x6000) = 1;
  print("ad.cleared-and-written: %x\n", (word)(pt[6] & 0x60));
}

SNIPPET(invlpg_, "invlpg 0x1000\nret");
SNIPPET(cr0_nw, "mov %cr0,%eax\nor $0x20000000,%eax\nand $0xbfffffff,%eax\nmov %eax,%cr0\nret");
SNIPPET(cr1_, "mov %cr1,%eax\nret");
SNIPPET(cr3_user, "mov %cr3,%eax\nret");
SNIPPET(cr4_pcide, "mov %cr4,%eax\nor $0x20000,%eax\nmov %eax,%cr4\nret");

void guest(void) {
  set_up();
  rights("4k.wp0", 0);
  rights("4k.wp1", 1);
  set_cr0(get_cr0() | CR0_WP);
  large_pages();
  across_pages();
  instructions();
  translations();
  report_user("cr.user-invlpg", invlpg_);
  report("cr.nw-without-cd", cr0_nw);
  set_cr0(get_cr0() & ~0x20000000u);
  report("cr.cr1", cr1_);
  report_user("cr.user-cr3", cr3_user);
  report("cr.pcide-outside-long", cr4_pcide);
}

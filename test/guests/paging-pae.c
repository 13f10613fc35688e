// PAE paging: PDPTE registers, NX, reserved bits, 2 MiB pages.
// SDM Vol. 3, "PAE Paging", "PDPTE Registers".
typedef unsigned long long pte;
#include "paging.h"

enum { PDPT = 0x800000, LOW_PD = 0x801000, PD = 0x802000, TABLE = 0x803000, OTHER_PDPT = 0x804020,
       DATA = 0x900000, LARGE = 0xc00000 };
#define WINDOW 0x40000000u
#define BIG 0x40200000u
#define NX (1ull << 63)
#define pdpt ((volatile pte *)PDPT)
#define pd ((volatile pte *)PD)
#define pt ((volatile pte *)TABLE)

static void set_up(void) {
  fill((void *)PDPT, 0, 0x5000);
  for (unsigned n = 0; n < 16; ++n) AT(pte, LOW_PD + 8 * n) = (pte)n << 21 | 0x87;
  pdpt[0] = LOW_PD | 1;
  pdpt[1] = PD | 1;
  pd[0] = TABLE | 7;
  set_cr4(get_cr4() | CR4_PAE);
  set_cr3(PDPT);
  set_cr0(get_cr0() | CR0_PG | CR0_WP);
}

static void rights(const char *prefix, pte high) {
  static const char *const names[] = {"none", "p", "pw", "pu", "puw"};
  static const pte bits[] = {0, 1, 3, 5, 7};
  pte *slots[] = {(pte *)&pd[0], (pte *)&pt[0]};
  pte *large[] = {(pte *)&pd[1]};
  for (unsigned d = 0; d < 5; ++d)
    for (unsigned t = 0; t < 5; ++t) {
      pd[0] = TABLE | bits[d];
      pt[0] = DATA | bits[t] | (bits[t] != 0 ? high : 0);
      print("%s.pde-%s.pte-", prefix, names[d]);
      all_accesses(names[t], WINDOW, DATA, slots, 2);
    }
  for (unsigned d = 0; d < 5; ++d) {
    pd[1] = LARGE | bits[d] | (bits[d] != 0 ? high | 0x80 : 0);
    print("%s.2m.", prefix);
    all_accesses(names[d], BIG + 0x10000, LARGE + 0x10000, large, 1);
  }
  pd[0] = TABLE | 7;
  pt[0] = DATA | 7;
}

static void reserved(void) {
  static const struct { const char *name; pte pde, pte; } cases[] = {
    {"pte-52", 7, 1ull << 52 | 7}, {"pte-62", 7, 1ull << 62 | 7}, {"pde-52", 1ull << 52 | 7, 7},
    {"pde-62", 1ull << 62 | 7, 7}, {"pte-51", 7, 1ull << 51 | 7},
    {"pte-absent-and-reserved", 7, 1ull << 52}, {"pde-nx", NX | 7, 7}, {"both-nx", NX | 7, NX | 7}};
  pte *slots[] = {(pte *)&pd[0], (pte *)&pt[0]};
  pte *large[] = {(pte *)&pd[1]};
  for (unsigned n = 0; n < sizeof cases / sizeof *cases; ++n) {
    pd[0] = TABLE | cases[n].pde;
    pt[0] = DATA | cases[n].pte;
    print("reserved.");
    all_accesses(cases[n].name, WINDOW, DATA, slots, 2);
  }
  pd[0] = TABLE | 7;
  pd[1] = LARGE | 0x87 | 1u << 13;
  all_accesses("reserved.2m-bit-13", BIG, LARGE, large, 1);
  pd[1] = LARGE | 0x87 | 1u << 20;
  all_accesses("reserved.2m-bit-20", BIG, LARGE, large, 1);
}

SNIPPET(load_cr3, "mov arg,%ecx\nmov %cr3,%edx\nmov %ecx,%cr3\nmov %edx,%cr3\nmov $1,%eax\nret");

static void pdptes(void) {
  static const struct { const char *name; pte entry; } cases[] = {
    {"absent", 0}, {"bit-1", 3}, {"bit-2", 5}, {"bit-5", 0x21}, {"bit-8", 0x101}, {"nx", NX | 1},
    {"pwt-pcd", 0x19}, {"avl", 0xe01}, {"absent-and-reserved", 6}, {"bit-52", 1ull << 52 | 1}};
  volatile pte *other = (volatile pte *)OTHER_PDPT;
  for (unsigned n = 0; n < sizeof cases / sizeof *cases; ++n) {
    other[0] = pdpt[0];
    other[3] = cases[n].entry;
    print("pdpte.");
    line(cases[n].name, OTHER_PDPT, load_cr3, 0);
  }
  // The registers are loaded with CR3, not read from memory at each walk.
  pt[1] = DATA | 7;
  AT(u32, DATA) = 0x4711;
  pdpt[1] = 0;
  line("pdpte.kept", WINDOW + 0x1000, do_read, 0);
  set_cr3(PDPT);
  line("pdpte.absent-after-cr3", WINDOW + 0x1000, do_read, 0);
  line("pdpte.absent-user-write", WINDOW + 0x1000, do_write, 1);
  pdpt[1] = PD | 1;
  set_cr3(PDPT);
  print("pdpte.back: %x\n", (word)AT(u32, WINDOW + 0x1000));
  print("pdpte.no-accessed-bit: %q\n", pdpt[1] & 0xfff);
  // CR3 bits 5 to 11 are part of the table's address.
  other[1] = 0;
  other[3] = 0;
  set_cr3(OTHER_PDPT);
  line("pdpte.table-at-32-bytes", WINDOW + 0x1000, do_read, 0);
  set_cr3(PDPT);
}

void guest(void) {
  set_up();
  rights("nx-off", 0);
  reserved();
  line("reserved.nx-off", WINDOW, do_read, 0);
  pt[0] = DATA | 7 | NX;
  set_cr3(PDPT);
  line("reserved.nx-without-nxe", WINDOW, do_read, 0);
  wrmsr(0xc0000080, rdmsr(0xc0000080) | 0x800);
  rights("nxe", 0);
  rights("nx", NX);
  reserved();
  pdptes();
}

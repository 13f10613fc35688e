// 4-level paging: page sizes, NX, SMEP, SMAP, reserved bits, canonical addresses, PCID.
// SDM Vol. 3, "4-Level Paging", "Access Rights", "Process-Context Identifiers".
typedef unsigned long long pte;
#include "paging.h"

enum { PDPT = 0x800000, PD = 0x801000, TABLE = 0x802000, OTHER = 0x901000, DATA = 0x900000,
       LARGE = 0xc00000, PML4_COPY = 0x803000 };
#define WINDOW 0x8000000000ull         // PML4 entry 1
#define BIG (WINDOW + 0x200000)
#define HUGE (WINDOW + 0x40000000)
#define NX (1ull << 63)
extern pte boot_pml4[];
#define pdpt ((volatile pte *)PDPT)
#define pd ((volatile pte *)PD)
#define pt ((volatile pte *)TABLE)
static u32 features7[4], features1[4];

static void set_up(void) {
  fill((void *)PDPT, 0, 0x3000);
  boot_pml4[1] = PDPT | 7;
  pdpt[0] = PD | 7;
  pd[0] = TABLE | 7;
  pt[0] = DATA | 7;
  wrmsr(0xc0000080, rdmsr(0xc0000080) | 0x800);
  set_cr0(get_cr0() | CR0_WP);
  cpuid(7, 0, features7);
  cpuid(1, 0, features1);
}

static void rights(const char *prefix) {
  static const char *const names[] = {"p", "pu", "puw", "pw", "puwx"};
  static const pte bits[] = {1, 5, 7, 3, 7 | NX};
  pte *slots[] = {&boot_pml4[1], (pte *)&pdpt[0], (pte *)&pd[0], (pte *)&pt[0]};
  for (unsigned level = 0; level < 4; ++level)
    for (unsigned b = 0; b < 5; ++b) {
      const pte kept = *slots[level];
      *slots[level] = (kept & 0xfffff000) | bits[b];
      print("%s.level%u.", prefix, (word)(4 - level));
      all_accesses(names[b], WINDOW, DATA, slots, 4);
      *slots[level] = kept;
    }
  pte *large[] = {(pte *)&pd[1]}, *huge[] = {(pte *)&pdpt[1]};
  for (unsigned b = 0; b < 5; ++b) {
    pd[1] = LARGE | bits[b] | 0x80;
    print("%s.2m.", prefix);
    all_accesses(names[b], BIG + 0x10000, LARGE + 0x10000, large, 1);
    pdpt[1] = bits[b] | 0x80;
    print("%s.1g.", prefix);
    all_accesses(names[b], HUGE + LARGE + 0x10000, LARGE + 0x10000, huge, 1);
  }
}

static void reserved(void) {
  pte *slots[] = {&boot_pml4[1], (pte *)&pdpt[0], (pte *)&pd[0], (pte *)&pt[0]};
  pte *large[] = {(pte *)&pd[1]}, *huge[] = {(pte *)&pdpt[1]};
  for (unsigned level = 0; level < 4; ++level) {
    const pte kept = *slots[level];
    *slots[level] = kept | 1ull << 51;
    print("reserved.bit-51.");
    all_accesses(level == 0 ? "pml4" : level == 1 ? "pdpt" : level == 2 ? "pd" : "pt", WINDOW, DATA,
                 slots, 4);
    *slots[level] = kept | 0x7ff0000000000000ull;
    print("ignored.bits-52-62.");
    all_accesses(level == 0 ? "pml4" : level == 1 ? "pdpt" : level == 2 ? "pd" : "pt", WINDOW, DATA,
                 slots, 4);
    *slots[level] = kept;
  }
  boot_pml4[1] |= 0x80;
  all_accesses("reserved.pml4-ps", WINDOW, DATA, slots, 4);
  boot_pml4[1] &= ~0x80ull;
  pd[1] = LARGE | 0x87 | 1u << 13;
  all_accesses("reserved.2m-bit-13", BIG, LARGE, large, 1);
  pdpt[1] = 0x87 | 1u << 29;
  all_accesses("reserved.1g-bit-29", HUGE + LARGE, LARGE, huge, 1);
  pdpt[1] = 0x87 | 1u << 12;  // PAT: no fault
  all_accesses("reserved.1g-pat", HUGE + LARGE, LARGE, huge, 1);
}

SNIPPET(read_stack, "mov arg,%rdx\nmov %rbp,%rcx\nmov %rdx,%rbp\nmov (%rbp),%eax\nmov %rcx,%rbp\nret");
SNIPPET(push_at, "mov arg,%rcx\nmov %rsp,%rdx\nmov %rcx,%rsp\npush %rax\nmov %rdx,%rsp\nret");
SNIPPET(jump_to, "mov arg,%rcx\njmp *%rcx\nret");
SNIPPET(ret_to, "mov arg,%rcx\npush %rcx\nret");
SNIPPET(invlpg_at, "mov arg,%rcx\ninvlpg (%rcx)\nmov $5,%eax\nret");
SNIPPET(enter_at, "mov arg,%rcx\nmov %rsp,%rdx\nmov %rcx,%rsp\nenter $16,$0\nmov %rdx,%rsp\nret");

static void canonical(void) {
  const word edge = 0x800000000000ul;
  line("canonical.read", edge, do_read, 0);
  line("canonical.write-user", edge, do_write, 1);
  line("canonical.read-high", 0xffff7ffffffffff0ul, do_read, 0);
  line("canonical.across", edge - 2, do_read, 0);
  line("canonical.last-below", edge - 4, do_read, 0);
  line("canonical.first-above", 0xffff800000000000ul, do_read, 0);
  line("canonical.stack-segment", edge, read_stack, 0);
  line("canonical.push", edge + 8, push_at, 1);
  line("canonical.push-across", edge + 4, push_at, 1);
  line("canonical.push-below", edge, push_at, 1);
  line("canonical.enter", edge + 0x10, enter_at, 1);
  line("canonical.jump", edge, jump_to, 0);
  line("canonical.ret", edge, ret_to, 0);
  line("canonical.ret-user", edge, ret_to, 1);
  line("canonical.call", edge, do_execute, 0);
  line("canonical.invlpg", edge, invlpg_at, 0);
}

SNIPPET(stac_read, "mov arg,%rcx\nstac\nmov (%rcx),%eax\nclac\nmov $6,%eax\nret");
SNIPPET(stac_write, "mov arg,%rcx\nstac\nmovl $1,(%rcx)\nclac\nmov $6,%eax\nret");
SNIPPET(stac_execute, "mov arg,%rcx\nstac\ncall *%rcx\nclac\nret");
SNIPPET(stac_alone, "stac\npushf\npop %rax\nand $0x40000,%eax\nclac\nret");
SNIPPET(clac_alone, "clac\nret");
SNIPPET(fxsave_at, "mov arg,%rcx\nfxsave (%rcx)\nmov $8,%eax\nret");

static void smep_smap(void) {
  if ((features7[1] >> 7 & 1) == 0) return print("smep: not offered\n");
  pte *slots[] = {(pte *)&pt[0]};
  // What the guest runs on becomes supervisor's; its user code does not run from here on.
  static const pte leaves[] = {1, 3, 5, 7, 7 | NX};
  static const char *const names[] = {"p", "pw", "pu", "puw", "puw-nx"};
  extern pte boot_pd[];
  pt[0] = DATA | 7;
  for (unsigned n = 0; n < 512; ++n) boot_pd[n] &= ~4ull;
  // Ring 3 runs from a window of its own: the attempts at ring 3 are left out.
  set_cr3(get_cr3());
  for (unsigned mode = 0; mode < 4; ++mode) {
    set_cr4((get_cr4() & ~(CR4_SMEP | CR4_SMAP)) | (mode & 1 ? CR4_SMEP : 0) |
            (mode & 2 ? CR4_SMAP : 0));
    for (unsigned b = 0; b < 5; ++b) {
      print("%s%s.%s:", mode & 1 ? "smep" : "no-smep", mode & 2 ? ".smap" : "", names[b]);
      static code *const attempts[] = {do_read, do_write, do_execute, stac_read, stac_write,
                                       stac_execute, do_modify};
      for (unsigned n = 0; n < sizeof attempts / sizeof *attempts; ++n) {
        fill_code(DATA);
        pt[0] = DATA | leaves[b];
        invlpg(WINDOW);
        arg = WINDOW;
        attempt(attempts[n]);
        print(" ");
        verdict();
        print(".%x", (word)(*slots[0] >> 5 & 3));
      }
      print("\n");
    }
  }
  // The CPU's own accesses obey SMAP whatever AC says.
  pt[0] = DATA | 7;
  invlpg(WINDOW);
  line("smap.fxsave", WINDOW, fxsave_at, 0);
  report("smap.stac", stac_alone);
  set_cr4(get_cr4() & ~(CR4_SMAP | CR4_SMEP));
  for (unsigned n = 0; n < 512; ++n) boot_pd[n] |= 4;
  set_cr3(get_cr3());
  report_user("smap.stac-user", stac_alone);
  report_user("smap.clac-user", clac_alone);
  // Ring 0 writes nothing to a read-only page with WP, everything without.
  pt[0] = DATA | 5;
  set_cr0(get_cr0() & ~CR0_WP);
  invlpg(WINDOW);
  line("wp-off.kernel-write", WINDOW, do_write, 0);
  line("wp-off.user-write", WINDOW, do_write, 1);
  set_cr0(get_cr0() | CR0_WP);
  invlpg(WINDOW);
  line("wp-on.kernel-write", WINDOW, do_write, 0);
  // Implicit accesses are supervisor's: a GDT on a page that ring 3 may not see works at ring 3.
}

struct { u64 pcid, address; } invpcid_descriptor __asm__("invpcid_descriptor");
word invpcid_type __asm__("invpcid_type");
SNIPPET(invpcid_, "mov invpcid_type,%rcx\ninvpcid invpcid_descriptor,%rcx\nmov $7,%eax\nret");
SNIPPET(pcide_with_low_cr3, "mov %cr3,%rdx\nmov %rdx,%rcx\nor $8,%rcx\nmov %rcx,%cr3\nmov %cr4,%rax\n"
        "or $0x20000,%eax\nmov %rax,%cr4\nmov %rdx,%cr3\nret");
SNIPPET(clear_pg, "mov %cr0,%rax\nbtr $31,%rax\nmov %rax,%cr0\nret");
SNIPPET(clear_lme, "mov $0xc0000080,%ecx\nrdmsr\nbtr $8,%eax\nwrmsr\nret");
SNIPPET(efer_reserved, "mov $0xc0000080,%ecx\nrdmsr\nbts $1,%eax\nwrmsr\nret");

static void invpcid(const char *name, word type, u64 pcid, u64 address) {
  invpcid_type = type;
  invpcid_descriptor.pcid = pcid;
  invpcid_descriptor.address = address;
  report(name, invpcid_);
}

static u32 look(word at) { return AT(u32, at); }

// Prints for each of two PCIDs what its first access to the page finds.
static void pcids(void) {
  if ((features1[2] >> 17 & 1) == 0 || (features7[1] >> 10 & 1) == 0) {
    static const char *const lines[] = {
      "low-cr3", "first", "other", "kept-other", "flushed", "type0", "type1", "type2", "type3",
      "bad-type", "bad-pcid", "bad-address", "user", "clear-pg", "cr3-reads"};
    for (unsigned n = 0; n < sizeof lines / sizeof *lines; ++n)
      print("pcid.%s: not offered\n", lines[n]);
    return;
  }
  const word root = get_cr3();
  AT(u32, DATA) = 0x1111, AT(u32, OTHER) = 0x2222;
  pt[2] = DATA | 7;
  report("pcid.low-cr3", pcide_with_low_cr3);
  set_cr3(root);
  set_cr4(get_cr4() | CR4_PCIDE);
  set_cr3(root | 1);
  print("pcid.first: %x\n", (word)look(WINDOW + 0x2000));
  pt[2] = OTHER | 7;
  set_cr3(root | 2);
  print("pcid.other: %x\n", (word)look(WINDOW + 0x2000));
  pt[2] = DATA | 7;
  set_cr3(root | 1);  // bit 63 clear: PCID 1 is flushed, PCID 2 is not
  print("pcid.kept-other: %x\n", (word)look(WINDOW + 0x2000));
  set_cr3(root | 2);
  print("pcid.flushed: %x\n", (word)look(WINDOW + 0x2000));
  invpcid("pcid.type0", 0, 2, WINDOW + 0x2000);
  invpcid("pcid.type1", 1, 2, 0);
  invpcid("pcid.type2", 2, 0, 0);
  invpcid("pcid.type3", 3, 0, 0);
  invpcid("pcid.bad-type", 4, 0, 0);
  invpcid("pcid.bad-pcid", 1, 0x1000, 0);
  invpcid("pcid.bad-address", 0, 1, 0x800000000000ull);
  invpcid_type = 0;
  report_user("pcid.user", invpcid_);
  report("pcid.clear-pg", clear_pg);
  set_cr3(root | 5 | 1ull << 63);
  print("pcid.cr3-reads: %x\n", get_cr3() & 0xfff);
  set_cr3(root);
  set_cr4(get_cr4() & ~CR4_PCIDE);
}

void guest(void) {
  set_up();
  rights("4k");
  reserved();
  canonical();
  smep_smap();
  pcids();
  report("cr.clear-lme", clear_lme);
  report("cr.efer-reserved", efer_reserved);
}

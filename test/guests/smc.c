// Code that changes: in its own block, on its own page, through another mapping, across pages, by
// string instructions. SDM Vol. 3, "Handling Self- and Cross-Modifying Code": stores through the
// address that is executed are seen without more than a jump; other mappings need a serializing
// instruction.
#include "guest.h"

enum { CODE = 0x900000, PDPT = 0x800000, PD = 0x801000, TABLE = 0x802000 };
#define ALIAS 0x8000000000ull
extern u64 boot_pml4[];
static const u8 returns[] = {0xb8, 0x11, 0, 0, 0, 0xc3};  // mov $0x11,%eax; ret

static void put(word at, const void *bytes, unsigned count) { copy((void *)at, bytes, count); }
static void serialize(void) {
  u32 r[4];
  cpuid(0, 0, r);
}
static word call(word at) {
  attempt((code *)at);
  return last.vector < 0 ? last.ax : 0xbad0000 + (word)last.vector;
}

// A store into the instruction right behind it. The immediate of the MOV is what changes.
SNIPPET(next_instruction, "lea 1f(%rip),%rdx\nmovl $0x77,1(%rdx)\n1: mov $0x11,%eax\nret");
SNIPPET(far_in_block, "lea 1f(%rip),%rdx\nmovb $0x78,1(%rdx)\nnop\nnop\nnop\nxor %ecx,%ecx\ninc %ecx\n1: mov $0x11,%eax\nret");
SNIPPET(after_jump, "lea 1f(%rip),%rdx\nmovb $0x79,1(%rdx)\njmp 1f\n1: mov $0x11,%eax\nret");
SNIPPET(itself, "lea 1f(%rip),%rdx\nmov $0x90,%al\nmov $3,%ecx\n1: mov %al,(%rdx)\nnop\nmov $0x7a,%eax\nret");
SNIPPET(loop_counts, "xor %eax,%eax\nmov $5,%ecx\nlea 1f(%rip),%rdx\n1: add $1,%eax\nincb 2(%rdx)\nloop 1b\nret");
SNIPPET(rep_over_itself, "lea 1f(%rip),%rdi\nmov $0x90,%al\nmov $16,%ecx\n1: rep stosb\n.fill 16,1,0x90\nmov $0x7b,%eax\nret");
SNIPPET(push_over, "mov %rsp,%rdx\nlea 1f+8(%rip),%rsp\nmov $0x909090909090c031,%rax\npush %rax\nmov %rdx,%rsp\njmp 1f\n1: .fill 8,1,0xcc\nmov %rdx,%rsp\nret");
SNIPPET(locked, "lea 1f(%rip),%rdx\nlock addb $1,1(%rdx)\n1: mov $0x11,%eax\nret");

static void in_place(const char *name, code *fn) {
  put(CODE, (void *)fn, 0x80);
  print("self.%s: %x", name, call(CODE));
  print(" again %x\n", call(CODE));
}

static void patched(void) {
  put(CODE, returns, sizeof returns);
  print("patch.first: %x\n", call(CODE));
  for (unsigned n = 0; n < 4; ++n) {
    AT(u8, CODE + 1) = (u8)(0x20 + n);
    print("patch.round-%u: %x\n", (word)n, call(CODE));
  }
  // Instruction over a page's end, then each half patched.
  put(CODE + 0xffe, returns, sizeof returns);
  print("cross.first: %x\n", call(CODE + 0xffe));
  AT(u8, CODE + 0xfff) = 0x31;
  print("cross.first-page: %x\n", call(CODE + 0xffe));
  AT(u8, CODE + 0x1001) = 0x32;
  print("cross.second-page: %x\n", call(CODE + 0xffe));
  // Data beside code, on the same line.
  put(CODE, returns, sizeof returns);
  for (unsigned n = 0; n < 100; ++n) {
    AT(u32, CODE + 8) = n;
    if (call(CODE) != 0x11) print("beside: wrong\n");
  }
  print("beside.data: %x\n", (word)AT(u32, CODE + 8));
}

static void aliased(void) {
  fill((void *)PDPT, 0, 0x3000);
  boot_pml4[1] = PDPT | 7;
  AT(u64, PDPT) = PD | 7;
  AT(u64, PD) = TABLE | 7;
  AT(u64, TABLE) = CODE | 7;
  AT(u64, TABLE + 8) = (CODE + 0x1000) | 7;
  put(CODE, returns, sizeof returns);
  put(CODE + 0x1000, returns, sizeof returns);
  AT(u8, CODE + 0x1001) = 0x41;
  print("alias.first: %x %x\n", call(ALIAS), call(ALIAS + 0x1000));
  AT(u8, CODE + 1) = 0x42;
  serialize();
  print("alias.written-elsewhere: %x %x\n", call(ALIAS), call(CODE));
  AT(u8, ALIAS + 1) = 0x43;
  serialize();
  print("alias.written-here: %x %x\n", call(ALIAS), call(CODE));
  AT(u64, TABLE) = (CODE + 0x1000) | 7;
  invlpg(ALIAS);
  print("alias.remapped: %x\n", call(ALIAS));
  AT(u64, TABLE) = CODE | 7;
  set_cr3(get_cr3());
  print("alias.back: %x\n", call(ALIAS));
  // The halves of an instruction across a page come from where each page is mapped.
  put(CODE + 0xffe, returns, sizeof returns);
  put(CODE + 0x2000, (const u8[]){0, 0x55, 0, 0xc3}, 4);  // what follows b8 xx in another page
  print("alias.cross: %x\n", call(ALIAS + 0xffe));
  AT(u64, TABLE + 8) = (CODE + 0x2000) | 7;
  invlpg(ALIAS + 0x1000);
  print("alias.cross-remapped: %x\n", call(ALIAS + 0xffe));
  // A page that is code and page table at once: the walk's A bit changes its bytes.
  AT(u64, TABLE + 8) = 0;
  set_cr3(get_cr3());
  print("alias.cross-absent: %x cr2=%x\n", call(ALIAS + 0xffe), last.cr2);
}

void guest(void) {
  in_place("next-instruction", next_instruction), in_place("far-in-block", far_in_block);
  in_place("after-jump", after_jump), in_place("itself", itself), in_place("loop", loop_counts);
  in_place("rep-over-itself", rep_over_itself), in_place("push", push_over), in_place("locked", locked);
  patched();
  aliased();
}

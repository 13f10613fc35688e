// What the three paging guests share: attempts at each kind of access, and tables of what the
// rights of a page allow. The guest gives pte (its width) and `slots`: pointers to the entries
// that lead to `page`, the leaf last.
#pragma once
#include "guest.h"

word arg __asm__("arg");
#ifdef __x86_64__
#define ADDRESS "mov arg,%rcx\n"
#define POINTER "(%rcx)"
#define CALL "call *%rcx\n"
#else
#define ADDRESS "mov arg,%ecx\n"
#define POINTER "(%ecx)"
#define CALL "call *%ecx\n"
#endif
SNIPPET(do_read, ADDRESS "mov " POINTER ",%eax\nmov $1,%eax\nret");
SNIPPET(do_write, ADDRESS "movl $0x55aa1234," POINTER "\nmov $2,%eax\nret");
SNIPPET(do_modify, ADDRESS "addl $1," POINTER "\nmov $3,%eax\nret");
SNIPPET(do_locked, ADDRESS "lock addl $0," POINTER "\nmov $3,%eax\nret");
SNIPPET(do_execute, ADDRESS CALL "ret");
SNIPPET(do_cmpxchg, ADDRESS "mov $0x77,%eax\ncmpxchg %edx," POINTER "\nmov $4,%eax\nret");

struct access { const char *name; code *fn; int user; };
static const struct access accesses[] = {
  {"sr", do_read, 0}, {"sw", do_write, 0}, {"sx", do_execute, 0},
  {"ur", do_read, 1}, {"uw", do_write, 1}, {"ux", do_execute, 1}};

static void go(const struct access *a) {
  if (a->user) attempt_user(a->fn); else attempt(a->fn);
}

// One word: what became of it.
static void verdict(void) {
  if (last.vector < 0)
    print("ok");
  else if (last.vector == PF)
    print("pf%x", last.error);
  else
    print("v%u.%x", last.vector, last.error);
}

// At mapped physical memory: `mov $0x99,%eax; ret`, so that it can be read, written and executed.
static void fill_code(word at) {
  static const u8 bytes[8] = {0xb8, 0x99, 0, 0, 0, 0xc3, 0x90, 0x90};
  copy((void *)at, bytes, sizeof bytes);
}

// All six accesses to `at`, each with the A and D bits that it left in `slots`.
static void all_accesses(const char *name, word at, word physical, pte *const *slots, unsigned count) {
  print("%s:", name);
  for (unsigned n = 0; n < sizeof accesses / sizeof *accesses; ++n) {
    fill_code(physical);
    for (unsigned s = 0; s < count; ++s) *slots[s] &= ~(pte)0x60;
    set_cr3(get_cr3());
    invlpg(at);
    arg = at;
    go(&accesses[n]);
    print(" %s=", accesses[n].name);
    verdict();
    if (last.vector == PF && last.cr2 != at) print("@%x", last.cr2);
    print(".");
    for (unsigned s = 0; s < count; ++s) print("%x", (word)(*slots[s] >> 5 & 3));
  }
  print("\n");
}

static void line(const char *name, word at, code *fn, int user) {
  arg = at;
  if (user) report_user(name, fn); else report(name, fn);
}

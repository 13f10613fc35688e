// Several CPUs: INIT and SIPI, IPIs, atomic counters, and litmus tests of the memory order that
// SDM Vol. 3, "Memory Ordering in P6 and More Recent Processor Families" promises. Only outcomes
// that it forbids are counted, so that the log is the same however the CPUs interleave.
#include "guest.h"

enum { CPUS = 4, TRAMPOLINE = 0x8000, APIC = 0xfee00000, ROUNDS = 40, CELLS = 500, COUNTS = 5000 };
enum { APIC_ID = 0x20, APIC_EOI = 0xb0, APIC_SPURIOUS = 0xf0, APIC_ICR = 0x300, APIC_ICR_HIGH = 0x310 };

extern u64 boot_pml4[];
u32 next_cpu __asm__("next_cpu");
u8 cpu_stacks[CPUS][8192] __asm__("cpu_stacks") __attribute__((aligned(16)));
static volatile u32 arrived, go, work, finished;
static volatile u32 interrupts[CPUS], nmis[CPUS];

// Real mode at 8000:0 of the SIPI's vector, straight to long mode, then start_ap(number).
asm(".pushsection .text\n.code16\n.globl trampoline, trampoline_end\n"
    "trampoline: cli\nlgdtl %cs:(trampoline_gdt - trampoline)\n"
    "mov %cr0,%eax\nor $1,%al\nmov %eax,%cr0\nljmpl $0x40,$ap32\n"
    "trampoline_gdt: .word 64*8-1\n.long gdt\n"
    "trampoline_end: .code32\n"
    "ap32: mov $0x10,%eax\nmov %eax,%ds\nmov %eax,%es\nmov %eax,%ss\n"
    "mov %cr4,%eax\nor $0x20,%eax\nmov %eax,%cr4\nmov $boot_pml4,%eax\nmov %eax,%cr3\n"
    "mov $0xc0000080,%ecx\nrdmsr\nor $0x100,%eax\nwrmsr\n"
    "mov %cr0,%eax\nor $0x80000000,%eax\nand $0x9fffffff,%eax\nmov %eax,%cr0\nljmp $8,$ap64\n"
    ".code64\n"
    "ap64: mov $1,%edi\nlock xadd %edi,next_cpu\n"
    "mov %edi,%eax\ninc %eax\nshl $13,%eax\nlea cpu_stacks(%eax),%esp\ncall start_ap\n"
    ".popsection");
extern u8 trampoline[], trampoline_end[];

static u32 apic_read(u32 at) { return AT(u32, APIC + at); }
static void apic_write(u32 at, u32 value) { AT(u32, APIC + at) = value; }
static void relax(void) { FLAT("pause" ::: "memory"); }
static void wait_until(volatile u32 *cell, u32 value) {
  while (*cell != value) relax();
}
static void send(u32 target, u32 command) {
  apic_write(APIC_ICR_HIGH, target << 24);
  apic_write(APIC_ICR, command);
  while (apic_read(APIC_ICR) >> 12 & 1) relax();
}
static void add(volatile u32 *cell) { FLAT("lock incl %0" : "+m"(*cell)::"memory"); }

static int took(struct frame *f) {
  const u32 id = apic_read(APIC_ID) >> 24;
  if (f->vector == NMI) {
    ++nmis[id];
    return 1;
  }
  if (f->vector != 0x90) return 0;
  ++interrupts[id];
  apic_write(APIC_EOI, 0);
  return 1;
}

// ---- what all CPUs do --------------------------------------------------------------------------
static volatile u32 plain, counter, exchanged, compared, lock, guarded;
static volatile u64 wide[2] __attribute__((aligned(16)));
static u8 straddle[4096 * 3] __attribute__((aligned(4096)));
static volatile u32 across_line_ok, torn;

static void count(u32 me) {
  (void)me;
  for (unsigned n = 0; n < COUNTS; ++n) {
    FLAT("lock incl %0" : "+m"(counter)::"memory");
    u32 one = 1;
    FLAT("lock xaddl %0,%1" : "+r"(one), "+m"(exchanged)::"memory");
    u32 old = compared, seen;
    do {
      seen = old;
      FLAT("lock cmpxchgl %2,%1" : "+a"(old), "+m"(compared) : "r"(seen + 1) : "memory", "cc");
    } while (old != seen);
    u32 taken = 1;
    for (;;) {
      FLAT("xchgl %0,%1" : "+r"(taken), "+m"(lock)::"memory");
      if (taken == 0) break;
      while (lock) relax();
      taken = 1;
    }
    guarded = guarded + 1;
    lock = 0;
  }
}

static void count_wide(u32 me) {
  (void)me;
  for (unsigned n = 0; n < COUNTS; ++n) {
    u64 low = wide[0], high = wide[1];
    u8 done;
    do {
      const u64 next_low = low + 1, next_high = high + 2;
      FLAT("lock cmpxchg16b %1\nsetz %0"
           : "=q"(done), "+m"(*(volatile struct { u64 w[2]; } *)wide), "+a"(low), "+d"(high)
           : "b"(next_low), "c"(next_high) : "memory", "cc");
    } while (!done);
  }
}

// A locked add over a cache line's end and one over a page's end.
static void count_split(u32 me) {
  (void)me;
  for (unsigned n = 0; n < 500; ++n) {
    FLAT("lock incl %0" : "+m"(*(volatile u32 *)(straddle + 62))::"memory");
    FLAT("lock incl %0" : "+m"(*(volatile u32 *)(straddle + 4094))::"memory");
  }
}

// ---- litmus tests: each CPU runs over the same cells in the same order ---------------------------
static volatile u32 x[CELLS * 16], y[CELLS * 16];
static u32 first[CPUS][CELLS], second[CPUS][CELLS];
#define X x[n * 16]
#define Y y[n * 16]

static void mp(u32 me) {
  for (unsigned n = 0; n < CELLS; ++n)
    if (me == 0) X = 1, Y = 1;
    else if (me == 1) first[1][n] = Y, second[1][n] = X;
}
static void sb_mfence(u32 me) {
  for (unsigned n = 0; n < CELLS; ++n)
    if (me == 0) { X = 1; FLAT("mfence" ::: "memory"); first[0][n] = Y; }
    else if (me == 1) { Y = 1; FLAT("mfence" ::: "memory"); first[1][n] = X; }
}
static void sb_xchg(u32 me) {
  for (unsigned n = 0; n < CELLS; ++n) {
    u32 one = 1;
    if (me == 0) { FLAT("xchgl %0,%1" : "+r"(one), "+m"(X)::"memory"); first[0][n] = Y; }
    else if (me == 1) { FLAT("xchgl %0,%1" : "+r"(one), "+m"(Y)::"memory"); first[1][n] = X; }
  }
}
static void sb_locked(u32 me) {
  u32 own = 0;
  for (unsigned n = 0; n < CELLS; ++n)
    if (me == 0) { X = 1; FLAT("lock orl $0,%0" : "+m"(own)::"memory"); first[0][n] = Y; }
    else if (me == 1) { Y = 1; FLAT("lock orl $0,%0" : "+m"(own)::"memory"); first[1][n] = X; }
}
static void lb(u32 me) {
  for (unsigned n = 0; n < CELLS; ++n)
    if (me == 0) { first[0][n] = X; Y = 1; }
    else if (me == 1) { first[1][n] = Y; X = 1; }
}
static void iriw(u32 me) {
  for (unsigned n = 0; n < CELLS; ++n)
    switch (me) {
      case 0: X = 1; break;
      case 1: Y = 1; break;
      case 2: first[2][n] = X, second[2][n] = Y; break;
      default: first[3][n] = Y, second[3][n] = X;
    }
}
static void corr(u32 me) {
  for (unsigned n = 0; n < CELLS; ++n)
    if (me == 0) X = 1;
    else first[me][n] = X, second[me][n] = X;
}
// An aligned store of 8 bytes is seen whole.
static void whole(u32 me) {
  for (unsigned n = 0; n < CELLS; ++n) {
    volatile u64 *cell = (volatile u64 *)&x[n * 16];
    if (me == 0) *cell = 0x1111111122222222ull;
    else if (me == 1) { const u64 v = *cell; first[1][n] = v != 0 && v != 0x1111111122222222ull; }
  }
}

struct litmus { const char *name; void (*run)(u32); int (*forbidden)(unsigned); };
static int mp_bad(unsigned n) { return first[1][n] == 1 && second[1][n] == 0; }
static int sb_bad(unsigned n) { return first[0][n] == 0 && first[1][n] == 0; }
static int lb_bad(unsigned n) { return first[0][n] == 1 && first[1][n] == 1; }
static int iriw_bad(unsigned n) {
  return first[2][n] == 1 && second[2][n] == 0 && first[3][n] == 1 && second[3][n] == 0;
}
static int corr_bad(unsigned n) {
  for (unsigned me = 1; me < CPUS; ++me)
    if (first[me][n] == 1 && second[me][n] == 0) return 1;
  return 0;
}
static int whole_bad(unsigned n) { return first[1][n] != 0; }
static const struct litmus tests[] = {
  {"mp", mp, mp_bad}, {"sb.mfence", sb_mfence, sb_bad}, {"sb.xchg", sb_xchg, sb_bad},
  {"sb.locked", sb_locked, sb_bad}, {"lb", lb, lb_bad}, {"iriw", iriw, iriw_bad}, {"corr", corr, corr_bad},
  {"whole", whole, whole_bad}};

// ---- code that one CPU writes and another runs -----------------------------------------------------
enum { CODE = 0x900000 };
static volatile u32 version, ran, stale;

static void cross_modify(u32 me) {
  if (me > 1) return;
  for (u32 n = 1; n <= 100; ++n) {
    if (me == 0) {
      AT(u32, CODE + 1) = n;  // the immediate of MOV EAX
      version = n;
      wait_until(&ran, n);
    } else {
      wait_until(&version, n);
      u32 r[4];
      cpuid(0, 0, r);  // "Handling Self- and Cross-Modifying Code" asks the executing CPU to serialize
      if (((word(*)(void))(word)CODE)() != n) add(&stale);
      ran = n;
    }
  }
}

static void park(u32 me) {
  // Waits for the IPIs with interrupts on; the tests go on when all were counted.
  if (me != 0) FLAT("sti");
}
static void unpark(u32 me) {
  (void)me;
  FLAT("cli");
}

static void (*job)(u32);

static void together(void (*what)(u32)) {
  job = what;
  finished = 0;
  add(&work);
  what(0);
  add(&finished);
  wait_until(&finished, CPUS);
}

__attribute__((used)) void start_ap(u32 me) {
  struct { u16 limit; word base; } __attribute__((packed)) table;
  FLAT("sidt %0" : "=m"(table));
  extern u64 idt[];
  table.limit = 256 * 16 - 1, table.base = (word)idt;
  FLAT("lidt %0" ::"m"(table));
  apic_write(APIC_SPURIOUS, 0x1ff);
  add(&arrived);
  for (u32 seen = 0;;) {
    while (work == seen) relax();
    ++seen;
    job(me);
    add(&finished);
  }
}

static void run_litmus(const struct litmus *t) {
  u32 bad = 0;
  for (unsigned round = 0; round < ROUNDS; ++round) {
    fill((void *)x, 0, sizeof x), fill((void *)y, 0, sizeof y);
    together(t->run);
    for (unsigned n = 0; n < CELLS; ++n) bad += (u32)t->forbidden(n);
  }
  print("litmus.%s: forbidden %u\n", t->name, (word)bad);
}

void guest(void) {
  hook = took;
  copy((void *)TRAMPOLINE, trampoline, (word)(trampoline_end - trampoline));
  apic_write(APIC_SPURIOUS, 0x1ff);
  next_cpu = 1;
  print("bsp: id=%x\n", (word)apic_read(APIC_ID) >> 24);
  for (u32 id = 1; id < CPUS; ++id) {
    send(id, 0x4500);  // INIT
    send(id, 0x4600 | TRAMPOLINE >> 12);
    wait_until(&arrived, id);
    print("sipi: %u up\n", (word)id);
  }
  send(1, 0x4600 | TRAMPOLINE >> 12);  // a SIPI to a CPU that runs is ignored
  print("sipi.ignored: %u\n", (word)next_cpu);
  together(count);
  print("count: lock=%u xadd=%u cmpxchg=%u guarded=%u\n", (word)counter, (word)exchanged, (word)compared,
        (word)guarded);
  together(count_wide);
  print("count16: low=%u high=%u\n", (word)wide[0], (word)wide[1]);
  together(count_split);
  print("split: line=%u page=%u\n", (word)*(u32 *)(straddle + 62), (word)*(u32 *)(straddle + 4094));
  for (unsigned n = 0; n < sizeof tests / sizeof *tests; ++n) run_litmus(&tests[n]);
  static const u8 code[] = {0xb8, 0, 0, 0, 0, 0xc3};
  copy((void *)CODE, code, sizeof code);
  together(cross_modify);
  print("cross-modify: stale %u\n", (word)stale);
  together(park);
  for (u32 id = 1; id < CPUS; ++id) {
    for (unsigned n = 1; n <= 3; ++n) {
      send(id, 0x4090);
      wait_until(&interrupts[id], n);
    }
    send(id, 0x4400);
    wait_until(&nmis[id], 1);
    print("ipi: %u took %u and %u nmi\n", (word)id, (word)interrupts[id], (word)nmis[id]);
  }
  apic_write(APIC_ICR, 0xc4090);  // all but self
  for (u32 id = 1; id < CPUS; ++id) wait_until(&interrupts[id], 4);
  print("ipi.all-but-self: ok\n");
  apic_write(APIC_ICR, 0x44090);  // self
  FLAT("sti; nop; nop");
  wait_until(&interrupts[0], 1);
  FLAT("cli");
  print("ipi.self: %u\n", (word)interrupts[0]);
  together(unpark);
  // INIT again: the CPU stops and starts anew.
  const u32 before = arrived;
  next_cpu = 3;
  send(3, 0x4500), send(3, 0x4600 | TRAMPOLINE >> 12);
  wait_until(&arrived, before + 1);
  print("init.again: %u\n", (word)next_cpu);
}

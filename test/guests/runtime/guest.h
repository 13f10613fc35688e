// What a conformance guest stands on: print to COM1, run a piece of code at ring 0 or ring 3 and
// report how it ended. Each line of the log is `group.check: outcome`, and the logs of two machines
// are compared line by line: nothing in a log may depend on time or on where the compiler put
// things.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned long word;

// Selectors of the runtime's GDT, the same numbers in both widths (start32.S, start64.S).
enum {
  KERNEL_CODE = 0x08, KERNEL_DATA = 0x10, USER_CODE32 = 0x1b, USER_DATA = 0x23, USER_CODE64 = 0x2b,
  TSS_SELECTOR = 0x30, KERNEL_CODE32 = 0x40,  // a compatibility segment in the 64-bit runtime
  CODE16 = 0x48, DATA16 = 0x50, FREE = 0x58,  // from here on guests make their own
  GDT_ENTRIES = 64
};

enum { DE, DB, NMI, BP, OF, BR, UD, NM, DF, TS = 10, NP, SS, GP, PF, MF = 16, AC, MC, XM };
enum { RETURN_VECTOR = 0x60 };  // INT 0x60 is how ring 3 ends

struct frame {
#ifdef __x86_64__
  u64 r15, r14, r13, r12, r11, r10, r9, r8, di, si, bp, bx, dx, cx, ax;
#else
  u32 gs, fs, es, ds, di, si, bp, pusha_sp, bx, dx, cx, ax;
#endif
  word vector, error, ip, cs, flags, sp, ss;
#ifndef __x86_64__
  u32 v86_es, v86_ds, v86_fs, v86_gs;
#endif
};

// How the last attempt ended. vector is -1 when it returned.
struct outcome {
  long vector;
  word error, ip, cs, flags, sp, ss, ax, cr2;
};
extern struct outcome last;

// A handler that looks first; nonzero: go on where the frame says.
extern int (*hook)(struct frame *);
extern word user_flags;      // RFLAGS that ring 3 starts with
extern word user_code;       // and its CS
extern word user_stack_top;  // and the end of its stack
extern u64 gdt[];
extern u8 tss[];
extern u8 exception_stack_top[];

typedef void code(void);  // a SNIPPET: its bytes, not a C function

void attempt(code *fn);
void attempt_user(code *fn);
void recover(void) __attribute__((noreturn));

void print(const char *format, ...);  // %x %u %s %c %q (u64 in hex) %h (two hex digits)
void report(const char *name, code *fn);        // attempt() and its line
void report_user(const char *name, code *fn);   // attempt_user() and its line
void outcome_line(const char *name, code *fn);  // the line of the last attempt
void ended(int status) __attribute__((noreturn));
extern int show_flags, show_ax, show_ring;

void descriptor(unsigned selector, word base, u32 limit, u32 access);
void system_descriptor(unsigned selector, word base, u32 limit, u32 access);
void gate(unsigned vector, unsigned selector, word offset, unsigned type);
u64 gate_bits(unsigned selector, word offset, unsigned type, unsigned parameters);
word stub(unsigned vector);  // the runtime's entry point of a vector
void idt_bytes(unsigned vector, u64 low);
void guest(void);

// A label, the code between and nothing else. Addresses of faults are printed from here.
#define SNIPPET(name, ...) \
  asm(".pushsection .text\n.globl " #name "\n" #name ":\n" __VA_ARGS__ "\n.popsection"); \
  extern code name
#define FLAT __asm__ __volatile__

static inline void outb(u16 port, u8 value) { FLAT("outb %0,%1" ::"a"(value), "Nd"(port)); }
static inline u8 inb(u16 port) {
  u8 value;
  FLAT("inb %1,%0" : "=a"(value) : "Nd"(port));
  return value;
}
static inline void cpuid(u32 leaf, u32 sub, u32 r[4]) {
  FLAT("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(sub));
}
static inline u64 rdmsr(u32 index) {
  u32 low, high;
  FLAT("rdmsr" : "=a"(low), "=d"(high) : "c"(index));
  return (u64)high << 32 | low;
}
static inline void wrmsr(u32 index, u64 value) {
  FLAT("wrmsr" ::"c"(index), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}
#define REGISTER(name)                                                            \
  static inline word get_##name(void) {                                           \
    word value;                                                                   \
    FLAT("mov %%" #name ",%0" : "=r"(value)::"memory");                           \
    return value;                                                                 \
  }                                                                               \
  static inline void set_##name(word value) { FLAT("mov %0,%%" #name ::"r"(value) : "memory"); }
REGISTER(cr0)
REGISTER(cr2)
REGISTER(cr3)
REGISTER(cr4)
REGISTER(dr0)
REGISTER(dr1)
REGISTER(dr2)
REGISTER(dr3)
REGISTER(dr6)
REGISTER(dr7)
static inline void invlpg(word at) { FLAT("invlpg (%0)" ::"r"(at) : "memory"); }
static inline void fill(void *at, int value, word bytes) {
  FLAT("rep stosb" : "+D"(at), "+c"(bytes) : "a"(value) : "memory");
}
static inline void copy(void *to, const void *from, word bytes) {
  FLAT("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes)::"memory");
}
#define AT(type, address) (*(volatile type *)(word)(address))

enum { CR0_PE = 1, CR0_MP = 2, CR0_EM = 4, CR0_TS = 8, CR0_NE = 0x20, CR0_WP = 0x10000, CR0_AM = 0x40000 };
#define CR0_PG 0x80000000ul
enum {
  CR4_TSD = 4, CR4_DE = 8, CR4_PSE = 0x10, CR4_PAE = 0x20, CR4_PGE = 0x80, CR4_OSFXSR = 0x200,
  CR4_OSXMMEXCPT = 0x400, CR4_UMIP = 0x800, CR4_FSGSBASE = 0x10000, CR4_PCIDE = 0x20000,
  CR4_SMEP = 0x100000, CR4_SMAP = 0x200000
};
enum { F_CF = 1, F_ZF = 0x40, F_TF = 0x100, F_IF = 0x200, F_NT = 0x4000, F_RF = 0x10000,
       F_VM = 0x20000, F_AC = 0x40000, F_VIF = 0x80000, F_VIP = 0x100000, F_ID = 0x200000 };
// Access bytes of descriptors, with G and D/B in bits 12 to 15.
enum {
  A_DATA = 0x93, A_CODE = 0x9b, A_EXECUTE_ONLY = 0x99, A_READ_ONLY = 0x91, A_DOWN = 0x97,
  A_CONFORMING = 0x9f, A_TSS16 = 0x81, A_LDT = 0x82, A_TSS32 = 0x89, A_CALL16 = 0x84,
  A_TASK_GATE = 0x85, A_INT16 = 0x86, A_TRAP16 = 0x87, A_CALL32 = 0x8c, A_INT32 = 0x8e,
  A_TRAP32 = 0x8f, A_DPL3 = 0x60, A_G = 0x8000, A_BIG = 0x4000, A_LONG = 0x2000
};

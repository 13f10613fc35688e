// The C half of the runtime: the serial line, what an exception does, descriptors.
#include "guest.h"

struct outcome last;
int (*hook)(struct frame *);
word user_flags = 2;
word user_code;
static u8 user_stack[4096] __attribute__((aligned(16)));
word user_stack_top = (word)user_stack + sizeof user_stack;
int show_flags, show_ax = 1, show_ring;

enum { COM1 = 0x3f8, LINE_STATUS = COM1 + 5, EXIT_PORT = 0xf4 };

static void put(char c) {
  while ((inb(LINE_STATUS) & 0x20) == 0) {}
  outb(COM1, (u8)c);
}

static void hex(u64 value, unsigned digits) {
  unsigned n = 16;
  while (n > digits && value >> (4 * (n - 1)) == 0) --n;
  while (n-- > 0) put("0123456789abcdef"[value >> (4 * n) & 15]);
}

static void decimal(word value) {
  char text[20];
  int n = 0;
  do text[n++] = (char)('0' + (u32)value % 10); while ((value = (u32)value / 10) != 0);
  while (n-- > 0) put(text[n]);
}

void print(const char *format, ...) {
  __builtin_va_list arguments;
  __builtin_va_start(arguments, format);
  for (; *format != 0; ++format) {
    if (*format != '%') {
      put(*format);
      continue;
    }
    switch (*++format) {
      case 'x': hex(__builtin_va_arg(arguments, word), 1); break;
      case 'q': hex(__builtin_va_arg(arguments, u64), 1); break;
      case 'h': hex(__builtin_va_arg(arguments, u32) & 0xff, 2); break;
      case 'u': decimal(__builtin_va_arg(arguments, word)); break;
      case 'c': put((char)__builtin_va_arg(arguments, int)); break;
      case 's':
        for (const char *s = __builtin_va_arg(arguments, const char *); *s != 0; ++s) put(*s);
        break;
      default: put(*format);
    }
  }
  __builtin_va_end(arguments);
}

static const char *const names[32] = {
    "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "9", "#TS", "#NP", "#SS", "#GP",
    "#PF", "15", "#MF", "#AC", "#MC", "#XM"};

static void vector_name(long vector) {
  if (vector < 32 && names[vector] != 0)
    print("%s", names[vector]);
  else
    print("int %x", (word)vector);
}

static int pushes_error(long vector) {
  return vector == DF || (vector >= TS && vector <= PF) || vector == AC;
}

// Where an image address lies depends on the compiler: only what is near `fn` is told.
static void address(word ip, code *fn) {
  const word start = (word)fn;
  if (ip >= start && ip < start + 0x400)
    print(" rip=+%x", ip - start);
  else if (ip >= 0x100000 && ip < 0x400000)
    print(" rip=image");
  else
    print(" rip=%x", ip);
}

void outcome_line(const char *name, code *fn) {
  print("%s: ", name);
  if (last.vector < 0) {
    print("ok");
    if (show_ax) print(" %x", last.ax);
    print("\n");
    return;
  }
  vector_name(last.vector);
  if (pushes_error(last.vector)) print(" err=%x", last.error);
  if (last.vector == PF) print(" cr2=%x", last.cr2);
  address(last.ip, fn);
  if (show_ring) print(" cs=%x", last.cs & 0xffff);
  if (show_flags) print(" flags=%x", last.flags);
  print("\n");
}

void report(const char *name, code *fn) {
  attempt(fn);
  outcome_line(name, fn);
}

void report_user(const char *name, code *fn) {
  attempt_user(fn);
  outcome_line(name, fn);
}

extern word recovery;

static void unexpected(const struct frame *f) {
  print("unexpected ");
  vector_name((long)f->vector);
  print(" err=%x cr2=%x rip=%x cs=%x flags=%x\n", f->error, get_cr2(), f->ip, f->cs, f->flags);
  ended(1);
}

// From the stubs: returns to go on with the frame.
void exception(struct frame *f) {
  if (hook != 0 && hook(f)) return;
  if (recovery == 0) unexpected(f);
  last.vector = f->vector == RETURN_VECTOR ? -1 : (long)f->vector;
  last.error = f->error;
  last.ip = f->ip;
  last.cs = f->cs;
  last.flags = f->flags;
  last.sp = f->sp;
  last.ss = f->ss;
  last.ax = f->ax;
  last.cr2 = f->vector == PF ? get_cr2() : 0;
  recover();
}

void ended(int status) {
  for (;;) outb(EXIT_PORT, (u8)status);
}

static u64 descriptor_bits(word base, u32 limit, u32 access) {
  return (limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)(access & 0xff) << 40 |
         (u64)(limit >> 16 & 15) << 48 | (u64)(access >> 12 & 15) << 52 |
         (u64)(base >> 24 & 0xff) << 56;
}

void descriptor(unsigned selector, word base, u32 limit, u32 access) {
  gdt[selector >> 3] = descriptor_bits(base, limit, access);
}

// LDT, TSS and gates take two entries in long mode.
void system_descriptor(unsigned selector, word base, u32 limit, u32 access) {
  descriptor(selector, base, limit, access);
#ifdef __x86_64__
  gdt[(selector >> 3) + 1] = base >> 32;
#endif
}

u64 gate_bits(unsigned selector, word offset, unsigned type, unsigned parameters) {
  return (offset & 0xffff) | (u64)(selector & 0xffff) << 16 | (u64)parameters << 32 |
         (u64)type << 40 | (u64)(offset >> 16 & 0xffff) << 48;
}

extern u64 idt[];
extern u8 stubs[];
enum { STUB_BYTES = 16 };

word stub(unsigned vector) { return (word)stubs + vector * STUB_BYTES; }

void idt_bytes(unsigned vector, u64 low) {
#ifdef __x86_64__
  idt[2 * vector] = low;
#else
  idt[vector] = low;
#endif
}

void gate(unsigned vector, unsigned selector, word offset, unsigned type) {
  idt_bytes(vector, gate_bits(selector, offset, type, 0));
#ifdef __x86_64__
  idt[2 * vector + 1] = offset >> 32;
#endif
}

static void load_tables(void) {
  struct { u16 limit; word base; } __attribute__((packed)) table;
  table.limit = GDT_ENTRIES * 8 - 1;
  table.base = (word)gdt;
  FLAT("lgdt %0" ::"m"(table));
  table.limit = 256 * 2 * sizeof(word) - 1;
  table.base = (word)idt;
  FLAT("lidt %0" ::"m"(table));
  FLAT("lldt %w0" ::"r"(0));
  FLAT("ltr %w0" ::"r"(TSS_SELECTOR));
}

static void prepare_tss(void) {
#ifdef __x86_64__
  *(u64 *)(tss + 4) = (u64)exception_stack_top;
  *(u16 *)(tss + 102) = 104;  // no I/O bitmap
  system_descriptor(TSS_SELECTOR, (word)tss, 103, A_TSS32);
  user_code = USER_CODE64;
#else
  *(u32 *)(tss + 4) = (u32)exception_stack_top;
  *(u16 *)(tss + 8) = KERNEL_DATA;
  *(u16 *)(tss + 102) = 104;
  system_descriptor(TSS_SELECTOR, (word)tss, 103, A_TSS32);
  user_code = USER_CODE32;
#endif
}

void start_c(void) {
  // Multiboot leaves all of CR0 but PG and PE open.
  set_cr0((get_cr0() & CR0_PG) | CR0_PE | CR0_NE | 0x10);
  prepare_tss();
  for (unsigned v = 0; v < 256; ++v) gate(v, KERNEL_CODE, stub(v), A_INT32);
  gate(RETURN_VECTOR, KERNEL_CODE, stub(RETURN_VECTOR), A_INT32 | A_DPL3);
  load_tables();
  outb(0x21, 0xff);  // no interrupt from the 8259As
  outb(0xa1, 0xff);
  guest();
  print("end\n");
  ended(0);
}

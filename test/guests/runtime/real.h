// Real mode for 32-bit guests: a snippet of 16-bit code is copied to 0900:0000 and run there with
// DS = ES = FS = GS = 0 and SS:SP = 0000:7000; it ends with FINISH. Interrupts and exceptions come back with the
// vector and what was pushed.
#pragma once
#include "guest.h"

#define SNIPPET16(name, ...) SNIPPET(name, ".code16\n" __VA_ARGS__ "\n.code32")
#define FINISH "\nljmp $0,$0x8000\n"
enum { REAL_CODE = 0x9000, REAL_SEGMENT = 0x900, REAL_STACK = 0x7000, REAL_BLOB = 0x8000 };

// At 0x8000: the way in and out, 256 stubs of the IVT. Fixed addresses, as CS is 0 there.
asm(".pushsection .text\n"
    "real_blob: .code16\n"
    "jmp real_finish\n"                    // 8000
    ".balign 16\n"                         // 8010: from protected mode of 16 bits
    "mov %cr0,%eax\nand $0xfe,%al\nmov %eax,%cr0\n"
    "ljmp $0,$(real_entered - real_blob + 0x8000)\n"
    "real_entered: xor %ax,%ax\nmov %ax,%ds\nmov %ax,%es\nmov %ax,%fs\nmov %ax,%gs\nmov %ax,%ss\n"
    "mov $0x7000,%esp\nxor %ecx,%ecx\nxor %edx,%edx\nxor %ebx,%ebx\nxor %esi,%esi\nxor %edi,%edi\n"
    "xor %eax,%eax\nljmp $0x900,$0\n"
    "real_finish: pushf\npush %cs\npush $0\npush $0x100\n"
    "real_common: mov %eax,%cs:0x600\npopw %cs:0x604\npopw %cs:0x606\npopw %cs:0x608\npopw %cs:0x60a\n"
    "mov %sp,%cs:0x60c\nmov %ss,%ax\nmov %ax,%cs:0x60e\n"
    "mov %ebx,%cs:0x610\nmov %ecx,%cs:0x614\nmov %edx,%cs:0x618\nmov %esi,%cs:0x61c\nmov %edi,%cs:0x620\n"
    "lidtl %cs:0x630\nmov %cr0,%eax\nor $1,%al\nmov %eax,%cr0\nljmpl $8,$real_back\n"
    ".balign 16\nreal_stubs: .set v,0\n.rept 256\npush $v\njmp real_common\n.balign 8\n.set v,v+1\n.endr\n"
    "real_blob_end: .code32\n"
    "real_back: mov $0x10,%eax\nmov %eax,%ds\nmov %eax,%es\nmov %eax,%ss\nmov recovery,%esp\njmp real_done\n"
    "enter_real: lidt real_ivt\nmov $0x50,%eax\nmov %eax,%ds\nmov %eax,%es\nmov %eax,%ss\nmov %eax,%fs\n"
    "mov %eax,%gs\nljmp $0x48,$0x8010\n"
    "real_ivt: .word 0x3ff\n.long 0\n"
    "real_stub_offset: .long real_stubs - real_blob\nreal_blob_size: .long real_blob_end - real_blob\n"
    ".popsection");
extern code real_blob, enter_real;
extern const u32 real_stub_offset, real_blob_size;

struct real_outcome { u32 ax; u16 vector, ip, cs, flags, sp, ss; u32 bx, cx, dx, si, di; };
#define real_last (*(volatile struct real_outcome *)0x600)

void real_done(void) {
  last.vector = real_last.vector == 0x100 ? -1 : real_last.vector;
  last.ax = real_last.ax;
  recover();
}

static void real_prepare(void) {
  copy((void *)REAL_BLOB, (void *)real_blob, real_blob_size);
  for (unsigned v = 0; v < 256; ++v) AT(u32, 4 * v) = REAL_BLOB + real_stub_offset + 8 * v;
  FLAT("sidt 0x630");
}

static void real_line(const char *name) {
  print("%s: ", name);
  if (last.vector >= 0)
    print("int %x ip=%x cs=%x flags=%x ", last.vector, (word)real_last.ip, (word)real_last.cs,
          (word)real_last.flags);
  print("ax=%x bx=%x cx=%x dx=%x si=%x di=%x sp=%x\n", (word)real_last.ax, (word)real_last.bx,
        (word)real_last.cx, (word)real_last.dx, (word)real_last.si, (word)real_last.di,
        (word)real_last.sp);
}

static void real(const char *name, code *fn) {
  copy((void *)REAL_CODE, (void *)fn, 0x100);
  attempt(enter_real);
  real_line(name);
}

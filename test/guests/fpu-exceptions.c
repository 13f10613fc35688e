// How x87, MMX and SSE exceptions are delivered: #NM, #MF, #XM, #UD, #GP, #AC.
// SDM Vol. 3, "System Programming for Instruction Set Extensions", tables of CR0.EM, MP, TS.
#include "guest.h"

u8 area[1024] __asm__("area") __attribute__((aligned(64)));
u32 mxcsr __asm__("mxcsr"), control __asm__("control");
static const u32 one[4] __asm__("one") __attribute__((aligned(16), used)) = {0x3f800000, 0x3f800000, 0, 0};
static const u32 zero[4] __asm__("zero") __attribute__((aligned(16), used)) = {0};

SNIPPET(fld1_, "fld1\nfstp %st(0)\nmov $1,%eax\nret");
SNIPPET(fwait_, "fwait\nmov $2,%eax\nret");
SNIPPET(fninit_, "fninit\nmov $3,%eax\nret");
SNIPPET(fnstsw_, "fnstsw %ax\nmovzwl %ax,%eax\nret");
SNIPPET(mmx_, "movd %eax,%mm0\nemms\nmov $4,%eax\nret");
SNIPPET(sse_, "movaps one,%xmm0\nmov $5,%eax\nret");
SNIPPET(sse2_, "movd %eax,%xmm0\nmov $6,%eax\nret");
SNIPPET(fxsave_, "fxsave area\nmov $7,%eax\nret");
SNIPPET(ldmxcsr_, "ldmxcsr mxcsr\nmov $8,%eax\nret");
SNIPPET(prefetch_, "prefetchnta area\nmov $9,%eax\nret");
SNIPPET(sfence_, "sfence\nmov $10,%eax\nret");
SNIPPET(movnti_, "movnti %eax,area\nmov $11,%eax\nret");
SNIPPET(pause_, "pause\nmov $12,%eax\nret");
SNIPPET(crc32_, "crc32b %al,%ecx\nmov $13,%eax\nret");
SNIPPET(clflush_, "clflush area\nmov $14,%eax\nret");
SNIPPET(popcnt_, "popcnt %ecx,%eax\nret");
SNIPPET(fisttp_, "fld1\nfisttpl area\nmov $15,%eax\nret");
SNIPPET(cvtpi, "cvtpi2ps area,%xmm0\nemms\nmov $16,%eax\nret");

static void matrix(void) {
  static const struct { const char *name; code *fn; } cases[] = {
    {"fld1", fld1_}, {"fwait", fwait_}, {"fninit", fninit_}, {"fnstsw", fnstsw_}, {"mmx", mmx_}, {"sse", sse_},
    {"sse2", sse2_}, {"fxsave", fxsave_}, {"ldmxcsr", ldmxcsr_}, {"prefetch", prefetch_}, {"sfence", sfence_},
    {"movnti", movnti_}, {"pause", pause_}, {"crc32", crc32_}, {"clflush", clflush_}, {"popcnt", popcnt_},
    {"fisttp", fisttp_}, {"cvtpi2ps", cvtpi}};
  mxcsr = 0x1f80;
  for (unsigned n = 0; n < sizeof cases / sizeof *cases; ++n) {
    print("matrix.%s:", cases[n].name);
    for (unsigned mode = 0; mode < 16; ++mode) {
      FLAT("clts; fninit");
      set_cr4((get_cr4() & ~(word)CR4_OSFXSR) | (mode & 8 ? CR4_OSFXSR : 0));
      set_cr0((get_cr0() & ~(word)0xe) | (mode & 1 ? CR0_MP : 0) | (mode & 2 ? CR0_EM : 0) | (mode & 4 ? CR0_TS : 0));
      attempt(cases[n].fn);
      set_cr0(get_cr0() & ~(word)0xe);
      if (last.vector < 0) print(" ok"); else print(" v%u", last.vector);
    }
    print("\n");
  }
  set_cr0((get_cr0() & ~(word)0xe) | CR0_MP);
  set_cr4(get_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT);
  FLAT("fninit");
}

// x87: the exception is reported by the next waiting instruction.
#define PENDING "fninit\nmovl $0x37b,control\nfldcw control\nfld1\nfldz\nfdivrp\n"  // 1/0, unmasked
SNIPPET(mf_fld, PENDING "nop\nfld1\nmov $1,%eax\nret");
SNIPPET(mf_fwait, PENDING "fwait\nmov $2,%eax\nret");
SNIPPET(mf_fnstsw, PENDING "fnstsw %ax\nmovzwl %ax,%eax\nfnclex\nfninit\nret");
SNIPPET(mf_fnclex, PENDING "fnclex\nfld1\nfninit\nmov $3,%eax\nret");
SNIPPET(mf_fninit, PENDING "fninit\nfld1\nfninit\nmov $4,%eax\nret");
SNIPPET(mf_mmx, PENDING "movd %eax,%mm0\nmov $5,%eax\nret");
SNIPPET(mf_emms, PENDING "emms\nmov $6,%eax\nret");
SNIPPET(mf_fxsave, PENDING "fxsave area\nfninit\nmov $7,%eax\nret");
SNIPPET(mf_fsave, PENDING "fnsave area\nmov $8,%eax\nret");
SNIPPET(mf_sse, PENDING "movaps one,%xmm0\nfninit\nmov $9,%eax\nret");
SNIPPET(mf_cvt, PENDING "cvtpi2ps %mm0,%xmm0\nmov $10,%eax\nret");
SNIPPET(mf_memory, PENDING "fld 0xfffffff0\nmov $11,%eax\nret");
SNIPPET(mf_frstor, "fninit\nfnsave area\nmovw $0x37e,area\nmovw $0x81,area+4\nfrstor area\nfld1\nmov $12,%eax\nret");
SNIPPET(mf_fldcw, "fninit\nfld1\nfldz\nfdivrp\nmovl $0x37b,control\nfldcw control\nfnstsw %ax\nmovzwl %ax,%eax\n"
        "fld1\nret");
SNIPPET(mf_stack, "fninit\nmovl $0x37e,control\nfldcw control\nfstp %st(0)\nfnstsw %ax\nfwait\nret");
SNIPPET(mf_twice, PENDING "fwait\nret");

// SSE: the faulting instruction itself.
#define UNMASK "movl $0x1d80,mxcsr\nldmxcsr mxcsr\nmovaps one,%xmm0\nmovaps zero,%xmm1\n"  // divide by zero
SNIPPET(xm_divps, UNMASK "divps %xmm1,%xmm0\nmov $1,%eax\nret");
SNIPPET(xm_divss, UNMASK "divss %xmm1,%xmm0\nmov $1,%eax\nret");
SNIPPET(xm_memory, UNMASK "divps zero,%xmm0\nmov $1,%eax\nret");
SNIPPET(xm_sqrt, "movl $0x1f00,mxcsr\nldmxcsr mxcsr\nmovl $0xbf800000,area\nmovss area,%xmm0\nsqrtss %xmm0,%xmm0\nret");
SNIPPET(xm_convert, "movl $0x1f00,mxcsr\nldmxcsr mxcsr\nmovl $0x7f800000,area\ncvtss2si area,%eax\nret");
SNIPPET(xm_inexact, "movl $0xf80,mxcsr\nldmxcsr mxcsr\nmovl $0x40400000,area\nmovss one,%xmm0\ndivss area,%xmm0\nmov $5,%eax\nret");
SNIPPET(ldmxcsr_bad, "movl $0x10000,mxcsr\nldmxcsr mxcsr\nret");
SNIPPET(movaps_bad, "movaps area+4,%xmm0\nret");
SNIPPET(movups_, "movups area+4,%xmm0\nmov $6,%eax\nret");
SNIPPET(addps_bad, "addps area+4,%xmm0\nret");
SNIPPET(fxsave_bad, "fxsave area+8\nret");
SNIPPET(fxrstor_bad, "fxsave area\nmovl $0x10000,area+24\nfxrstor area\nret");
SNIPPET(movntps_bad, "movntps %xmm0,area+8\nret");
SNIPPET(read_misaligned, "mov area+1,%eax\nmov $7,%eax\nret");
SNIPPET(read_word, "mov area+1,%ax\nmov $7,%eax\nret");
SNIPPET(fld_misaligned, "fldl area+4\nfstp %st(0)\nmov $7,%eax\nret");
SNIPPET(movups_misaligned, "movups area+1,%xmm0\nmov $7,%eax\nret");
SNIPPET(push_misaligned, "mov %esp,%edx\ndec %esp\npush %eax\nmov %edx,%esp\nmov $7,%eax\nret");
SNIPPET(movq_misaligned, "movq area+4,%mm0\nemms\nmov $7,%eax\nret");
SNIPPET(cmpxchg8b_misaligned, "cmpxchg8b area+4\nmov $7,%eax\nret");

void guest(void) {
  matrix();
  static const struct { const char *name; code *fn; } mf[] = {
    {"fld", mf_fld}, {"fwait", mf_fwait}, {"fnstsw", mf_fnstsw}, {"fnclex", mf_fnclex}, {"fninit", mf_fninit},
    {"mmx", mf_mmx}, {"emms", mf_emms}, {"fxsave", mf_fxsave}, {"fnsave", mf_fsave}, {"sse", mf_sse},
    {"cvtpi2ps", mf_cvt}, {"before-page", mf_memory}, {"frstor", mf_frstor}, {"fldcw", mf_fldcw},
    {"stack", mf_stack}, {"again", mf_twice}};
  for (unsigned n = 0; n < sizeof mf / sizeof *mf; ++n) {
    print("mf."), report(mf[n].name, mf[n].fn);
    FLAT("fninit");
    print("mf.user."), report_user(mf[n].name, mf[n].fn);
    FLAT("fninit");
  }
  static const struct { const char *name; code *fn; } xm[] = {
    {"divps", xm_divps}, {"divss", xm_divss}, {"memory", xm_memory}, {"sqrt", xm_sqrt}, {"convert", xm_convert},
    {"inexact", xm_inexact}};
  for (unsigned n = 0; n < sizeof xm / sizeof *xm; ++n) {
    print("xm."), report(xm[n].name, xm[n].fn);
    FLAT("stmxcsr mxcsr");
    print("xm.%s.mxcsr: %x\n", xm[n].name, (word)mxcsr);
    set_cr4(get_cr4() & ~(word)CR4_OSXMMEXCPT);
    print("xm.no-osxmmexcpt."), report(xm[n].name, xm[n].fn);
    set_cr4(get_cr4() | CR4_OSXMMEXCPT);
  }
  mxcsr = 0x1f80;
  FLAT("ldmxcsr mxcsr");
  report("sse.ldmxcsr-reserved", ldmxcsr_bad), report("sse.movaps", movaps_bad), report("sse.movups", movups_);
  report("sse.addps", addps_bad), report("sse.fxsave", fxsave_bad), report("sse.fxrstor", fxrstor_bad);
  report("sse.movntps", movntps_bad);
  static const struct { const char *name; code *fn; } ac[] = {
    {"dword", read_misaligned}, {"word", read_word}, {"fld", fld_misaligned}, {"movups", movups_misaligned},
    {"push", push_misaligned}, {"movq", movq_misaligned}, {"cmpxchg8b", cmpxchg8b_misaligned}, {"movaps", movaps_bad}};
  for (unsigned mode = 0; mode < 3; ++mode) {
    static const char *const modes[] = {"am-ac", "am", "ac"};
    set_cr0((get_cr0() & ~(word)CR0_AM) | (mode < 2 ? CR0_AM : 0));
    user_flags = mode == 1 ? 2 : F_AC | 2;
    for (unsigned n = 0; n < sizeof ac / sizeof *ac; ++n)
      print("ac.%s.", modes[mode]), report_user(ac[n].name, ac[n].fn);
  }
}

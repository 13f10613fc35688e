// All of user space on the small kernel: it says that it is there, visits every CPU, sleeps a
// moment, and then gives each line that it reads back in capitals.
//
// It has no C library, and calls the kernel by INT 0x80, at one place, the symbol system_call: a KVM
// that emulates kernel code (kvm_pvm) was seen to take SYSCALL to the kernel's entry without leaving
// ring 3, and INT of ring 3 to #UD, which at least says where it was. Numbers and structures are
// therefore the 32-bit ABI's (Linux arch/x86/entry/syscalls/syscall_32.tbl), and whatever a call
// points to is static, below 4 GiB.
enum {
  kRead = 3,
  kWrite = 4,
  kSchedSetaffinity = 241,
  kSchedGetaffinity = 242,
  kGetcpu = 318,
  kClockNanosleepTime64 = 407,
};
enum { kMonotonic = 1, kMaxCpus = 8 };

__attribute__((noinline)) static long call(long number, const void *a, const void *b, const void *c,
                                           const void *d) {
  long result;
  __asm__ volatile(".globl system_call\nsystem_call: int $0x80"
                   : "=a"(result)
                   : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d)
                   : "memory", "r8", "r9", "r10", "r11");
  return result;
}

static const void *number(long value) { return (const void *)value; }

static void print(const char *text) {
  long length = 0;
  while (text[length] != 0) length++;
  call(kWrite, number(1), text, number(length), 0);
}

static void visit_cpus(void) {
  static unsigned all, one, here;
  static char line[] = "on CPU 0\n";
  call(kSchedGetaffinity, 0, number(sizeof all), &all, 0);
  for (unsigned cpu = 0; cpu < kMaxCpus; cpu++) {
    one = 1u << cpu;
    if ((all & one) == 0 || call(kSchedSetaffinity, 0, number(sizeof one), &one, 0) != 0) continue;
    call(kGetcpu, &here, 0, 0, 0);
    line[7] = (char)('0' + here);
    print(line);
  }
}

static void nap(void) {
  static const struct {
    long long seconds, nanoseconds;
  } moment = {0, 20 * 1000 * 1000};
  if (call(kClockNanosleepTime64, number(kMonotonic), 0, &moment, 0) == 0) print("slept\n");
}

static void answer_lines(void) {
  static char line[256];
  for (;;) {
    print("guest# ");
    const long length = call(kRead, 0, line, number(sizeof line), 0);
    for (long i = 0; i < length; i++)
      if (line[i] >= 'a' && line[i] <= 'z') line[i] = (char)(line[i] - 'a' + 'A');
    call(kWrite, number(1), line, number(length), 0);
  }
}

void _start(void) {
  print("xhyved: user space\n");
  visit_cpus();
  nap();
  answer_lines();
}

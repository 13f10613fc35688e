// One static program that holds all benchmarks. It is the guest's /init and, unchanged, a process of
// the host. It says "bench: ready" and then obeys lines: the name of a program runs it and answers
// "bench: done NAME CHECKSUM MICROSECONDS"; "off" ends. Between two lines it waits and costs nothing,
// so whoever types can read the CPU time before and after.
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "programs.h"

static const struct program kPrograms[] = {
    {"sieve", sieve},
    {"sha256", sha256},
    {"crc", crc},
    {"quicksort", quicksort},
    {"recursion", recursion},
    {"bytecode", bytecode},
    {"indirect", indirect},
    {"inflate", inflate},
    {"memcpy", copy_loop},
    {"rep-movs", rep_movs},
    {"rep-stos", rep_stos},
    {"strings", strings},
    {"nbody", nbody},
    {"matrix", matrix},
    {"mandelbrot", mandelbrot},
    {"fft", fft},
    {"x87", x87},
    {"getpid", getpid_loop},
    {"fork-exec", fork_exec},
    {"page-faults", page_faults},
    {"mprotect", mprotect_loop},
    {"signals", signals},
    {"pipe", pipe_pingpong},
    {"self-modifying", self_modifying},
    {"run-once", run_once},
    {"one-busy", one_busy},
    {"two-busy", two_busy},
};

char *program_path;

static uint64_t microseconds(int who) {
  struct rusage usage;
  getrusage(who, &usage);
  const struct timeval *user = &usage.ru_utime, *system = &usage.ru_stime;
  return (uint64_t)(user->tv_sec + system->tv_sec) * 1000000 + user->tv_usec + system->tv_usec;
}

static uint64_t cpu_time(void) {
  return microseconds(RUSAGE_SELF) + microseconds(RUSAGE_CHILDREN);
}

static void run(const char *name) {
  for (size_t i = 0; i < sizeof kPrograms / sizeof *kPrograms; ++i) {
    if (strcmp(kPrograms[i].name, name) != 0) continue;
    const uint64_t before = cpu_time();
    const uint64_t checksum = kPrograms[i].run();
    printf("bench: done %s %016llx %llu\n", name, (unsigned long long)checksum,
           (unsigned long long)(cpu_time() - before));
    return;
  }
  printf("bench: no program %s\n", name);
}

// Without echo, so that nothing but answers comes back.
static void quiet_console(void) {
  struct termios settings;
  if (tcgetattr(0, &settings) != 0) return;
  settings.c_lflag &= ~(tcflag_t)ECHO;
  tcsetattr(0, TCSANOW, &settings);
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "--exit") == 0) _exit(0);
  program_path = argv[0];
  quiet_console();
  setvbuf(stdout, NULL, _IOLBF, 0);
  printf("bench: ready\n");
  char line[64];
  while (fgets(line, sizeof line, stdin) != NULL) {
    line[strcspn(line, "\r\n")] = 0;
    if (strcmp(line, "off") == 0) break;
    if (line[0] != 0) run(line);
  }
  if (getpid() == 1) reboot(RB_POWER_OFF);
  return 0;
}

// Programs that are the kernel's work, and two busy processors.
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "programs.h"

uint64_t getpid_loop(void) {
  enum { kCalls = 500000 };
  const long mine = syscall(SYS_getpid);
  uint64_t same = 0;
  for (int i = 0; i < kCalls; ++i) same += syscall(SYS_getpid) == mine;
  return same;
}

// The status of a child that ran to its end; children end by _exit().
static uint64_t status_of(pid_t child) {
  int status = -1;
  if (child < 0 || waitpid(child, &status, 0) != child) abort();
  return (uint64_t)status;
}

uint64_t fork_exec(void) {
  enum { kChildren = 150 };
  char *const words[] = {program_path, "--exit", NULL};
  uint64_t statuses = 0;
  for (int i = 0; i < kChildren; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      execv(program_path, words);
      _exit(1);
    }
    statuses += status_of(child);
  }
  return statuses;
}

static uint8_t *map_pages(size_t bytes, int protection) {
  void *const at = mmap(NULL, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) abort();
  // Small pages everywhere, whatever the kernel's default.
  madvise(at, bytes, MADV_NOHUGEPAGE);
  return at;
}

uint64_t page_faults(void) {
  enum { kPages = 8192, kPage = 4096, kRounds = 6 };
  uint64_t sum = 0;
  for (int round = 0; round < kRounds; ++round) {
    uint8_t *const at = map_pages((size_t)kPages * kPage, PROT_READ | PROT_WRITE);
    for (int i = 0; i < kPages; ++i) at[(size_t)i * kPage] = (uint8_t)(i + 1);
    for (int i = 0; i < kPages; ++i) sum += at[(size_t)i * kPage];
    munmap(at, (size_t)kPages * kPage);
  }
  return sum;
}

uint64_t mprotect_loop(void) {
  enum { kPage = 4096, kRounds = 60000 };
  uint8_t *const at = map_pages(4 * kPage, PROT_READ | PROT_WRITE);
  uint64_t sum = 0;
  for (int i = 0; i < kRounds; ++i) {
    if (mprotect(at, 2 * kPage, PROT_READ) != 0) abort();
    sum += at[0];
    if (mprotect(at, 2 * kPage, PROT_READ | PROT_WRITE) != 0) abort();
    at[0] = (uint8_t)i;
  }
  munmap(at, 4 * kPage);
  return sum;
}

static volatile uint64_t caught;
static void catch(int number) { caught += (uint64_t)number; }

uint64_t signals(void) {
  enum { kSignals = 100000 };
  struct sigaction action = {.sa_handler = catch}, before;
  sigaction(SIGUSR1, &action, &before);
  caught = 0;
  const pid_t mine = getpid();
  for (int i = 0; i < kSignals; ++i) kill(mine, SIGUSR1);
  sigaction(SIGUSR1, &before, NULL);
  return caught;
}

uint64_t pipe_pingpong(void) {
  enum { kTurns = 30000 };
  int there[2], back[2];
  if (pipe(there) != 0 || pipe(back) != 0) abort();
  const pid_t child = fork();
  if (child == 0) {
    uint8_t byte;
    for (int i = 0; i < kTurns; ++i) {
      if (read(there[0], &byte, 1) != 1) _exit(1);
      ++byte;
      if (write(back[1], &byte, 1) != 1) _exit(1);
    }
    _exit(0);
  }
  uint64_t sum = 0;
  for (int i = 0; i < kTurns; ++i) {
    uint8_t byte = (uint8_t)i;
    if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1) abort();
    sum += byte;
  }
  for (int i = 0; i < 2; ++i) close(there[i]), close(back[i]);
  return sum + status_of(child);
}

// Compute, memory and branches, with nothing shared. A guest's init has its children on a processor
// each; on the host they go where there is room, as a VM's threads do.
static void busy(int processor) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET((size_t)processor, &set);
  if (getppid() == 1) sched_setaffinity(0, sizeof set, &set);
  const uint64_t sum = quicksort() ^ bytecode() ^ sha256();
  _exit(sum == 0);
}

static uint64_t run_busy(int processors) {
  pid_t children[2];
  for (int i = 0; i < processors; ++i)
    if ((children[i] = fork()) == 0) busy(i);
  uint64_t statuses = 0;
  for (int i = 0; i < processors; ++i) statuses += status_of(children[i]);
  return statuses;
}

uint64_t one_busy(void) { return run_busy(1); }
uint64_t two_busy(void) { return run_busy(2); }

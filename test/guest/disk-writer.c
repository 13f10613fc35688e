// Writes to /dev/vda past the guest's page cache from several processes at once, without end, and
// says of each how far the disk has acknowledged. Process p has blocks [p * BLOCKS, …) of 4 KiB;
// its n-th write is to block n * STEP % BLOCKS of them and is full of the number n.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { kProcesses = 8, kBlocks = 1024, kStep = 389, kBlock = 4096, kReport = 16 };

static void run(int process, int fd) {
  uint32_t *words;
  if (posix_memalign((void **)&words, kBlock, kBlock) != 0) _exit(2);
  for (uint32_t n = 1;; n++) {
    for (unsigned i = 0; i < kBlock / 4; i++) words[i] = n;
    off_t block = (off_t)process * kBlocks + (off_t)((uint64_t)n * kStep % kBlocks);
    if (pwrite(fd, words, kBlock, block * kBlock) != kBlock) _exit(3);
    if (n % 64 == 0 && process == 0) fdatasync(fd);
    if (n % kReport != 0) continue;
    char line[64];
    int length = snprintf(line, sizeof line, "ack %d %u\n", process, n);
    if (write(1, line, (size_t)length) != length) _exit(4);
  }
}

int main(void) {
  int fd = open("/dev/vda", O_RDWR | O_DIRECT);
  if (fd < 0) return 1;
  for (int p = 0; p < kProcesses; p++)
    if (fork() == 0) run(p, fd);
  for (;;) pause();
}

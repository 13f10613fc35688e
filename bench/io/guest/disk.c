#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "io.h"

enum { kBlock = 4096, kMostDepth = 64 };

static int open_disk(const char *disk, int mode) {
  char path[64];
  snprintf(path, sizeof path, "/dev/%s", disk);
  const int fd = open(path, mode | O_DIRECT);
  if (fd < 0) fail(path);
  return fd;
}

static void *aligned(size_t size) {
  void *memory = aligned_alloc(kBlock, size);
  if (memory == NULL) fail("memory");
  memset(memory, 0x5a, size);
  return memory;
}

uint64_t disk_sequential(const char *disk, int writing, uint64_t offset, uint64_t length, unsigned passes) {
  const int fd = open_disk(disk, writing ? O_WRONLY : O_RDONLY);
  char *buffer = aligned(kMiB);
  const uint64_t total = length * passes;
  for (uint64_t step = 0; step < total; step += kMiB) {
    const uint64_t at = offset + step % length;
    const ssize_t done = writing ? pwrite(fd, buffer, kMiB, (off_t)at) : pread(fd, buffer, kMiB, (off_t)at);
    if (done != kMiB) fail(writing ? "write" : "read");
  }
  if (writing && fdatasync(fd) != 0) fail("sync");
  free(buffer);
  close(fd);
  return total;
}

static uint64_t next_random(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return *state >> 33;
}

uint64_t disk_random(const char *disk, unsigned depth, uint64_t offset, uint64_t length, uint64_t operations) {
  if (depth > kMostDepth) fail("depth");
  const int fd = open_disk(disk, O_RDONLY);
  char *buffers = aligned((size_t)depth * kBlock);
  struct iocb requests[kMostDepth];
  struct io_event events[kMostDepth];
  aio_context_t context = 0;
  if (syscall(SYS_io_setup, kMostDepth, &context) != 0) fail("io_setup");
  uint64_t seed = 1, begun = 0, ended = 0;
  unsigned idle[kMostDepth], idle_count = depth;
  for (unsigned i = 0; i < depth; i++) idle[i] = i;
  while (ended < operations) {
    struct iocb *batch[kMostDepth];
    long count = 0;
    for (; idle_count > 0 && begun < operations; begun++) {
      const unsigned slot = idle[--idle_count];
      requests[slot] = (struct iocb){.aio_data = slot,
                                     .aio_lio_opcode = IOCB_CMD_PREAD,
                                     .aio_fildes = (uint32_t)fd,
                                     .aio_buf = (uintptr_t)(buffers + (size_t)slot * kBlock),
                                     .aio_nbytes = kBlock};
      requests[slot].aio_offset = (int64_t)(offset + next_random(&seed) % (length / kBlock) * kBlock);
      batch[count++] = &requests[slot];
    }
    if (count > 0 && syscall(SYS_io_submit, context, count, batch) != count) fail("io_submit");
    const long got = syscall(SYS_io_getevents, context, 1, (long)depth, events, NULL);
    if (got < 1) fail("io_getevents");
    for (long i = 0; i < got; i++) {
      if (events[i].res != kBlock) fail("random read");
      idle[idle_count++] = (unsigned)events[i].data;
    }
    ended += (uint64_t)got;
  }
  syscall(SYS_io_destroy, context);
  free(buffers);
  close(fd);
  return operations;
}

// The guest's only program. It says "bench: ready", obeys lines and answers each with
// "bench: done AMOUNT NANOSECONDS", by the guest's own clock; the bench goes by the host's. Numbers of bytes are in MiB, but for serial
// ports (KiB). On the host, `--serve` makes it the other end of the network's tests.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "io.h"

void fail(const char *what) {
  printf("bench: failed: ");
  fflush(stdout);
  perror(what);
  for (;;) pause(); // it may be the first process of its system
}

static struct termios plain(int fd, tcflag_t off) {
  struct termios settings;
  if (tcgetattr(fd, &settings) != 0) fail("terminal");
  settings.c_lflag &= ~off;
  tcsetattr(fd, TCSANOW, &settings);
  return settings;
}

uint64_t serial_write(const char *port, uint64_t length) {
  static char lines[4096];
  for (size_t i = 0; i < sizeof lines; i++) lines[i] = i % 64 == 63 ? '\n' : 'x';
  char path[64];
  snprintf(path, sizeof path, "/dev/%s", port);
  const int fd = open(path, O_WRONLY | O_NOCTTY);
  if (fd < 0) fail(path);
  struct termios settings = plain(fd, ECHO);
  settings.c_oflag &= ~(tcflag_t)OPOST;
  cfsetospeed(&settings, B115200);
  tcsetattr(fd, TCSANOW, &settings);
  for (uint64_t done = 0; done < length; done += sizeof lines)
    if (write(fd, lines, sizeof lines) != sizeof lines) fail("serial");
  tcdrain(fd);
  close(fd);
  return length;
}

static uint64_t obey(const char *line) {
  char what[16] = "", where[32] = "";
  unsigned long long first = 0, second = 0;
  unsigned times = 1; // passes, or operations
  sscanf(line, "%15s %31s %llu %llu %u", what, where, &first, &second, &times);
  const uint64_t offset = first * kMiB, length = second * kMiB;
  if (strcmp(what, "read") == 0) return disk_sequential(where, 0, offset, length, times);
  if (strcmp(what, "write") == 0) return disk_sequential(where, 1, offset, length, times);
  if (strcmp(what, "random1") == 0) return disk_random(where, 1, offset, length, times);
  if (strcmp(what, "random32") == 0) return disk_random(where, 32, offset, length, times);
  if (strcmp(what, "serial") == 0) return serial_write(where, first * 1024);
  if (strcmp(what, "receive") == 0) return net_receive(where, first * kMiB);
  if (strcmp(what, "send") == 0) return net_send(where, first * kMiB);
  if (strcmp(what, "echo") == 0) return net_round_trips(where, first);
  fail(line);
}

static uint64_t nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "--serve") == 0) net_serve();
  plain(0, ECHO);
  setvbuf(stdout, NULL, _IOLBF, 0);
  printf("bench: ready\n");
  char line[96];
  while (fgets(line, sizeof line, stdin) != NULL) {
    line[strcspn(line, "\r\n")] = 0;
    if (line[0] == 0) continue;
    const uint64_t began = nanoseconds();
    const uint64_t amount = obey(line);
    printf("bench: done %llu %llu\n", (unsigned long long)amount,
           (unsigned long long)(nanoseconds() - began));
  }
  fail("the console ended");
}

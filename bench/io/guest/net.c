// A connection begins with a byte that says what is wanted: 's' to be sent bytes, 'r' that they are
// received, 'e' that each comes back.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io.h"

enum { kChunk = 256 * 1024 };
static char chunk[kChunk];

static void serve(int client) {
  const int yes = 1;
  setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  char wish = 0;
  if (read(client, &wish, 1) != 1) return;
  if (wish == 's')
    while (write(client, chunk, kChunk) > 0) {}
  if (wish == 'r') {
    while (read(client, chunk, kChunk) > 0) {}
    if (write(client, "k", 1) != 1) return;
  }
  char byte;
  if (wish == 'e')
    while (read(client, &byte, 1) == 1 && write(client, &byte, 1) == 1) {}
}

void net_serve(void) {
  signal(SIGPIPE, SIG_IGN);
  const int yes = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  const struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(kPort)};
  if (bind(listener, (const struct sockaddr *)&any, sizeof any) != 0) fail("bind");
  if (listen(listener, 4) != 0) fail("listen");
  puts("bench: serving");
  fflush(stdout);
  for (;;) {
    const int client = accept(listener, NULL, NULL);
    if (client < 0) fail("accept");
    serve(client);
    close(client);
  }
}

static int reach(const char *host, char wish) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
  struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(kPort)};
  if (inet_pton(AF_INET, host, &there.sin_addr) != 1) fail("address");
  if (connect(fd, (const struct sockaddr *)&there, sizeof there) != 0) fail("connect");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  if (write(fd, &wish, 1) != 1) fail("write");
  return fd;
}

uint64_t net_receive(const char *host, uint64_t length) {
  const int fd = reach(host, 's');
  uint64_t done = 0;
  while (done < length) {
    const ssize_t got = read(fd, chunk, kChunk);
    if (got <= 0) fail("receive");
    done += (uint64_t)got;
  }
  close(fd);
  return done;
}

uint64_t net_send(const char *host, uint64_t length) {
  const int fd = reach(host, 'r');
  uint64_t done = 0;
  while (done < length) {
    const ssize_t sent = write(fd, chunk, kChunk);
    if (sent <= 0) fail("send");
    done += (uint64_t)sent;
  }
  shutdown(fd, SHUT_WR);
  char all;
  if (read(fd, &all, 1) != 1) fail("the other side did not receive it all");
  close(fd);
  return done;
}

uint64_t net_round_trips(const char *host, uint64_t count) {
  const int fd = reach(host, 'e');
  char byte = 0;
  for (uint64_t i = 0; i < count; i++)
    if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1) fail("round trip");
  close(fd);
  return count;
}

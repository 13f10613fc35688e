// For guests of tests: one AF_VSOCK stream between this program's standard input and output and
// the host or whoever connects. `vsock connect PORT`, `vsock listen PORT`.
#include <errno.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void say(const char *text) { (void)!write(2, text, strlen(text)); }

static int fail(const char *what) {
  int error = errno;
  say(what);
  say(error == ECONNRESET ? ": reset\n" : error == ECONNREFUSED ? ": refused\n" : ": failed\n");
  return 1;
}

static int open_stream(int listening, unsigned port) {
  struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_port = port};
  address.svm_cid = listening ? VMADDR_CID_ANY : VMADDR_CID_HOST;
  int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
  if (fd < 0) return -1;
  if (!listening) return connect(fd, (struct sockaddr *)&address, sizeof(address)) ? -1 : fd;
  if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 1)) return -1;
  say("vsock: listening\n");
  return accept(fd, NULL, NULL);
}

static int copy(int from, int to) {
  static char bytes[65536];
  ssize_t got = read(from, bytes, sizeof(bytes));
  for (ssize_t done = 0; done < got;) {
    ssize_t part = write(to, bytes + done, got - done);
    if (part < 0) return -1;
    done += part;
  }
  return got > 0 ? 1 : (int)got;
}

int main(int count, char **words) {
  if (count != 3) return fail("usage: vsock connect|listen PORT");
  int fd = open_stream(!strcmp(words[1], "listen"), strtoul(words[2], NULL, 10));
  if (fd < 0) return fail("vsock");
  struct pollfd both[2] = {{.fd = 0, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
  for (;;) {
    if (poll(both, 2, -1) < 0) return fail("poll");
    if (both[0].revents) {
      int more = copy(0, fd);
      if (more < 0) return fail("send");
      if (more == 0) shutdown(fd, SHUT_WR), both[0].fd = -1;
    }
    if (both[1].revents) {
      int more = copy(fd, 1);
      if (more < 0) return fail("receive");
      if (more == 0) return 0;
    }
  }
}

// What the guest of the I/O bench measures. Each returns how much it did, in bytes or in operations; a failure ends the program.
#pragma once
#include <stdint.h>

enum { kMiB = 1 << 20, kPort = 5000 };

_Noreturn void fail(const char *what);

// Past the guest's page cache, in requests of 1 MiB, one at a time; `passes` times over the same bytes.
uint64_t disk_sequential(const char *disk, int writing, uint64_t offset, uint64_t length, unsigned passes);
// Reads of 4 KiB anywhere in [offset, offset + length), `depth` of them always under way, `operations` in all.
uint64_t disk_random(const char *disk, unsigned depth, uint64_t offset, uint64_t length, uint64_t operations);

// On the host: serves the three below to anybody who connects, without end.
_Noreturn void net_serve(void);
uint64_t net_receive(const char *host, uint64_t length);
uint64_t net_send(const char *host, uint64_t length);
// One byte there and back, so often.
uint64_t net_round_trips(const char *host, uint64_t count);

// Lines of text, to a UART whose transmitter is waited for.
uint64_t serial_write(const char *port, uint64_t length);

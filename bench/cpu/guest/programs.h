// The benchmark programs: each does a fixed amount of work and returns a checksum of it, which must
// be the same wherever it runs.
#pragma once
#include <stddef.h>
#include <stdint.h>

typedef uint64_t program_function(void);

struct program {
  const char *name;
  program_function *run;
};

// How the program was started, for those that start it again.
extern char *program_path;

program_function sieve, sha256, crc, quicksort, recursion, bytecode, indirect, inflate, copy_loop,
    rep_movs, rep_stos, strings;
program_function nbody, matrix, mandelbrot, fft, x87;
program_function getpid_loop, fork_exec, page_faults, mprotect_loop, signals, pipe_pingpong;
program_function self_modifying, run_once;
program_function one_busy, two_busy;

// A generator of pseudo-random numbers (xorshift64*, Vigna 2016).
static inline uint64_t next_random(uint64_t *state) {
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return *state * 0x2545f4914f6cdd1dull;
}

// Order matters in it.
static inline uint64_t mix(uint64_t sum, uint64_t value) {
  return (sum ^ value) * 0x100000001b3ull;
}

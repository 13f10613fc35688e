// Programs that write code and run it.
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "programs.h"

static uint8_t *code_pages(size_t bytes) {
  void *const at = mmap(NULL, bytes, PROT_READ | PROT_WRITE | PROT_EXEC,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) abort();
  return at;
}

typedef uint32_t code_function(uint32_t);

static code_function *as_function(uint8_t *at) {
  code_function *function;
  memcpy(&function, &at, sizeof function);
  return function;
}

// One immediate of a function is changed before every call.
uint64_t self_modifying(void) {
  enum { kCalls = 100000 };
  static const uint8_t kCode[] = {
      0xb8, 0, 0, 0, 0,  // mov eax, imm32
      0x01, 0xf8,        // add eax, edi
      0xc1, 0xc0, 0x05,  // rol eax, 5
      0xc3,              // ret
  };
  uint8_t *const at = code_pages(4096);
  memcpy(at, kCode, sizeof kCode);
  uint32_t value = 1;
  for (uint32_t i = 0; i < kCalls; ++i) {
    memcpy(at + 1, &i, sizeof i);
    value = as_function(at)(value);
  }
  munmap(at, 4096);
  return value;
}

// A small function with constants of its own, as a compiler of regular expressions or queries makes
// them.
static uint8_t *write_function(uint8_t *at, uint64_t *seed) {
  *at++ = 0x89, *at++ = 0xf8;  // mov eax, edi
  for (int i = 0; i < 6; ++i) {
    const uint32_t constant = (uint32_t)next_random(seed);
    *at++ = i % 2 == 0 ? 0x05 : 0x35;  // add, xor eax, imm32
    memcpy(at, &constant, 4);
    at += 4;
    *at++ = 0xc1, *at++ = 0xc0, *at++ = (uint8_t)(constant & 15) + 1;  // rol eax, imm8
  }
  *at++ = 0xc3;
  return at;
}

// A buffer is filled with functions, each is called once, and the buffer is filled anew.
uint64_t run_once(void) {
  enum { kBytes = 1 << 16, kRoom = 64, kRounds = 40 };
  uint8_t *const buffer = code_pages(kBytes);
  uint64_t seed = 77;
  uint32_t value = 1;
  for (int round = 0; round < kRounds; ++round) {
    for (uint8_t *at = buffer; at + kRoom <= buffer + kBytes; at += kRoom)
      write_function(at, &seed);
    for (uint8_t *at = buffer; at + kRoom <= buffer + kBytes; at += kRoom)
      value = as_function(at)(value);
  }
  munmap(buffer, kBytes);
  return value;
}

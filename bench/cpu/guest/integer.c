// Integer programs.
#include <stdlib.h>

#include "programs.h"

uint64_t sieve(void) {
  enum { kLimit = 2000000, kRounds = 12 };
  static uint8_t composite[kLimit];
  uint64_t count = 0;
  for (int round = 0; round < kRounds; ++round) {
    for (size_t i = 0; i < kLimit; ++i) composite[i] = 0;
    for (size_t i = 2; i * i < kLimit; ++i)
      if (!composite[i])
        for (size_t j = i * i; j < kLimit; j += i) composite[j] = 1;
    for (size_t i = 2; i < kLimit; ++i) count += !composite[i];
  }
  return count;
}

// ---- SHA-256 (FIPS 180-4); its constants are computed here: the first 32 bits of the fractional
// parts of the cube and square roots of the first primes.

static uint32_t root_fraction(uint32_t prime, int cube) {
  // The largest x with x^2 (or x^3) <= prime * 2^64 (or 2^96), x = root * 2^32.
  uint64_t root = 0;
  for (uint64_t bit = 1ull << 37; bit != 0; bit >>= 1) {
    const unsigned __int128 x = root | bit;
    const unsigned __int128 limit = (unsigned __int128)prime << (cube ? 96 : 64);
    const unsigned __int128 power = cube ? (x * x > limit / x ? limit + 1 : x * x * x) : x * x;
    if (power <= limit) root = (uint64_t)x;
  }
  return (uint32_t)root;
}

static uint32_t rotate(uint32_t x, unsigned by) { return x >> by | x << (32 - by); }

static uint32_t sha_k[64], sha_start[8];

static void sha_constants(void) {
  unsigned found = 0;
  for (uint32_t n = 2; found < 64; ++n) {
    int prime = 1;
    for (uint32_t d = 2; d * d <= n; ++d) prime &= n % d != 0;
    if (!prime) continue;
    if (found < 8) sha_start[found] = root_fraction(n, 0);
    sha_k[found++] = root_fraction(n, 1);
  }
}

static void sha_block(uint32_t state[8], const uint8_t *bytes) {
  uint32_t w[64];
  for (int i = 0; i < 16; ++i)
    w[i] = (uint32_t)bytes[4 * i] << 24 | (uint32_t)bytes[4 * i + 1] << 16 |
           (uint32_t)bytes[4 * i + 2] << 8 | bytes[4 * i + 3];
  for (int i = 16; i < 64; ++i) {
    const uint32_t a = w[i - 15], b = w[i - 2];
    w[i] = w[i - 16] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) + w[i - 7] +
           (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
  }
  uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
  uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
  for (int i = 0; i < 64; ++i) {
    const uint32_t one = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) +
                         ((e & f) ^ (~e & g)) + sha_k[i] + w[i];
    const uint32_t two =
        (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + one, d = c, c = b, b = a, a = one + two;
  }
  state[0] += a, state[1] += b, state[2] += c, state[3] += d;
  state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

uint64_t sha256(void) {
  enum { kBlocks = 250000 };
  uint8_t block[64];
  uint32_t state[8];
  sha_constants();
  for (int i = 0; i < 64; ++i) block[i] = (uint8_t)(i * 7);
  for (int i = 0; i < 8; ++i) state[i] = sha_start[i];
  for (int n = 0; n < kBlocks; ++n) {
    block[n & 63] ^= (uint8_t)n;
    sha_block(state, block);
  }
  return (uint64_t)state[0] << 32 | state[7];
}

uint64_t crc(void) {
  enum { kBytes = 1 << 16, kRounds = 400 };
  static uint32_t table[256];
  static uint8_t data[kBytes];
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t c = i;
    for (int k = 0; k < 8; ++k) c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
    table[i] = c;
  }
  uint64_t seed = 1;
  for (int i = 0; i < kBytes; ++i) data[i] = (uint8_t)next_random(&seed);
  uint32_t sum = ~0u;
  for (int round = 0; round < kRounds; ++round)
    for (int i = 0; i < kBytes; ++i) sum = table[(sum ^ data[i]) & 0xff] ^ sum >> 8;
  return ~sum;
}

static void sort(int32_t *from, int32_t *to) {
  while (to - from > 1) {
    const int32_t pivot = from[(to - from) / 2];
    int32_t *low = from, *high = to - 1;
    while (low <= high) {
      while (*low < pivot) ++low;
      while (*high > pivot) --high;
      if (low > high) break;
      const int32_t t = *low;
      *low++ = *high;
      *high-- = t;
    }
    sort(from, high + 1);
    from = low;
  }
}

uint64_t quicksort(void) {
  enum { kCount = 200000, kRounds = 8 };
  static int32_t values[kCount];
  uint64_t seed = 42, sum = 0;
  for (int round = 0; round < kRounds; ++round) {
    for (int i = 0; i < kCount; ++i) values[i] = (int32_t)next_random(&seed);
    sort(values, values + kCount);
    for (int i = 0; i < kCount; i += 1000) sum = mix(sum, (uint32_t)values[i]);
  }
  return sum;
}

static uint64_t __attribute__((noinline)) fibonacci(uint64_t n) {
  // Kept from being unrolled into itself: calls and returns are what is measured.
  __asm__ volatile("" : "+r"(n));
  if (n < 2) return n;
  uint64_t a = fibonacci(n - 1);
  __asm__ volatile("" : "+r"(a));
  return a + fibonacci(n - 2);
}

uint64_t recursion(void) { return fibonacci(36); }

// ---- a bytecode interpreter -----------------------------------------------------------------------

enum { kPush, kLoad, kStore, kAdd, kSub, kMul, kMod, kLess, kJump, kJumpZero, kXor, kHalt };

// for (i = 0; i < n; ++i) { x = (x * 31 + i) % 1000003; y ^= x; }
static const int32_t kProgram[] = {
    kPush, 0, kStore, 0, kPush, 7, kStore, 1,                                            // 0
    kLoad, 0, kPush, 2000000, kLess, kJumpZero, 40,                                      // 8
    kLoad, 1, kPush, 31, kMul, kLoad, 0, kAdd, kPush, 1000003, kMod, kStore, 1,          // 15
    kLoad, 2, kLoad, 1, kXor, kStore, 2,                                                 // 28
    kJump, 37, kHalt, kHalt, kHalt,                                                      // 35
};
static const int32_t kNext[] = {kLoad, 0, kPush, 1, kAdd, kStore, 0, kJump, 8};

uint64_t bytecode(void) {
  int32_t code[64] = {0};
  for (size_t i = 0; i < sizeof kProgram / sizeof *kProgram; ++i) code[i] = kProgram[i];
  code[36] = 44;  // where the loop goes on
  code[40] = kHalt;
  for (size_t i = 0; i < sizeof kNext / sizeof *kNext; ++i) code[44 + i] = kNext[i];
  int64_t stack[32], variables[4] = {0};
  int64_t *top = stack;
  const int32_t *pc = code;
  for (;;) {
    switch (*pc++) {
      case kPush: *top++ = *pc++; break;
      case kLoad: *top++ = variables[*pc++]; break;
      case kStore: variables[*pc++] = *--top; break;
      case kAdd: --top, top[-1] += *top; break;
      case kSub: --top, top[-1] -= *top; break;
      case kMul: --top, top[-1] *= *top; break;
      case kMod: --top, top[-1] %= *top; break;
      case kXor: --top, top[-1] ^= *top; break;
      case kLess: --top, top[-1] = top[-1] < *top; break;
      case kJump: pc = code + *pc; break;
      case kJumpZero: pc = *--top == 0 ? code + *pc : pc + 1; break;
      default: return (uint64_t)variables[1] << 32 ^ (uint64_t)variables[2];
    }
  }
}

#define FUNCTION(n) \
  static uint64_t __attribute__((noinline)) function##n(uint64_t x) { return x * (2 * n + 3) + n; }
FUNCTION(0) FUNCTION(1) FUNCTION(2) FUNCTION(3) FUNCTION(4) FUNCTION(5) FUNCTION(6) FUNCTION(7)

uint64_t indirect(void) {
  enum { kCalls = 20000000 };
  static uint64_t (*const volatile kTable[8])(uint64_t) = {function0, function1, function2,
                                                           function3, function4, function5,
                                                           function6, function7};
  uint64_t sum = 1;
  for (uint64_t i = 0; i < kCalls; ++i) sum = kTable[(i ^ i >> 3) & 7](sum);
  return sum;
}

// ---- memory and strings ---------------------------------------------------------------------------

enum { kBuffer = 1 << 16 };
static uint8_t from[kBuffer], to[kBuffer];

static uint64_t fill_from(void) {
  uint64_t seed = 9;
  for (int i = 0; i < kBuffer; ++i) from[i] = (uint8_t)(1 + next_random(&seed) % 255), to[i] = 0;
  return seed;
}

static uint64_t sum_of(const uint8_t *bytes) {
  uint64_t sum = 0;
  for (int i = 0; i < kBuffer; i += 17) sum = mix(sum, bytes[i]);
  return sum;
}

// Eight bytes at a time, then the rest.
static void __attribute__((noinline)) copy(uint8_t *d, const uint8_t *s, size_t length) {
  for (; length >= 8; length -= 8, d += 8, s += 8) {
    uint64_t word;
    __builtin_memcpy(&word, s, 8);
    __asm__ volatile("" : "+r"(word));
    __builtin_memcpy(d, &word, 8);
  }
  while (length-- != 0) {
    *d++ = *s++;
    __asm__ volatile("" ::: "memory");
  }
}

uint64_t copy_loop(void) {
  fill_from();
  uint64_t seed = 3;
  for (int i = 0; i < 18000; ++i) {
    const size_t at = next_random(&seed) % 4096;
    copy(to + at, from + 4096 - at, kBuffer - 8192);
    copy(to, from, 1 + at % 64);
  }
  return sum_of(to);
}

uint64_t rep_movs(void) {
  fill_from();
  uint64_t seed = 3;
  for (int i = 0; i < 300000; ++i) {
    const uint64_t random = next_random(&seed);
    const size_t at = random % 4096, length = random >> 32 & 0x7fff;
    void *d = to + at;
    const void *s = from + 4096 - at;
    size_t n = i % 4 == 0 ? length : length % 512;
    if (i % 2 == 0) {
      __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n)::"memory");
    } else {
      n /= 8;
      __asm__ volatile("rep movsq" : "+D"(d), "+S"(s), "+c"(n)::"memory");
    }
  }
  return sum_of(to);
}

uint64_t rep_stos(void) {
  fill_from();
  uint64_t seed = 3;
  for (int i = 0; i < 300000; ++i) {
    const uint64_t random = next_random(&seed);
    const size_t length = random >> 32 & 0x7fff;
    void *d = to + random % 4096;
    size_t n = i % 4 == 0 ? length : length % 512;
    if (i % 2 == 0) {
      __asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(i) : "memory");
    } else {
      n /= 8;
      __asm__ volatile("rep stosq" : "+D"(d), "+c"(n) : "a"(random) : "memory");
    }
  }
  return sum_of(to);
}

static size_t __attribute__((noinline)) length_of(const uint8_t *text) {
  size_t n = 0;
  while (text[n] != 0) {
    ++n;
    __asm__ volatile("" : "+r"(n));
  }
  return n;
}

static int __attribute__((noinline)) compare(const uint8_t *a, const uint8_t *b) {
  while (*a != 0 && *a == *b) ++a, ++b;
  return *a - *b;
}

static const uint8_t *__attribute__((noinline)) find(const uint8_t *text, uint8_t wanted) {
  while (*text != 0 && *text != wanted) ++text;
  return text;
}

// Loops over bytes, and SCAS and CMPS.
uint64_t strings(void) {
  fill_from();
  for (int i = 99; i < kBuffer; i += 100) from[i] = 0;
  for (int i = 0; i < kBuffer; ++i) to[i] = from[i];
  uint64_t sum = 0;
  for (int round = 0; round < 400; ++round) {
    for (int i = 0; i + 100 < kBuffer; i += 100) {
      sum = mix(sum, length_of(from + i));
      sum = mix(sum, (uint64_t)(compare(from + i, to + i) + 1));
      sum = mix(sum, (uint64_t)(find(from + i, (uint8_t)round) - from));
      const void *at = from + i;
      size_t n = 100;
      __asm__ volatile("repne scasb" : "+D"(at), "+c"(n) : "a"(0) : "memory", "cc");
      sum = mix(sum, n);
      const void *a = from + i, *b = to + i;
      n = 100;
      __asm__ volatile("repe cmpsb" : "+S"(a), "+D"(b), "+c"(n)::"memory", "cc");
      sum = mix(sum, n);
    }
  }
  return sum;
}

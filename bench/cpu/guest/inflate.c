// A decoder of deflate streams (RFC 1951), and one stream that the build made of words.
#include "inflate_data.h"
#include "programs.h"

enum { kMaxBits = 15, kSymbols = 288, kOutput = 1 << 20 };

struct input {
  const uint8_t *at;
  uint32_t bits;
  unsigned count;
};

// Canonical codes: how many of each length, and the symbols in the order of their codes.
struct codes {
  uint16_t count[kMaxBits + 1], symbol[kSymbols];
};

static uint32_t take(struct input *in, unsigned count) {
  while (in->count < count) {
    in->bits |= (uint32_t)*in->at++ << in->count;
    in->count += 8;
  }
  const uint32_t value = in->bits & ((1u << count) - 1);
  in->bits >>= count;
  in->count -= count;
  return value;
}

static void make_codes(struct codes *codes, const uint8_t *lengths, int count) {
  uint16_t at[kMaxBits + 2] = {0};
  for (int i = 0; i <= kMaxBits; ++i) codes->count[i] = 0;
  for (int i = 0; i < count; ++i) ++codes->count[lengths[i]];
  codes->count[0] = 0;
  for (int i = 1; i <= kMaxBits; ++i) at[i + 1] = at[i] + codes->count[i];
  for (int i = 0; i < count; ++i)
    if (lengths[i] != 0) codes->symbol[at[lengths[i]]++] = (uint16_t)i;
}

static unsigned symbol(struct input *in, const struct codes *codes) {
  int code = 0, first = 0, index = 0;
  for (int length = 1; length <= kMaxBits; ++length) {
    code |= (int)take(in, 1);
    const int count = codes->count[length];
    if (code - count < first) return codes->symbol[index + (code - first)];
    index += count;
    first = (first + count) << 1;
    code <<= 1;
  }
  return 256;
}

// RFC 1951, 3.2.7: lengths of codes, themselves coded.
static void read_codes(struct input *in, struct codes *literals, struct codes *distances) {
  static const uint8_t kOrder[19] = {16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
                                     11, 4,  12, 3, 13, 2, 14, 1, 15};
  const unsigned literal = take(in, 5) + 257, distance = take(in, 5) + 1, all = take(in, 4) + 4;
  uint8_t lengths[320] = {0};
  struct codes codes;
  for (unsigned i = 0; i < all; ++i) lengths[kOrder[i]] = (uint8_t)take(in, 3);
  make_codes(&codes, lengths, 19);
  for (unsigned n = 0; n < literal + distance;) {
    const unsigned s = symbol(in, &codes);
    if (s < 16) {
      lengths[n++] = (uint8_t)s;
      continue;
    }
    const uint8_t value = s == 16 && n != 0 ? lengths[n - 1] : 0;
    unsigned repeat = s == 16 ? 3 + take(in, 2) : s == 17 ? 3 + take(in, 3) : 11 + take(in, 7);
    while (repeat-- != 0 && n < sizeof lengths) lengths[n++] = value;
  }
  make_codes(literals, lengths, (int)literal);
  make_codes(distances, lengths + literal, (int)distance);
}

// RFC 1951, 3.2.5.
static size_t unpack(struct input *in, const struct codes *literals, const struct codes *distances,
                     uint8_t *out, size_t end) {
  static const uint16_t kLength[29] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                       31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
  static const uint8_t kLengthBits[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                          2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
  static const uint16_t kDistance[30] = {1,   2,   3,   4,   5,   7,    9,    13,   17,   25,
                                         33,  49,  65,  97,  129, 193,  257,  385,  513,  769,
                                         1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
  for (;;) {
    const unsigned s = symbol(in, literals);
    if (s == 256 || end >= kOutput - 258) return end;
    if (s < 256) {
      out[end++] = (uint8_t)s;
      continue;
    }
    unsigned length = kLength[s - 257] + take(in, kLengthBits[s - 257]);
    const unsigned d = symbol(in, distances);
    const unsigned distance = kDistance[d] + take(in, d < 4 ? 0 : d / 2 - 1);
    for (; length != 0; --length, ++end) out[end] = out[end - distance];
  }
}

uint64_t inflate(void) {
  static uint8_t out[kOutput];
  uint64_t sum = 0;
  for (int round = 0; round < 8; ++round) {
    struct input in = {kDeflated, 0, 0};
    size_t end = 0;
    unsigned last;
    do {
      last = take(&in, 1);
      if (take(&in, 2) != 2) return 0;  // the build asks for dynamic codes, and large blocks get them
      struct codes literals, distances;
      read_codes(&in, &literals, &distances);
      end = unpack(&in, &literals, &distances, out, end);
    } while (!last);
    for (size_t i = 0; i < end; ++i) sum = mix(sum, out[i]);
    sum = mix(sum, end);
  }
  return sum;
}

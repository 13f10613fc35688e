// Floating-point programs: four in SSE2's doubles, one on the x87. Sines and cosines are computed
// here, as the C library chooses its own by the processor.
#include <string.h>

#include "programs.h"

static uint64_t bits_of(double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

#define BODIES 5
#define NBODY(type, root, steps)                                                              \
  struct body_##type { type x[3], v[3], mass; };                                              \
  static uint64_t nbody_##type(void) {                                                        \
    struct body_##type b[BODIES];                                                             \
    for (int i = 0; i < BODIES; ++i)                                                          \
      for (int k = 0; k < 3; ++k) {                                                           \
        b[i].x[k] = (type)(i * 3 + k * 2 + 1) / 4;                                            \
        b[i].v[k] = (type)((i * 5 + k * 3) % 7 - 3) / 8;                                      \
        b[i].mass = (type)(i + 1) / 2;                                                        \
      }                                                                                       \
    for (int step = 0; step < steps; ++step) {                                                \
      for (int i = 0; i < BODIES; ++i)                                                        \
        for (int j = i + 1; j < BODIES; ++j) {                                                \
          type d[3], square = (type)0.01;                                                     \
          for (int k = 0; k < 3; ++k) d[k] = b[i].x[k] - b[j].x[k], square += d[k] * d[k];    \
          const type pull = (type)0.001 / (square * root(square));                            \
          for (int k = 0; k < 3; ++k) {                                                       \
            b[i].v[k] -= d[k] * b[j].mass * pull;                                             \
            b[j].v[k] += d[k] * b[i].mass * pull;                                             \
          }                                                                                   \
        }                                                                                     \
      for (int i = 0; i < BODIES; ++i)                                                        \
        for (int k = 0; k < 3; ++k) b[i].x[k] += (type)0.001 * b[i].v[k];                     \
    }                                                                                         \
    uint64_t sum = 0;                                                                         \
    for (int i = 0; i < BODIES; ++i) sum = mix(sum, bits_of((double)b[i].x[0]));              \
    return sum;                                                                               \
  }

typedef long double extended;
NBODY(double, __builtin_sqrt, 400000)
NBODY(extended, __builtin_sqrtl, 60000)

uint64_t nbody(void) { return nbody_double(); }
uint64_t x87(void) { return nbody_extended(); }

uint64_t matrix(void) {
  enum { kSize = 160, kRounds = 15 };
  static double a[kSize][kSize], b[kSize][kSize], c[kSize][kSize];
  for (int i = 0; i < kSize; ++i)
    for (int j = 0; j < kSize; ++j) a[i][j] = 1.0 / (i + j + 1), b[i][j] = i - 0.5 * j, c[i][j] = 0;
  for (int round = 0; round < kRounds; ++round)
    for (int i = 0; i < kSize; ++i)
      for (int j = 0; j < kSize; ++j) {
        double sum = c[i][j];
        for (int k = 0; k < kSize; ++k) sum += a[i][k] * b[k][j];
        c[i][j] = sum;
      }
  uint64_t sum = 0;
  for (int i = 0; i < kSize; ++i) sum = mix(sum, bits_of(c[i][kSize - 1 - i]));
  return sum;
}

uint64_t mandelbrot(void) {
  enum { kSize = 440, kLimit = 200 };
  uint64_t sum = 0;
  for (int row = 0; row < kSize; ++row)
    for (int column = 0; column < kSize; ++column) {
      const double cx = -2.0 + 3.0 * column / kSize, cy = -1.5 + 3.0 * row / kSize;
      double x = 0, y = 0;
      int n = 0;
      while (n < kLimit && x * x + y * y < 4.0) {
        const double t = x * x - y * y + cx;
        y = 2 * x * y + cy;
        x = t;
        ++n;
      }
      sum = mix(sum, (uint64_t)n);
    }
  return sum;
}

// Taylor's series is exact enough below pi/4 to make twiddle factors by doubling angles.
static void cosine_sine(double angle, double *cosine, double *sine) {
  double c = 1, s = 0, term = 1;
  for (int n = 1; n < 24; ++n) {
    term *= angle / n;
    if (n % 2 == 1) s += n % 4 == 1 ? term : -term;
    else c += n % 4 == 2 ? -term : term;
  }
  *cosine = c;
  *sine = s;
}

enum { kFft = 1 << 13 };

static void transform(double *re, double *im, const double *wr, const double *wi) {
  for (unsigned i = 1, j = 0; i < kFft; ++i) {
    unsigned bit = kFft >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i >= j) continue;
    double t = re[i];
    re[i] = re[j], re[j] = t;
    t = im[i];
    im[i] = im[j], im[j] = t;
  }
  for (unsigned half = 1; half < kFft; half *= 2)
    for (unsigned start = 0; start < kFft; start += 2 * half)
      for (unsigned k = 0; k < half; ++k) {
        const unsigned a = start + k, b = a + half, w = k * (kFft / 2 / half);
        const double xr = re[b] * wr[w] - im[b] * wi[w], xi = re[b] * wi[w] + im[b] * wr[w];
        re[b] = re[a] - xr, im[b] = im[a] - xi;
        re[a] += xr, im[a] += xi;
      }
}

uint64_t fft(void) {
  static double re[kFft], im[kFft], wr[kFft / 2], wi[kFft / 2];
  const double turn = 6.283185307179586;
  for (int i = 0; i < kFft / 2; ++i) cosine_sine(turn * i / kFft, &wr[i], &wi[i]);
  for (int i = 0; i < kFft; ++i) re[i] = (i * 7919) % 101 - 50, im[i] = 0;
  for (int round = 0; round < 120; ++round) {
    transform(re, im, wr, wi);
    for (int i = 0; i < kFft; ++i) re[i] *= 0.01, im[i] *= 0.01;
  }
  uint64_t sum = 0;
  for (int i = 0; i < kFft; i += 37) sum = mix(sum, bits_of(re[i]) ^ bits_of(im[i]));
  return sum;
}

#include "scene.h"

#include <cstring>

namespace oracle {

std::uint64_t take_stray_code(std::uint8_t* code) {
  static const auto kClean = [] {
    std::array<std::uint8_t, kCodeSize> clean;
    clean.fill(kInt3);
    return clean;
  }();
  if (std::memcmp(code, kClean.data(), kCodeSize) == 0) return 0;
  std::uint64_t hash = 0xcbf2'9ce4'8422'2325;  // FNV-1a, over places and values
  for (std::uint64_t at = 0; at < kCodeSize; ++at)
    if (code[at] != kInt3) hash = (hash ^ (at << 8 | code[at])) * 0x100'0000'01b3;
  std::memcpy(code, kClean.data(), kCodeSize);
  return hash;
}

}  // namespace oracle

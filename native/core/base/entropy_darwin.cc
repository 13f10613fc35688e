#include "base/entropy.h"

#include <cstdlib>

namespace hv::host {

bool entropy(std::span<std::byte> into) {
  ::arc4random_buf(into.data(), into.size());
  return true;
}

}  // namespace hv::host

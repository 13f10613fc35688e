// The instruction itself, between flags loaded from AL (OF, by an addition) and AH, and taken out
// again the same way.
#pragma once
#include <cstdint>

#include "softcpu/translator/state.h"

namespace hv::softcpu::host {

#define HV_FLAGS(name, smallest, instruction)                                                   \
  template <class T>                                                                            \
  std::uint64_t flags_of_##name(std::uint64_t before, std::uint64_t after, T a, T b,            \
                                unsigned count) {                                               \
    if constexpr (sizeof(T) < smallest) {                                                       \
      return after;                                                                             \
    } else {                                                                                    \
      std::uint64_t image = translator::image_of_rflags(before);                                \
      asm("addb $0x7f, %%al\n\tsahf\n\t" instruction "\n\tlahf\n\tseto %%al"                    \
          : "+&a"(image), [a] "+&r"(a)                                                          \
          : [b] "r"(b), "c"(count)                                                              \
          : "rdx", "cc");                                                                       \
      return translator::rflags_of_image(image);                                                \
    }                                                                                           \
  }
#include "softcpu/host/undefined_flags.def"
#undef HV_FLAGS

}  // namespace hv::softcpu::host

// Nobody to ask: what the portable code computed.
#pragma once
#include <cstdint>

namespace hv::softcpu::host {

#define HV_FLAGS(name, smallest, instruction)                                                   \
  template <class T>                                                                            \
  std::uint64_t flags_of_##name(std::uint64_t, std::uint64_t after, T, T, unsigned) {           \
    return after;                                                                               \
  }
#include "softcpu/host/undefined_flags.def"
#undef HV_FLAGS

}  // namespace hv::softcpu::host

// For tests: one instruction run by the host's own CPU, with all the registers that user mode can
// load. Elsewhere than on x86-64 Linux nothing runs, and tests say so.
#pragma once
#include <array>
#include <cstdint>
#include <span>

#include "accel/cpu_state.h"

namespace hv::softcpu::host {

struct NativeState {
  std::array<std::uint64_t, 16> gpr{};  // RSP is not loaded
  std::array<Xmm, 16> xmm{};
  std::array<F80, 8> st{};  // ST(i)
  std::uint32_t mxcsr = 0x1f80;
  std::uint8_t top = 0, valid = 0;  // `valid`: a bit for each physical register that is not empty
  std::uint64_t rflags = 0x202;
};

}  // namespace hv::softcpu::host

#if defined(__x86_64__) && defined(__linux__)
#include "softcpu/host/native_run_x86_64.h"
#else
namespace hv::softcpu::host {
class NativeRunner {
 public:
  static constexpr bool kRuns = false;
  explicit NativeRunner(std::uint64_t) {}
  int run(std::span<const std::uint8_t>, NativeState&, std::span<std::uint8_t>) { return -1; }
};
}  // namespace hv::softcpu::host
#endif

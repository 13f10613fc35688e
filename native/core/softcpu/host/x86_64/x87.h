// The host's x87 instructions. Each runs on a fresh FPU under the guest's control word; exceptions
// that the guest has not masked stay pending and are read and cleared without a waiting
// instruction, so that the host never sees them.
#pragma once
#include <cstring>

#include "softcpu/transcendental.h"

namespace hv::softcpu::host {

namespace detail {

struct alignas(16) Register {
  std::uint8_t bytes[16] = {};

  Register() = default;
  explicit Register(const F80& value) {
    std::memcpy(bytes, &value.significand, 8);
    std::memcpy(bytes + 8, &value.sign_exponent, 2);
  }
  F80 value() const {
    F80 result;
    std::memcpy(&result.significand, bytes, 8);
    std::memcpy(&result.sign_exponent, bytes + 8, 2);
    return result;
  }
};

// Where fewer registers are left than are stored, FSTP stores the indefinite value.
#define HV_HOST_X87(instruction)                                                               \
  asm volatile("fninit\n\tfldcw %3\n\tfldt %5\n\tfldt %4\n\t" instruction                      \
               "\n\tfnstsw %0\n\tfnclex\n\tfldcw %6\n\tfstpt %1\n\tfstpt %2\n\tfninit"         \
               : "=m"(status), "=m"(first), "=m"(second)                                       \
               : "m"(control), "m"(x), "m"(y), "m"(kAllMasked)                                 \
               : "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)")

}  // namespace detail

inline TranscendentalResult transcendental(Transcendental which, const F80& st0, const F80& st1,
                                           std::uint16_t control) {
  static constexpr std::uint16_t kAllMasked = 0x37f;
  const detail::Register x{st0}, y{st1};
  detail::Register first, second;
  std::uint16_t status = 0;
  switch (which) {
    case Transcendental::k2xm1: HV_HOST_X87("f2xm1"); break;
    case Transcendental::kYl2x: HV_HOST_X87("fyl2x"); break;
    case Transcendental::kYl2xp1: HV_HOST_X87("fyl2xp1"); break;
    case Transcendental::kPtan: HV_HOST_X87("fptan"); break;
    case Transcendental::kPatan: HV_HOST_X87("fpatan"); break;
    case Transcendental::kSin: HV_HOST_X87("fsin"); break;
    case Transcendental::kCos: HV_HOST_X87("fcos"); break;
    case Transcendental::kSincos: HV_HOST_X87("fsincos"); break;
  }
  return {first.value(), second.value(), status};
}

#undef HV_HOST_X87

}  // namespace hv::softcpu::host

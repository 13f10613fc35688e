#include "softcpu/translator/host_fpu.h"

#include "softcpu/cpu.h"
#include "softcpu/translator/host.h"
#include "softcpu/x87.h"

namespace hv::softcpu::translator {

#if HV_TRANSLATOR

namespace {

// SDM Vol. 1, figure "Protected Mode x87 FPU State Image in Memory, 32-Bit Format", and the eight
// registers from ST(0) on behind it.
struct [[gnu::packed]] Image {
  std::uint16_t control, reserved0 = 0xffff, status, reserved1 = 0xffff, tags, reserved2 = 0xffff;
  std::uint32_t pointers[4] = {};
  struct [[gnu::packed]] {
    std::uint64_t significand;
    std::uint16_t sign_exponent;
  } st[8];
};
static_assert(sizeof(Image) == 108);

constexpr unsigned kTrapped = 0xc;  // CR0.EM, CR0.TS

}  // namespace

void save_fpu(Cpu& cpu) {
  Image image;
  asm volatile("fnsave %0" : "=m"(image));  // and FNINIT
  FpuState& fpu = cpu.fpu;
  fpu.control = image.control;
  fpu.status = image.status;
  X87{fpu}.set_tags(image.tags);
  const unsigned top = image.status >> 11 & 7;
  for (unsigned i = 0; i < 8; ++i)
    fpu.physical[(top + i) & 7] = {image.st[i].significand, image.st[i].sign_exponent};
  cpu.translated.fpu_here = false;
}

void load_fpu(Cpu& cpu) {
  const FpuState& fpu = cpu.fpu;
  const bool masked = (fpu.control & softfloat::kAllFlags) == softfloat::kAllFlags;
  if (cpu.translated.fpu_here || !masked || (fpu.status & kX87Summary) != 0) return;
  if ((cpu.cr0 & kTrapped) != 0) return;
  Image image;
  image.control = fpu.control;
  image.status = fpu.status;
  image.tags = fpu.tags;
  const unsigned top = fpu.status >> 11 & 7;
  for (unsigned i = 0; i < 8; ++i) {
    const F80& value = fpu.physical[(top + i) & 7];
    image.st[i].significand = value.significand;
    image.st[i].sign_exponent = value.sign_exponent;
  }
  asm volatile("frstor %0" : : "m"(image));
  cpu.translated.fpu_here = true;
}

#else

void save_fpu(Cpu&) {}
void load_fpu(Cpu&) {}

#endif

}  // namespace hv::softcpu::translator

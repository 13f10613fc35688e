// For tests: one x87 instruction on the host's FPU, from and to a whole state. FRSTOR and FNSAVE
// carry the state, and FNSAVE does not wait, so that exceptions of every mask can be looked at.
#pragma once
#include <sys/mman.h>

#include <array>
#include <cstdint>
#include <cstring>

#include "accel/cpu_state.h"

namespace hv::softcpu::host {

// The 32-bit protected-mode image of FNSAVE.
struct [[gnu::packed]] FpuImage {
  std::uint32_t control, status, tags, instruction, selector_opcode, data, data_selector;
  struct [[gnu::packed]] Register {
    std::uint64_t significand;
    std::uint16_t sign_exponent;
  } st[8];
};
static_assert(sizeof(FpuImage) == 108);

class X87Runner {
 public:
  X87Runner()
      : page_{static_cast<std::uint8_t*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))} {}
  ~X87Runner() { munmap(page_, 4096); }
  X87Runner(const X87Runner&) = delete;
  X87Runner& operator=(const X87Runner&) = delete;

  // An instruction of two bytes; a memory operand must be [rsi]. Returns RFLAGS.
  std::uint64_t run(std::uint8_t opcode, std::uint8_t modrm, FpuImage& image,
                    std::uint8_t* memory, std::uint64_t flags) {
    const std::uint8_t code[] = {
        0xdd, 0x27,        // frstor [rdi]
        0x51, 0x9d,        // push rcx; popfq
        opcode, modrm,
        0x9c, 0x58,        // pushfq; pop rax
        0xdd, 0x37,        // fnsave [rdi]
        0xc3};
    std::memcpy(page_, code, sizeof code);
    using Entry = std::uint64_t (*)(FpuImage*, std::uint8_t*, std::uint64_t, std::uint64_t);
    return reinterpret_cast<Entry>(page_)(&image, memory, 0, flags);
  }

 private:
  std::uint8_t* page_;
};

}  // namespace hv::softcpu::host

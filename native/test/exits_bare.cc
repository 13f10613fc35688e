// The least that an exit can cost here: KVM_RUN, a look at why it returned, KVM_RUN.
#include <sys/mman.h>

#include <cstring>
#include <span>

#include "accel/kvm/api.h"
#include "cpu_time.h"

using namespace hv::kvm;

namespace {

constexpr std::uint64_t kPage = 4096;

struct Bare {
  Bare() : vm{host().device.call(KVM_CREATE_VM)} {
    page = ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    kvm_userspace_memory_region region{};
    region.memory_size = kPage;
    region.userspace_addr = reinterpret_cast<std::uint64_t>(page);
    vm.call(KVM_SET_USER_MEMORY_REGION, &region);
    vcpu = Handle{vm.call(KVM_CREATE_VCPU)};
    const int length = host().device.call(KVM_GET_VCPU_MMAP_SIZE);
    run = static_cast<kvm_run*>(::mmap(nullptr, static_cast<std::size_t>(length),
                                       PROT_READ | PROT_WRITE, MAP_SHARED, vcpu.fd(), 0));
    // Flat 32-bit protected mode from the page's start.
    kvm_sregs system{};
    vcpu.call(KVM_GET_SREGS, &system);
    system.cr0 = 0x11;
    for (kvm_segment* s : {&system.cs, &system.ds, &system.es, &system.ss, &system.fs, &system.gs}) {
      *s = {};
      s->limit = 0xffff'ffff;
      s->present = s->s = s->db = s->g = 1;
      s->type = s == &system.cs ? 11 : 3;
      s->selector = s == &system.cs ? 8 : 16;
    }
    vcpu.call(KVM_SET_SREGS, &system);
  }
  Handle vm, vcpu;
  void* page;
  kvm_run* run;
};

}  // namespace

double time_bare_exit(std::span<const std::uint8_t> code, std::uint32_t turns) {
  if (!host().unusable.empty()) return 0;
  static Bare bare;
  std::memcpy(bare.page, code.data(), code.size());
  kvm_regs regs{};
  regs.rflags = 2;
  regs.rcx = turns;
  bare.vcpu.call(KVM_SET_REGS, &regs);
  const double before = cpu_nanoseconds();
  while (bare.vcpu.call(KVM_RUN) == 0 && bare.run->exit_reason == KVM_EXIT_IO) {
  }
  return (cpu_nanoseconds() - before) / turns;
}

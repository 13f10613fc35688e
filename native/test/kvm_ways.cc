// What KVM's shortcuts save: the same guest loop of one access a turn, answered by an exit to us, by
// the kernel (ioeventfd, coalesced accesses, its own local APIC), in CPU time of the vCPU's thread.
// `make kvm-ways`; docs/kvm.md has the figures and what follows from them.
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <span>
#include <vector>

#include "accel/cpuid_policy.h"
#include "accel/kvm/api.h"
#include "accel/kvm/limits.h"
#include "cpu_time.h"

using namespace hv::kvm;

namespace {

constexpr std::uint64_t kRam = 0x10000, kPage = 4096;
constexpr std::uint16_t kPort = 0x180, kEndPort = 0x99;
constexpr std::uint32_t kDevice = 0xd000'0000, kEoiMsr = 0x80b, kTurns = 4000;

struct Guest {
  explicit Guest(bool split) : vm{host().device.call(KVM_CREATE_VM)} {
    if (split) enable(KVM_CAP_SPLIT_IRQCHIP, 24);
    enable(KVM_CAP_X86_USER_SPACE_MSR,
           KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER);
    ram = ::mmap(nullptr, kRam, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    kvm_userspace_memory_region region{};
    region.memory_size = kRam;
    region.userspace_addr = reinterpret_cast<std::uint64_t>(ram);
    vm.call(KVM_SET_USER_MEMORY_REGION, &region);
    vcpu = Handle{vm.call(KVM_CREATE_VCPU)};
    const CpuidTable cpuid = cpuid_table({});
    vcpu.call(kSetCpuid2, &cpuid);
    const auto length = static_cast<std::size_t>(host().device.call(KVM_GET_VCPU_MMAP_SIZE));
    run = static_cast<kvm_run*>(
        ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu.fd(), 0));
    ring = reinterpret_cast<kvm_coalesced_mmio_ring*>(reinterpret_cast<std::uint8_t*>(run) +
                                                      KVM_COALESCED_MMIO_PAGE_OFFSET * kPage);
    set_flat();
  }
  void enable(std::uint32_t capability, std::uint64_t argument) {
    kvm_enable_cap wanted{};
    wanted.cap = capability;
    wanted.args[0] = argument;
    if (vm.call(KVM_ENABLE_CAP, &wanted) != 0) std::perror("KVM_ENABLE_CAP");
  }
  // 32-bit protected mode; the local APIC in its x2APIC mode.
  void set_flat() {
    kvm_sregs system{};
    vcpu.call(KVM_GET_SREGS, &system);
    system.cr0 = 0x11;
    system.apic_base = 0xfee0'0d00;
    for (kvm_segment* s : {&system.cs, &system.ds, &system.es, &system.ss, &system.fs, &system.gs}) {
      *s = {};
      s->limit = 0xffff'ffff;
      s->present = s->s = s->db = s->g = 1;
      s->type = s == &system.cs ? 11 : 3;
      s->selector = s == &system.cs ? 8 : 16;
    }
    if (vcpu.call(KVM_SET_SREGS, &system) != 0) std::perror("KVM_SET_SREGS");
  }
  // Until every turn is done: an IN from port 0x99 ends the loop.
  bool turn(unsigned& exits) {
    for (exits = 0; vcpu.call(KVM_RUN) == 0; ++exits) {
      ring->first = ring->last;
      if (run->exit_reason == KVM_EXIT_IO && run->io.port == kEndPort) return finish();
      if (run->exit_reason == KVM_EXIT_IO || run->exit_reason == KVM_EXIT_MMIO) continue;
      if (run->exit_reason != KVM_EXIT_X86_WRMSR) break;
      run->msr.error = 0;
    }
    std::printf("it left for %u\n", run->exit_reason);
    return false;
  }

  // The IN retires only at the next entry (api.rst, KVM_EXIT_IO).
  bool finish() {
    run->immediate_exit = 1;
    (void)vcpu.call(KVM_RUN);
    run->immediate_exit = 0;
    return true;
  }

  Handle vm, vcpu;
  void* ram;
  kvm_run* run;
  kvm_coalesced_mmio_ring* ring;
};

// EBP times `access`, then an IN from kEndPort.
std::vector<std::uint8_t> loop(std::span<const std::uint8_t> access) {
  std::vector<std::uint8_t> code{access.begin(), access.end()};
  code.push_back(0x4d);  // dec ebp
  code.push_back(0x75);  // jnz
  code.push_back(static_cast<std::uint8_t>(-(static_cast<int>(code.size()) + 1)));
  code.push_back(0xe4);  // in al, …
  code.push_back(kEndPort);
  return code;
}

// The median of seven, in nanoseconds of this thread's time for a turn.
void measure(const char* name, Guest& guest, std::span<const std::uint8_t> access) {
  const std::vector<std::uint8_t> code = loop(access);
  std::memcpy(guest.ram, code.data(), code.size());
  std::vector<double> took;
  unsigned exits = 0;
  for (int round = 0; round < 7; ++round) {
    kvm_regs regs{};
    regs.rflags = 2;
    regs.rbp = kTurns;
    regs.rdx = kPort;
    regs.rbx = kDevice;
    if (access[0] == 0x0f) regs.rcx = kEoiMsr, regs.rdx = 0;
    guest.vcpu.call(KVM_SET_REGS, &regs);
    const double before = cpu_nanoseconds();
    if (!guest.turn(exits)) return std::perror(name);
    took.push_back((cpu_nanoseconds() - before) / kTurns);
  }
  std::nth_element(took.begin(), took.begin() + 3, took.end());
  std::printf("%-44s %8.0f ns a turn, %5.2f exits\n", name, took[3],
              static_cast<double>(exits) / kTurns);
}

constexpr std::uint8_t kOut[] = {0xef}, kStore[] = {0x89, 0x03}, kWrmsr[] = {0x0f, 0x30},
                       kNothing[] = {0x90};

bool add_event(Guest& guest, std::uint64_t at, std::uint32_t flags, int event) {
  kvm_ioeventfd wanted{};
  wanted.addr = at;
  wanted.len = 4;
  wanted.fd = event;
  wanted.flags = flags;
  return guest.vm.call(KVM_IOEVENTFD, &wanted) == 0;
}

bool coalesce(Guest& guest, std::uint64_t at, std::uint32_t pio) {
  kvm_coalesced_mmio_zone zone{};
  zone.addr = at;
  zone.size = 4;
  zone.pio = pio;
  return guest.vm.call(KVM_REGISTER_COALESCED_MMIO, &zone) == 0;
}

}  // namespace

int main() {
  if (!host().unusable.empty()) return std::printf("%s\n", host().unusable.c_str()), 0;
  Guest exits{false}, events{false}, rings{false}, split{true};
  const int event = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (!add_event(events, kPort, KVM_IOEVENTFD_FLAG_PIO, event) ||
      !add_event(events, kDevice, 0, event))
    std::perror("KVM_IOEVENTFD");
  if (!coalesce(rings, kPort, 1) || !coalesce(rings, kDevice, 0))
    std::perror("KVM_REGISTER_COALESCED_MMIO");
  measure("no access (NOP)", exits, kNothing);
  measure("OUT, an exit", exits, kOut);
  measure("OUT, ioeventfd", events, kOut);
  measure("OUT, coalesced", rings, kOut);
  measure("MMIO store, an exit", exits, kStore);
  measure("MMIO store, ioeventfd", events, kStore);
  measure("MMIO store, coalesced", rings, kStore);
  measure("x2APIC EOI, an exit", exits, kWrmsr);
  measure("x2APIC EOI, split irqchip", split, kWrmsr);
  measure("OUT, an exit, with a split irqchip", split, kOut);
  ::close(event);
  return 0;
}

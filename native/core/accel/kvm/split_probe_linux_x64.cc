#include "accel/kvm/split_probe.h"

#include <time.h>

#include <cstddef>
#include <cstring>

#include "accel/kvm/limits.h"
#include "accel/kvm/mapping.h"
#include "accel/kvm/split_irqchip.h"
#include "irq/lapic_bits.h"

namespace hv::kvm {
namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint8_t kVector = 0x40;
constexpr std::uint64_t kInX2apicMode = 0xfee0'0d00;  // IA32_APIC_BASE
constexpr std::uint32_t kEoiMsr = 0x80b;
constexpr std::uint8_t kTurnPort = 0x80, kEndPort = 0x81;

// In real mode at address 0, with ECX the EOI's MSR, EDX and EAX 0.
constexpr std::uint16_t kOneEoi = 0x00, kManyEois = 0x10, kManyOuts = 0x20;
constexpr std::uint8_t kCode[] = {
    0x0f, 0x30,             // wrmsr
    0xe6, kEndPort,         // out END, al
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0x0f, 0x30,             // 1: wrmsr
    0x4d, 0x75, 0xfb,       // dec bp; jnz 1b
    0xe6, kEndPort,         // out END, al
    0, 0, 0, 0, 0, 0, 0, 0, 0,
    0xe6, kTurnPort,        // 1: out TURN, al
    0x4d, 0x75, 0xfb,       // dec bp; jnz 1b
    0xe6, kEndPort};        // out END, al
constexpr std::uint64_t kTurns = 200;

class Probe {
 public:
  bool ready() {
    if (!vm_ || page_.at == MAP_FAILED) return false;
    split_ = SplitIrqchip::create(vm_);
    if (split_ == nullptr) return false;
    std::memcpy(page_.at, kCode, sizeof kCode);
    kvm_userspace_memory_region region{};
    region.memory_size = kPage;
    region.userspace_addr = reinterpret_cast<std::uint64_t>(page_.at);
    if (vm_.call(KVM_SET_USER_MEMORY_REGION, &region) != 0) return false;
    vcpu_ = Handle{vm_.call(KVM_CREATE_VCPU)};
    const CpuidTable cpuid = cpuid_table({});
    const int length = host().device.call(KVM_GET_VCPU_MMAP_SIZE);
    if (!vcpu_ || length <= 0 || vcpu_.call(kSetCpuid2, &cpuid) != 0) return false;
    run_.emplace(static_cast<std::size_t>(length), vcpu_.fd());
    return run_->at != MAP_FAILED && enter_real_mode();
  }

  // An EOI of a level-triggered vector must be told before the guest goes on: one that is told when
  // the vCPU next leaves the guest may be told never.
  bool tells_eoi_at_once() {
    const PinMessage level{0, {.vector = kVector, .level = true}};
    split_->watch({&level, 1});
    kvm_lapic_state apic{};
    if (vcpu_.call(KVM_GET_LAPIC, &apic) != 0) return false;
    put(apic, lapic::kSvr, 0xff | lapic::kSvrEnable);
    for (const unsigned bits : {lapic::kIsr, lapic::kTmr})
      put(apic, bits + 16 * (kVector / 32), 1u << kVector % 32);
    if (vcpu_.call(KVM_SET_LAPIC, &apic) != 0 || !start(kOneEoi)) return false;
    return vcpu_.call(KVM_RUN) == 0 && run().exit_reason == KVM_EXIT_IOAPIC_EOI &&
           run().eoi.vector == kVector;
  }

  // Nanoseconds of this thread for kTurns accesses; nullopt where it went astray.
  std::optional<std::uint64_t> measure(std::uint16_t code) {
    if (!start(code)) return std::nullopt;
    const std::uint64_t before = now();
    for (;;) {
      if (vcpu_.call(KVM_RUN) != 0 || run().exit_reason != KVM_EXIT_IO) return std::nullopt;
      if (run().io.port == kEndPort) return now() - before;
    }
  }

 private:
  kvm_run& run() { return *static_cast<kvm_run*>(run_->at); }

  static void put(kvm_lapic_state& apic, unsigned at, std::uint32_t value) {
    std::memcpy(apic.regs + at, &value, sizeof value);
  }

  static std::uint64_t now() {
    timespec t{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(t.tv_nsec);
  }

  bool enter_real_mode() {
    kvm_sregs system{};
    if (vcpu_.call(KVM_GET_SREGS, &system) != 0) return false;
    system.cs.base = 0;
    system.cs.selector = 0;
    system.apic_base = kInX2apicMode;
    return vcpu_.call(KVM_SET_SREGS, &system) == 0;
  }

  // The access that the guest last left for ends only at the next entry.
  bool start(std::uint16_t code) {
    run().immediate_exit = 1;
    (void)vcpu_.call(KVM_RUN);
    run().immediate_exit = 0;
    kvm_regs regs{};
    regs.rip = code;
    regs.rflags = 2;
    regs.rcx = kEoiMsr;
    regs.rbp = kTurns;
    return vcpu_.call(KVM_SET_REGS, &regs) == 0;
  }

  const Handle vm_{host().device.call(KVM_CREATE_VM)};
  const Mapping page_{kPage, -1};
  std::unique_ptr<SplitIrqchip> split_;
  Handle vcpu_;
  std::optional<Mapping> run_;
};

struct Findings {
  std::string lacks, reason;
};

Findings probe() {
  Probe probe;
  std::string lacks;
  if (!probe.ready())
    lacks = "this host's KVM lacks some of what a split irqchip needs";
  else if (!probe.tells_eoi_at_once())
    lacks = "this host's KVM tells the end of a level-triggered interrupt only when the vCPU next "
            "leaves the guest";
  if (!lacks.empty()) return {lacks, lacks};
  const auto eois = probe.measure(kManyEois), exits = probe.measure(kManyOuts);
  if (eois && exits && *eois < *exits) return {};
  return {{}, "this host's KVM is no faster with a split irqchip"};
}

const Findings& findings() {
  static const Findings once = probe();
  return once;
}

}  // namespace

const std::string& split_irqchip_lacks() { return findings().lacks; }
const std::string& own_apics_reason() { return findings().reason; }

}  // namespace hv::kvm

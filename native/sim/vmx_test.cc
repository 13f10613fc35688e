// VMX non-root operation as the simulated processor plays it. What is expected is typed from the
// SDM (Vol. 3, "VM Entries", "VMX Non-Root Operation", "VM Exits"), by number.
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "base/test.h"
#include "offer.h"
#include "virtual_cpu.h"

using namespace hv;
using namespace hv::sim;

namespace {

constexpr std::uint64_t kCode = 0x1000, kData = 0x2000, kStack = 0x4000, kIdt = 0x5000,
                        kGdt = 0x6000, kHandlers = 0x7000;

// Protected mode without paging, flat segments, every vector to a HLT of its own at
// kHandlers + 16 * vector.
struct Rig {
  Rig() {
    std::string error;
    memory = GuestMemory::create(64 * kPageSize, error);
    space.attach(*memory);
    space.map(memory->host(Gpa{0}), Gpa{0}, 64 * kPageSize, 7);
    VcpuSignals* const list[] = {&signals};
    std::copy(std::begin(list), std::end(list), all.begin());
    cpu = std::make_unique<VirtualCpu>(space, 0, all);
    for (unsigned v = 0; v < 32; ++v) {
      const std::uint64_t at = kHandlers + 16 * v;
      put(kIdt + 8 * v, (at & 0xffff) | 8u << 16 | 0x8e00ull << 32 | (at >> 16) << 48);
      *memory->host(Gpa{at}) = 0xf4;
    }
    put(kGdt + 8, std::uint64_t{0x00cf'9b00'0000'ffff});
    set_controls();
    set_guest();
  }

  void set(std::uint32_t field, std::uint64_t value) {
    EXPECT(cpu->vmcs.write(field, value) == Access::kDone);
  }
  std::uint64_t get(std::uint32_t field) {
    std::uint64_t value = 0;
    EXPECT(cpu->vmcs.read(field, value) == Access::kDone);
    return value;
  }
  template <class T>
  void put(std::uint64_t at, T value) {
    std::memcpy(memory->host(Gpa{at}), &value, sizeof value);
    memory->written(Gpa{at}, sizeof value);
  }
  void add_control(std::uint32_t field, std::uint64_t bits) { set(field, get(field) | bits); }

  // Enters at the start of `code`; the exit's reason.
  std::uint64_t run(std::initializer_list<std::uint8_t> code) {
    std::copy(code.begin(), code.end(), memory->host(Gpa{kCode}));
    memory->written(Gpa{kCode}, code.size());
    set(0x681e, kCode);
    return go_on();
  }
  std::uint64_t go_on(std::uint64_t deadline = VirtualCpu::kForever) {
    EXPECT(cpu->run(deadline));
    return get(0x4402);
  }
  std::uint64_t qualification() { return get(0x6400); }
  std::uint64_t length() { return get(0x440c); }
  std::uint64_t rip() { return get(0x681e); }

  void set_controls() {
    const Capabilities& offered = offer();
    set(0x4000, offered.pin & 0xffff'ffff);
    set(0x4002, (offered.primary & 0xffff'ffff) | 1u << 7 | 1u << 24 | 1u << 31);
    set(0x401e, 1u << 1 | 1u << 7);  // EPT, unrestricted guest
    set(0x400c, (offered.exit & 0xffff'ffff) | 1u << 9 | 1u << 20 | 1u << 21);
    set(0x4012, (offered.entry & 0xffff'ffff) | 1u << 15);
    set(0x2800, ~0ull);
  }
  void set_guest() {
    for (unsigned n = 0; n < 6; ++n) {
      set(0x0800 + 2 * n, n == 1 ? 8 : 0x10);
      set(0x4800 + 2 * n, 0xffff'ffff);
      set(0x4814 + 2 * n, n == 1 ? 0xc09b : 0xc093);
    }
    set(0x4820, 0x1'0000);  // LDTR: unusable
    set(0x480e, 0x67);
    set(0x4822, 0x8b);  // TR: busy 32-bit TSS
    set(0x6816, kGdt);
    set(0x4810, 0xf);
    set(0x6818, kIdt);
    set(0x4812, 0xff);
    set(0x6800, 0x21);    // NE, PE
    set(0x6804, 0x2000);  // VMXE
    set(0x6820, 2);
    set(0x681c, kStack);
  }

  std::unique_ptr<GuestMemory> memory;
  Space space;
  VcpuSignals signals;
  std::array<VcpuSignals*, 1> all{};
  std::unique_ptr<VirtualCpu> cpu;
};

constexpr std::uint64_t kInvalidState = 0x8000'0021;

}  // namespace

TEST(fields_have_their_width_and_some_are_read_only) {
  Vmcs vmcs;
  std::uint64_t value = 0;
  EXPECT(vmcs.write(0x0800, 0x1'2345) == Access::kDone);
  EXPECT(vmcs.read(0x0800, value) == Access::kDone);
  EXPECT_EQ(value, 0x2345u);
  EXPECT(vmcs.write(0x4800, 0x1'2345'6789) == Access::kDone);
  EXPECT(vmcs.read(0x4800, value) == Access::kDone);
  EXPECT_EQ(value, 0x2345'6789u);
  EXPECT(vmcs.write(0x2011, 0x55) == Access::kDone);  // the upper half of the TSC offset
  EXPECT(vmcs.write(0x6800, ~0ull) == Access::kDone);
  EXPECT(vmcs.read(0x2010, value) == Access::kDone);
  EXPECT_EQ(value, 0x55'0000'0000u);
  EXPECT(vmcs.write(0x4402, 1) == Access::kReadOnly);
  EXPECT(vmcs.write(0x6400, 1) == Access::kReadOnly);
  EXPECT(vmcs.write(0x2400, 1) == Access::kReadOnly);
  EXPECT(vmcs.write(0x5000, 1) == Access::kNoSuchField);
  EXPECT(vmcs.read(0x0801, value) == Access::kNoSuchField);
}

TEST(controls_that_are_not_offered_fail_the_entry) {
  const struct {
    std::uint32_t field;
    std::uint64_t set, clear;
  } rows[] = {
      {0x4000, 1u << 7, 0},          // posted interrupts
      {0x4000, 0, 1u << 1},          // a bit that must be 1
      {0x4000, 1u << 5, 0},          // virtual NMIs without NMI exiting
      {0x4002, 1u << 21, 0},         // TPR shadow
      {0x4002, 1u << 22, 0},         // NMI windows without virtual NMIs
      {0x401e, 1u << 0, 0},          // virtual APIC
      {0x401e, 0, 1u << 1},          // an unrestricted guest without EPT
      {0x400c, 1u << 15, 0},         // acknowledging interrupts
      {0x4012, 1u << 10, 0},         // entry to SMM
      {0x400a, 5, 0},                // CR3 targets
      {0x4016, 0x8000'0130, 0},      // a reserved type of event
      {0x4016, 0x8000'0203, 0},      // an NMI of vector 3
      {0x4016, 0x8000'0320, 0},      // an exception of vector 32
      {0x4016, 0x8000'0b06, 0},      // #UD with an error code
      {0x4016, 0x8000'030d, 0},      // #GP without one
      {0x4016, 0x8000'0430, 0},      // INT of no length
      {0x4016, 0x8000'1020, 0},      // reserved bits
  };
  for (const auto& row : rows) {
    Rig rig;
    rig.set(row.field, (rig.get(row.field) | row.set) & ~row.clear);
    if (!EXPECT(!rig.cpu->run(VirtualCpu::kForever)))
      std::fprintf(stderr, "… field 0x%x\n", row.field);
    EXPECT_EQ(rig.get(0x4400), 7u);
  }
}

TEST(a_guest_state_that_cannot_be_is_refused) {
  const struct {
    std::uint32_t field;
    std::uint64_t value;
  } rows[] = {
      {0x6800, 0x1},                       // CR0.NE clear
      {0x6800, 0x8000'0020},               // paging without protection
      {0x6804, 0},                         // CR4.VMXE clear
      {0x6804, 0x2'2000},                  // CR4.PCIDE outside IA-32e mode
      {0x6804, 0x8000'2000},               // a bit of CR4 that the processor has not
      {0x6802, 1ull << 52},                // CR3
      {0x2806, 0x400},                     // EFER.LMA without the control
      {0x2806, 0x1'0000},                  // EFER's reserved bits
      {0x6824, 1ull << 62},                // SYSENTER_ESP
      {0x4816, 0xc097},                    // CS: data that expands down
      {0x4816, 0xc01b},                    // CS: not present
      {0x4816, 0xc08b},                    // CS: a system segment
      {0x4816, 0x409b},                    // CS: limit against granularity
      {0x4818, 0xc09b},                    // SS: code
      {0x481a, 0xc092},                    // DS: not accessed
      {0x4814, 0xc099},                    // ES: code that cannot be read
      {0x4820, 0x82 | 0x100},              // LDTR: reserved bits
      {0x4822, 0x89},                      // TR: not busy
      {0x4822, 0x1'008b},                  // TR: unusable
      {0x080e, 4},                         // TR from the LDT
      {0x6808, 1ull << 32},                // CS's base
      {0x680e, 1ull << 60},                // FS's base
      {0x6816, 1ull << 60},                // GDTR
      {0x4812, 0x1'0000},                  // IDTR's limit
      {0x681e, 1ull << 32},                // RIP
      {0x6820, 0},                         // RFLAGS: bit 1
      {0x6820, 0xa},                       // RFLAGS: bit 3
      {0x6820, 0x2'0002},                  // virtual-8086 mode with these segments
      {0x4824, 3},                         // STI and MOV SS
      {0x4824, 1},                         // STI with IF clear
      {0x4824, 4},                         // SMI
      {0x4824, 0x20},                      // reserved
      {0x4826, 4},                         // activity
      {0x6822, 1u << 5},                   // pending debug: reserved
      {0x4016, 0x8000'0030},               // an interrupt with IF clear
      {0x2800, 0x1000},                    // link pointer
  };
  for (const auto& row : rows) {
    Rig rig;
    rig.set(row.field, row.value);
    rig.put(kCode, std::uint8_t{0xf4});
    const std::uint64_t before = rig.rip();
    if (!EXPECT_EQ(rig.go_on(), kInvalidState))
      std::fprintf(stderr, "… field 0x%x\n", row.field);
    EXPECT_EQ(rig.rip(), before);
    EXPECT_EQ(rig.qualification(), row.field == 0x2800 ? 4u : 0u);
  }
  Rig pae;
  pae.set(0x6800, 0x8000'0021);
  pae.set(0x6804, 0x2020);
  pae.set(0x280a, 0x1007);  // R/W and U/S are reserved in a PDPTE
  EXPECT_EQ(pae.go_on(), kInvalidState);
  EXPECT_EQ(pae.qualification(), 2u);
}

TEST(an_event_that_was_refused_stays_to_be_injected) {
  Rig rig;
  rig.set(0x4016, 0x8000'0030);
  EXPECT_EQ(rig.go_on(), kInvalidState);
  EXPECT_EQ(rig.get(0x4016), 0x8000'0030u);
}

TEST(instructions_exit_with_length_and_rip_of_their_own) {
  const struct {
    std::vector<std::uint8_t> code;
    std::uint64_t reason, qualification, length;
  } rows[] = {
      {{0xf4}, 12, 0, 1},
      {{0x0f, 0xa2}, 10, 0, 2},
      {{0x0f, 0x32}, 31, 0, 2},
      {{0x0f, 0x30}, 32, 0, 2},
      {{0xe6, 0x80}, 30, 0x80'0040, 2},              // out 0x80, al
      {{0x66, 0xed}, 30, 0x9, 2},                    // in ax, dx
      {{0xf3, 0x6e}, 30, 0x30, 2},                   // rep outsb
      {{0x0f, 0x08}, 13, 0, 2},                      // invd
      {{0x0f, 0x01, 0xc1}, 18, 0, 3},                // vmcall
  };
  for (const auto& row : rows) {
    Rig rig;
    rig.cpu->cpu.gpr[1] = 5;
    rig.cpu->cpu.gpr[2] = 0;
    std::copy(row.code.begin(), row.code.end(), rig.memory->host(Gpa{kCode}));
    rig.memory->written(Gpa{kCode}, 16);
    rig.set(0x681e, kCode);
    EXPECT_EQ(rig.go_on(), row.reason);
    EXPECT_EQ(rig.qualification(), row.qualification);
    EXPECT_EQ(rig.length(), row.length);
    EXPECT_EQ(rig.rip(), kCode);
  }
}

TEST(a_repeated_port_string_of_no_items_does_nothing) {
  Rig rig;
  EXPECT_EQ(rig.run({0xf3, 0x6e, 0xf4}), 12u);
  EXPECT_EQ(rig.rip(), kCode + 2);
}

TEST(control_registers_obey_mask_and_shadow) {
  Rig rig;
  rig.set(0x6000, 0x8000'0021);  // the host has PG, NE, PE
  rig.set(0x6004, 0x8000'0001);  // and shows PG and PE
  // mov eax, cr0; or eax, 8; mov cr0, eax; mov ebx, cr0; hlt
  EXPECT_EQ(rig.run({0x0f, 0x20, 0xc0, 0x83, 0xc8, 0x08, 0x0f, 0x22, 0xc0, 0x0f, 0x20, 0xc3, 0xf4}),
            12u);
  EXPECT_EQ(rig.cpu->cpu.gpr[3], 0x8000'0019u);  // TS, and ET which is hardwired
  EXPECT_EQ(rig.get(0x6800), 0x39u);
  // xor eax, eax; mov cr0, eax: PE would change
  EXPECT_EQ(rig.run({0x31, 0xc0, 0x0f, 0x22, 0xc0}), 28u);
  EXPECT_EQ(rig.qualification(), 0u);
  EXPECT_EQ(rig.rip(), kCode + 2);
  // mov edx, 0x2000; mov cr4, edx: a bit of the host's, shown clear
  rig.set(0x6002, 0x2000);
  EXPECT_EQ(rig.run({0xba, 0x00, 0x20, 0x00, 0x00, 0x0f, 0x22, 0xe2}), 28u);
  EXPECT_EQ(rig.qualification(), 0x204u);
  // clts: its bit is the guest's. lmsw [esp]: PE shows already.
  EXPECT_EQ(rig.run({0x0f, 0x06, 0xf4}), 12u);
  EXPECT_EQ(rig.get(0x6800), 0x31u);
  rig.set(0x6000, 8);
  rig.set(0x6004, 8);
  EXPECT_EQ(rig.run({0x0f, 0x06}), 28u);
  EXPECT_EQ(rig.qualification(), 0x20u);
  EXPECT_EQ(rig.run({0xb8, 0x05, 0x00, 0x00, 0x00, 0x0f, 0x01, 0xf0}), 28u);  // lmsw ax
  EXPECT_EQ(rig.qualification(), 0x5'0030u);
}

TEST(cr3_and_cr8_and_debug_registers_exit_where_asked) {
  Rig rig;
  rig.add_control(0x4002, 1u << 15 | 1u << 16 | 1u << 23);
  EXPECT_EQ(rig.run({0x0f, 0x22, 0xd9}), 28u);  // mov cr3, ecx
  EXPECT_EQ(rig.qualification(), 0x103u);
  EXPECT_EQ(rig.run({0x0f, 0x20, 0xda}), 28u);  // mov edx, cr3
  EXPECT_EQ(rig.qualification(), 0x213u);
  EXPECT_EQ(rig.run({0x0f, 0x21, 0xf3}), 29u);  // mov ebx, dr6
  EXPECT_EQ(rig.qualification(), 0x316u);
}

TEST(ept_violations_name_the_access) {
  Rig rig;
  // mov eax, [0x100000]: nothing is mapped there
  EXPECT_EQ(rig.run({0xa1, 0x00, 0x00, 0x10, 0x00, 0xf4}), 48u);
  EXPECT_EQ(rig.qualification(), 0x181u);
  EXPECT_EQ(rig.get(0x2400), 0x10'0000u);
  EXPECT_EQ(rig.get(0x640a), 0x10'0000u);
  EXPECT_EQ(rig.rip(), kCode);
  EXPECT_EQ(rig.get(0x6820) & 0x1'0000, 0x1'0000u);  // RF, as a fault saves it
  // mov [0x2000], eax: a page that may be read and run
  EXPECT(rig.space.protect(Gpa{kData}, kPageSize, 5));
  EXPECT_EQ(rig.run({0xa3, 0x00, 0x20, 0x00, 0x00, 0xf4}), 48u);
  EXPECT_EQ(rig.qualification(), 0x1aau);
  EXPECT_EQ(rig.run({0xa1, 0x00, 0x20, 0x00, 0x00, 0xf4}), 12u);
  // A jump to a page that may only be read.
  EXPECT(rig.space.protect(Gpa{kData}, kPageSize, 1));
  EXPECT_EQ(rig.run({0xb8, 0x00, 0x20, 0x00, 0x00, 0xff, 0xe0}), 48u);
  EXPECT_EQ(rig.qualification(), 0x18cu);
  // Paging with its directory outside of all memory: the walk itself fails.
  rig.set(0x6802, 0x20'0000);
  rig.set(0x6800, 0x8000'0021);
  rig.cpu->invalidate_tlb();
  EXPECT_EQ(rig.run({0xf4}), 48u);
  EXPECT_EQ(rig.qualification(), 0x81u);
  EXPECT_EQ(rig.get(0x2400), 0x20'0000u);
}

TEST(events_are_injected_and_their_failure_is_told) {
  Rig rig;
  // #GP with an error code, through the IDT to its HLT.
  rig.set(0x4016, 0x8000'0b0d);
  rig.set(0x4018, 0x1234);
  EXPECT_EQ(rig.run({0x90}), 12u);
  EXPECT_EQ(rig.rip(), kHandlers + 16 * 13);
  EXPECT_EQ(rig.get(0x4016) >> 31, 0u);
  std::uint32_t pushed = 0;
  std::memcpy(&pushed, rig.memory->host(Gpa{kStack - 16}), 4);
  EXPECT_EQ(pushed, 0x1234u);
  // An interrupt whose frame lands where nothing is mapped.
  rig.set_guest();
  rig.set(0x681c, 0x10'0010);
  rig.set(0x6820, 0x202);
  rig.set(0x4016, 0x8000'0007);
  EXPECT_EQ(rig.run({0x90}), 48u);
  EXPECT_EQ(rig.get(0x4408), 0x8000'0007u);
  EXPECT_EQ(rig.rip(), kCode);
  EXPECT_EQ(rig.get(0x6820) & 0x1'0000, 0u);
  // INT 5 the same, with its length.
  EXPECT_EQ(rig.run({0xcd, 0x05}), 48u);
  EXPECT_EQ(rig.get(0x4408), 0x8000'0405u);
  EXPECT_EQ(rig.rip(), kCode);
  // And what came before is forgotten.
  EXPECT_EQ(rig.run({0xf4}), 12u);
  EXPECT_EQ(rig.get(0x4408), 0u);
}

TEST(exceptions_exit_by_the_bitmap) {
  Rig rig;
  rig.set(0x4004, 1u << 6 | 1u << 3);
  EXPECT_EQ(rig.run({0x90, 0x0f, 0x0b}), 0u);  // ud2
  EXPECT_EQ(rig.get(0x4404), 0x8000'0306u);
  EXPECT_EQ(rig.rip(), kCode + 1);
  EXPECT_EQ(rig.run({0xcc}), 0u);  // int3
  EXPECT_EQ(rig.get(0x4404), 0x8000'0603u);
  EXPECT_EQ(rig.length(), 1u);
  // div by zero is not in it.
  EXPECT_EQ(rig.run({0x31, 0xc9, 0xf7, 0xf1}), 12u);
  EXPECT_EQ(rig.rip(), kHandlers);
}

TEST(three_faults_in_one_another_are_a_triple_fault) {
  Rig rig;
  rig.set(0x4812, 0);
  EXPECT_EQ(rig.run({0x0f, 0x0b}), 2u);
  rig.set_guest();
  EXPECT_EQ(rig.run({0xf4}), 12u);
  EXPECT_EQ(rig.get(0x4408), 0u);
}

TEST(windows_open_where_an_event_would_be_taken) {
  Rig rig;
  rig.add_control(0x4002, 1u << 2);
  // sti; nop; nop: the shadow of STI covers the first NOP
  EXPECT_EQ(rig.run({0xfb, 0x90, 0x90, 0xf4}), 7u);
  EXPECT_EQ(rig.rip(), kCode + 2);
  Rig nmis;
  nmis.add_control(0x4000, 1u << 3 | 1u << 5);
  nmis.add_control(0x4002, 1u << 22);
  EXPECT_EQ(nmis.run({0x90, 0xf4}), 8u);
  EXPECT_EQ(nmis.rip(), kCode);
  // Behind an injected NMI they are blocked until IRET.
  nmis.set(0x4016, 0x8000'0202);
  EXPECT_EQ(nmis.run({0x90, 0xf4}), 12u);
  EXPECT_EQ(nmis.rip(), kHandlers + 16 * 2);
  EXPECT_EQ(nmis.get(0x4824), 8u);
}

TEST(a_deadline_and_an_interrupt_end_a_loop) {
  Rig rig;
  const auto loop = [&] { return rig.run({0xeb, 0xfe}); };
  std::atomic<bool> done{false};
  std::thread other{[&] {
    while (!done.load()) {
      rig.cpu->interrupt();
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
  }};
  EXPECT_EQ(loop(), 1u);
  EXPECT_EQ(rig.rip(), kCode);
  done.store(true);
  other.join();
  std::atomic<bool> ended{false};
  std::thread clock{[&] {
    while (!ended.load()) {
      rig.cpu->tick(1000);
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
  }};
  EXPECT_EQ(rig.go_on(500), 52u);
  ended.store(true);
  clock.join();
}

TEST(rdtsc_has_the_offset_of_the_vmcs) {
  Rig rig;
  rig.add_control(0x4002, 1u << 3);
  rig.set(0x2010, 1ull << 62);
  EXPECT_EQ(rig.run({0x0f, 0x31, 0xf4}), 12u);
  EXPECT(rig.cpu->cpu.gpr[2] >> 30 == 1);
  rig.add_control(0x4002, 1u << 12);
  EXPECT_EQ(rig.run({0x0f, 0x31, 0xf4}), 16u);
}

TEST_MAIN()

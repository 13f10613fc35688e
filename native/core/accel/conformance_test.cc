// The conformance suite: the same freestanding guests on every accelerator of the host. What is
// expected is the architecture's, typed from the SDM, not another accelerator's answer.
#include "accel/conformance_rig.h"
#include <algorithm>
#include <fstream>
#include <string>

#include "accel/cpuid_policy.h"
#include "base/json.h"
#include "base/state.h"

using namespace hv;
using namespace hv::conformance;

namespace {

enum : unsigned { kRax, kRcx, kRdx, kRbx, kRsp, kRbp, kRsi, kRdi, kR8, kR9, kR10, kR11, kR12, kR13,
                  kR14, kR15 };

void expect_accesses(const std::vector<Access>& got, const std::vector<Access>& wanted) {
  EXPECT_EQ(got.size(), wanted.size());
  for (std::size_t i = 0; i < std::min(got.size(), wanted.size()); ++i) {
    EXPECT_EQ(got[i].at, wanted[i].at);
    EXPECT_EQ(got[i].size, wanted[i].size);
    EXPECT_EQ(got[i].value, wanted[i].value);
  }
}

}  // namespace

CONFORMANCE(ports_of_every_width) {
  Rig rig{accelerator};
  EXPECT_EQ(rig.run(k_ports), Exit::kHalted);
  expect_accesses(rig.platform.outputs, {{0x180, 1, 0x11},
                                         {0x180, 2, 0x2233},
                                         {0x180, 4, 0x44556677},
                                         {0x81, 1, 0x77},
                                         {0x82, 2, 0x6677},
                                         {0x83, 4, 0x44556677}});
  EXPECT_EQ(rig.platform.inputs.size(), 4u);
  EXPECT_EQ(rig.reg(kR8), 0xffff'ffff'ffff'ff51u);
  EXPECT_EQ(rig.reg(kR9), 0xffff'ffff'ffff'6052u);
  EXPECT_EQ(rig.reg(kR10), 0x8070'6053u);
  EXPECT_EQ(rig.reg(kR11), 0x8070'6054u);
}

CONFORMANCE(port_strings_of_every_width) {
  Rig rig{accelerator};
  for (unsigned i = 0; i < 64; ++i) *rig.at(Rig::kData + i) = static_cast<std::uint8_t>(i);
  EXPECT_EQ(rig.run(k_port_strings), Exit::kHalted);
  expect_accesses(rig.platform.outputs,
                  {{0x180, 1, 0}, {0x180, 1, 1}, {0x180, 1, 2}, {0x180, 1, 3}, {0x180, 1, 4},
                   {0x180, 2, 0x0605}, {0x180, 2, 0x0807}, {0x180, 2, 0x0a09},
                   {0x180, 4, 0x0e0d0c0b}, {0x180, 4, 0x1211100f}, {0x180, 4, 0x16151413},
                   {0x180, 1, 0x17}});
  EXPECT_EQ(rig.get<std::uint32_t>(Rig::kData + 0x100), 0x5453'5251u);
  EXPECT_EQ(rig.get<std::uint8_t>(Rig::kData + 0x104), 0x55u);
  EXPECT_EQ(rig.get<std::uint16_t>(Rig::kData + 0x105), 0x6056u);
  EXPECT_EQ(rig.get<std::uint32_t>(Rig::kData + 0x10b), 0x8070'6059u);
  EXPECT_EQ(rig.get<std::uint8_t>(Rig::kData + 0x117), 0x5cu);
  EXPECT_EQ(rig.get<std::uint32_t>(Rig::kData + 0x200), 0x5d5e'5f60u);  // downwards
  EXPECT_EQ(rig.reg(kRcx), 0u);
  EXPECT_EQ(rig.reg(kRdi), Rig::kData + 0x1ff);
}

CONFORMANCE(a_port_string_of_more_than_a_page) {
  Rig rig{accelerator};
  EXPECT_EQ(rig.run(k_port_long_string), Exit::kHalted);
  EXPECT_EQ(rig.platform.inputs.size(), 0x1800u);
  REQUIRE(rig.platform.outputs.size() == 0x1800u);
  unsigned wrong = 0;
  for (unsigned i = 0; i < 0x1800; ++i)
    wrong += rig.platform.outputs[i].value != ((0x51 + i) & 0xff);
  EXPECT_EQ(wrong, 0u);
}

CONFORMANCE(mmio_moves_of_every_width_and_form) {
  Rig rig{accelerator};
  EXPECT_EQ(rig.run(k_mmio_moves), Exit::kHalted);
  const std::uint64_t d = RecordingPlatform::kDevice;
  expect_accesses(rig.platform.memory_writes, {{d, 8, 0x1122334455667788},
                                               {d + 8, 4, 0x55667788},
                                               {d + 12, 2, 0x7788},
                                               {d + 14, 1, 0x88},
                                               {d + 15, 1, 0x77},
                                               {d + 16, 8, 0x12345678},
                                               {d + 24, 4, 0xfffffffe},
                                               {d + 28, 2, 0x5aa5},
                                               {d + 30, 1, 0x7f}});
  const CpuState s = rig.state();
  EXPECT_EQ(s.gpr[kR8], 0x1122'3344'5566'7788u);
  EXPECT_EQ(s.gpr[kR9], 0x5566'7788u);
  EXPECT_EQ(s.gpr[kR10], 0xffff'ffff'ffff'7788u);
  EXPECT_EQ(s.gpr[kR11], 0xffff'ffff'ffff'ff77u);
  EXPECT_EQ(s.gpr[kR12], 0x77u);
  EXPECT_EQ(s.gpr[kR13], 0x11u);
  EXPECT_EQ(s.gpr[kR14], 0xffff'ffff'ffff'fffeu);
  EXPECT_EQ(s.gpr[kR15], 0xffff'ffff'ffff'fffeu);
  EXPECT_EQ(s.gpr[kRsi], 0x5aa5u);
}

CONFORMANCE(mmio_is_changed_in_place) {
  Rig rig{accelerator};
  rig.platform.device[16] = 0x80;
  EXPECT_EQ(rig.run(k_mmio_arithmetic), Exit::kHalted);
  const auto word = [&](unsigned at) {
    std::uint32_t value;
    std::memcpy(&value, rig.platform.device.data() + at, 4);
    return value;
  };
  // 5 + 0x10 - 3 = 0x12; byte 1 | 0x40: 0x4012; & 0xfff2: 0x4012; high half inverted; << 4.
  EXPECT_EQ(word(0), 0x0004'0120u);
  EXPECT_EQ(word(4), 0xffff'fff0u);
  EXPECT_EQ(word(8), 0xffff'00ffu);   // inc, neg; dec of the next word
  EXPECT_EQ(word(12), 0xffff'ffffu);
  EXPECT_EQ(word(16), 0x1234u);
  EXPECT_EQ(word(20), 8u);
  EXPECT_EQ(word(24), 0x42u);
  const CpuState s = rig.state();
  EXPECT_EQ(s.gpr[kR8], 0x80u);
  EXPECT_EQ(s.gpr[kR9], 0x77u);
  EXPECT_EQ(s.gpr[kR10], 1u);
  EXPECT_EQ(s.gpr[kR11], 1u);
  EXPECT_EQ(s.gpr[kR12], 1u);
  EXPECT_EQ(s.gpr[kR13], 0xffff'fff0'0004'0120u);
}

CONFORMANCE(mmio_strings) {
  Rig rig{accelerator};
  for (unsigned i = 0; i < 32; ++i) *rig.at(Rig::kData + i) = static_cast<std::uint8_t>(0x10 + i);
  EXPECT_EQ(rig.run(k_mmio_strings), Exit::kHalted);
  EXPECT_EQ(std::memcmp(rig.platform.device.data(), rig.at(Rig::kData), 32), 0);
  EXPECT_EQ(std::memcmp(rig.at(Rig::kData + 0x100), rig.at(Rig::kData), 32), 0);
  EXPECT_EQ(rig.platform.device[43], 0xa5u);
  EXPECT_EQ(rig.platform.device[44], 0u);
  EXPECT_EQ(rig.reg(kR8) & 0xffff, 0x5a5au);
  EXPECT_EQ(rig.reg(kR9), 28u);  // found at the fourth
}

CONFORMANCE(mmio_by_vector_registers) {
  Rig rig{accelerator};
  for (unsigned i = 0; i < 16; ++i) *rig.at(Rig::kData + i) = static_cast<std::uint8_t>(0x81 + i);
  EXPECT_EQ(rig.run(k_mmio_vector), Exit::kHalted);
  EXPECT_EQ(std::memcmp(rig.at(Rig::kData + 0x100), rig.at(Rig::kData), 16), 0);
  EXPECT_EQ(rig.reg(kR8), 0x908f'8e8d'8c8b'8a89u);
  EXPECT_EQ(rig.reg(kR9), 0x8887'8685u);
}

CONFORMANCE(an_access_over_the_end_of_ram) {
  Rig rig{accelerator};
  EXPECT_EQ(rig.run(k_mmio_edge), Exit::kHalted);
  EXPECT_EQ(rig.get<std::uint32_t>(Rig::kSize - 4), 0x4433'2211u);
  EXPECT_EQ(rig.reg(kR8), 0xffff'ffff'4433'2211u);
  expect_accesses(rig.platform.memory_writes, {{Rig::kSize, 4, 0x8877'6655}});
}

namespace {

// WRMSR (where `value`) and RDMSR; the vector of the exception, or -1 and what was read.
struct MsrResult {
  int vector;
  std::uint64_t value;
};
MsrResult access_msr(Rig& rig, std::uint32_t index, std::optional<std::uint64_t> value) {
  rig.set_long64();
  rig.change([&](CpuState& s) {
    s.gpr[kRcx] = index;
    s.gpr[kR8] = value.has_value();
    s.gpr[kRax] = value.value_or(0) & 0xffff'ffff;
    s.gpr[kRdx] = value.value_or(0) >> 32;
  });
  EXPECT_EQ(rig.run(k_msr), Exit::kHalted);
  const CpuState s = rig.state();
  return {rig.vector(), s.gpr[kRdx] << 32 | s.gpr[kRax]};
}

}  // namespace

CONFORMANCE(msrs_keep_what_they_may_hold) {
  Rig rig{accelerator};
  const struct {
    std::uint32_t index;
    std::uint64_t value;
  } kept[] = {
      {0x174, 0x1238},               {0x175, 0xffff'8000'0000'1000},
      {0x176, 0x7fff'ffff'f000},     {0x277, 0x0007'0106'0007'0406},
      {0x2ff, 0xc06},                {0x200, 0x8000'0006},
      {0x201, 0x3f'f000'0800},       {0x250, 0x0606'0606'0606'0606},
      {0xc000'0081, 0x23'0010'0000'0000}, {0xc000'0082, 0xffff'ffff'8000'0000},
      {0xc000'0084, 0x4'7700},       {0xc000'0102, 0x7000'1234'5678},
      {0xc000'0103, 5},              {0x3b, 0x1'0000},
      {0x400, ~0ull},                {0xc000'0100, 0x1234'5678'9abc},
      {0xc000'0101, 0xffff'9000'0000'0000},
  };
  for (const auto& row : kept) {
    const MsrResult got = access_msr(rig, row.index, row.value);
    EXPECT_EQ(got.vector, -1);
    EXPECT_EQ(got.value, row.value);
  }
  // SDM Vol. 4, IA32_PRED_CMD: a barrier, which leaves nothing to read.
  constexpr std::uint64_t kRead = sizeof k_msr - 3;  // RDMSR; HLT
  EXPECT_EQ(access_msr(rig, 0x49, 1).vector, 13);
  EXPECT_EQ(rig.get(rig.reg(kRsp) + 8) - Rig::kCode, kRead);
  // The local APIC's go to the platform.
  EXPECT_EQ(access_msr(rig, 0x808, 0x30).value, 0x30u);
  EXPECT_EQ(rig.platform.apic_msrs[0x808], 0x30u);
  EXPECT_EQ(access_msr(rig, 0x1b, std::nullopt).value, 0xfee0'0900u);
}

CONFORMANCE(msrs_refuse_what_they_may_not) {
  Rig rig{accelerator};
  const struct {
    std::uint32_t index;
    std::optional<std::uint64_t> value;
  } refused[] = {
      {0x277, 2},                       // PAT: a reserved type
      {0x175, 0x8000'0000'0000'0000},   // not canonical
      {0xc000'0082, 0x8000'0000'0000},  // not canonical
      {0xc000'0100, 0x8000'0000'0000},
      {0xfe, 1},                        // IA32_MTRRCAP is read-only
      {0x2ff, 0x1000},                  // reserved bits
      {0xc000'0080, 0x1'0d01},          // EFER: reserved bits
      {0x803, std::nullopt},            // an x2APIC register that the platform has not
      {0x49, 2},                        // IA32_PRED_CMD: reserved bits
      {0x12345, std::nullopt},          // nothing
      {0xc001'0015, std::nullopt},      // HWCR, of AMD's CPUs
      {0x4b56'4d00, std::nullopt},      // nothing either: no leaf of KVM's is offered
      {0x4b56'4d01, 0x2'1001},
  };
  for (const auto& row : refused) {
    const MsrResult got = access_msr(rig, row.index, row.value);
    if (!EXPECT_EQ(got.vector, 13)) std::fprintf(stderr, "… MSR 0x%x\n", row.index);
    EXPECT_EQ(rig.get(rig.reg(kRsp)), 0u);
  }
}

CONFORMANCE(cpuid_is_the_policys) {
  Rig rig{accelerator};
  constexpr struct {
    std::uint32_t leaf, sub;
    bool features, frequency;
  } asked[] = {{0, 0, false, false},     {1, 0, true, false},        {2, 0, false, false},
               {4, 0, false, false},     {4, 3, false, false},       {4, 4, false, false},
               {7, 0, true, false},      {0xb, 0, false, false},     {0xb, 1, false, false},
               {0x16, 0, false, true},   {0x4000'0000, 0, false, false},
               {0x4000'0001, 0, false, false}, {0x8000'0000, 0, false, false},
               {0x8000'0001, 0, true, false},  {0x8000'0002, 0, false, false},
               {0x8000'0008, 0, false, false}};
  std::uint32_t n = 0;
  for (const auto& row : asked) {
    rig.put(Rig::kData + 4 + 8 * n, row.leaf);
    rig.put(Rig::kData + 8 + 8 * n++, row.sub);
  }
  rig.put(Rig::kData, n);
  EXPECT_EQ(rig.run(k_cpuid_list), Exit::kHalted);
  const CpuidSubject subject{0, 1, 1'000'000'000, true};
  for (std::uint32_t i = 0; i < n; ++i) {
    const auto got = rig.get<CpuidRegisters>(Rig::kData + 0x400 + 16 * i);
    const CpuidRegisters policy = cpuid_policy(subject, asked[i].leaf, asked[i].sub);
    if (asked[i].frequency) continue;
    // A host may lack features. What it adds is told: KVM under which guest code runs as a plain
    // process (kvm_pvm) cannot hide the hardware's.
    if (asked[i].features) {
      const std::uint32_t added[] = {asked[i].leaf == 7 ? got.ebx & ~policy.ebx : 0,
                                     got.ecx & ~policy.ecx, got.edx & ~policy.edx};
      const bool adds = (added[0] | added[1] | added[2]) != 0;
      if (in_software(accelerator)) EXPECT(!adds);
      if (adds)
        std::printf("skipped on %s: leaf 0x%x shows what the host was told to hide (%x %x %x)\n",
                    std::string{accelerator.name()}.c_str(), asked[i].leaf, added[0], added[1],
                    added[2]);
      if (asked[i].leaf == 1) EXPECT_EQ(got.ecx & 0x8120'0000, 0x8120'0000u);
      continue;
    }
    EXPECT_EQ(got.eax, policy.eax);
    EXPECT_EQ(got.ebx, policy.ebx);
    EXPECT_EQ(got.ecx, policy.ecx);
    EXPECT_EQ(got.edx, policy.edx);
  }
}

namespace {

// What the host's kernel says of its CPU: the value of `key` in /proc/cpuinfo; "" where there is none.
std::string told_by_host(const std::string& key) {
  std::ifstream info{"/proc/cpuinfo"};
  for (std::string line; std::getline(info, line);) {
    const auto colon = line.find(':');
    if (colon == std::string::npos || line.substr(0, line.find_last_not_of("\t ", colon - 1) + 1) != key)
      continue;
    return colon + 2 < line.size() ? line.substr(colon + 2) : "";
  }
  return {};
}

std::vector<CpuidRegisters> ask_cpuid(Rig& rig, std::initializer_list<std::uint32_t> leaves) {
  std::uint64_t at = Rig::kData;
  rig.put(at, static_cast<std::uint32_t>(leaves.size()));
  for (const std::uint32_t leaf : leaves) {
    rig.put(at + 4, leaf);
    rig.put(at + 8, std::uint32_t{0});
    at += 8;
  }
  EXPECT_EQ(rig.run(k_cpuid_list), Exit::kHalted);
  std::vector<CpuidRegisters> out;
  for (std::size_t i = 0; i < leaves.size(); ++i)
    out.push_back(rig.get<CpuidRegisters>(Rig::kData + 0x400 + 16 * i));
  return out;
}

}  // namespace

// Family and model: SDM Vol. 2, CPUID leaf 1.
CONFORMANCE(a_guest_sees_the_hosts_cpu_where_it_is_asked_for) {
  const Accelerator* const with_host_cpu = accelerator.with_host_cpu();
  EXPECT_EQ(with_host_cpu != nullptr, accelerator.name() == "kvm");
  if (with_host_cpu == nullptr) return;
  Rig rig{*with_host_cpu};
  const auto leaves =
      ask_cpuid(rig, {0, 1, 0x8000'0002, 0x8000'0003, 0x8000'0004, 0x4000'0000, 0xd, 0xa});
  const std::uint32_t signature = leaves[1].eax, family = signature >> 8 & 15;
  const std::uint32_t model = signature >> 4 & 15, extended = signature >> 16 & 15;
  EXPECT_EQ(std::to_string(family == 15 ? family + (signature >> 20 & 0xff) : family),
            told_by_host("cpu family"));
  EXPECT_EQ(std::to_string(family == 6 || family == 15 ? extended << 4 | model : model),
            told_by_host("model"));
  char text[49] = {};
  std::memcpy(text, &leaves[0].ebx, 4);
  std::memcpy(text + 4, &leaves[0].edx, 4);
  std::memcpy(text + 8, &leaves[0].ecx, 4);
  EXPECT_EQ(std::string{text}, told_by_host("vendor_id"));
  std::memcpy(text, &leaves[2], 48);
  EXPECT_EQ(std::string{text}, told_by_host("model name"));
  EXPECT_EQ(leaves[5].ebx, 0x76796862u);  // "bhyv": the hypervisor is still ours
  EXPECT_EQ(leaves[6].eax, 0u);  // no XSAVE; EBX is a size that the kernel works out by itself
  EXPECT(leaves[7] == CpuidRegisters{});
  // And beside it a machine with the policy's.
  Rig stable{accelerator};
  EXPECT_EQ(ask_cpuid(stable, {0})[0].ebx, 0x756e'6547u);  // "Genu"
}

// Linux, Documentation/virt/kvm/x86/cpuid.rst and msr.rst: the leaves name the clock and nothing else,
// and only its MSRs are there.
CONFORMANCE(kvms_clock_is_there_where_the_hosts_cpu_is) {
  const Accelerator* const with_host_cpu = accelerator.with_host_cpu();
  Rig rig{with_host_cpu == nullptr ? accelerator : *with_host_cpu};
  const auto leaves = ask_cpuid(rig, {0x4000'0100, 0x4000'0101});
  if (rig.machine().clock() == nullptr) {
    EXPECT(leaves[0] == CpuidRegisters{});
    return;
  }
  EXPECT_EQ(leaves[0].eax, 0x4000'0101u);
  EXPECT_EQ(leaves[0].ebx, 0x4b4d'564bu);  // "KVMK"
  EXPECT_EQ(leaves[0].ecx, 0x564b'4d56u);
  EXPECT_EQ(leaves[0].edx, 0x4du);
  EXPECT_EQ(leaves[1].eax & ~(1u << 24), 1u << 3);
  const std::uint64_t page = Rig::kData + 0x1001;
  EXPECT_EQ(access_msr(rig, 0x4b56'4d01, page).value, page);
  EXPECT_EQ(access_msr(rig, 0x4b56'4d01, 0).value, 0u);
  // Where no memory is: taken, and nothing comes of it.
  EXPECT_EQ(access_msr(rig, 0x4b56'4d01, 0xffff'ffff'ffff'ffff).vector, -1);
  EXPECT_EQ(access_msr(rig, 0x4b56'4d00, 0xffff'ffff'ffff'ffff).vector, -1);
  for (const std::uint32_t other : {0x11u, 0x12u, 0x4b56'4d02u, 0x4b56'4d03u, 0x4b56'4d04u})
    EXPECT_EQ(access_msr(rig, other, std::nullopt).vector, 13);
}

// APM Vol. 2, Appendix A: what AMD's CPUs have, their guests find.
CONFORMANCE(registers_of_amds_are_there_where_the_cpu_is_amds) {
  const Accelerator* const with_host_cpu = accelerator.with_host_cpu();
  if (with_host_cpu == nullptr) return;
  Rig rig{*with_host_cpu};
  const bool amd = ask_cpuid(rig, {0})[0].ecx == 0x444d'4163;  // "cAMD"
  const MsrResult hwcr = access_msr(rig, 0xc001'0015, 0);
  EXPECT_EQ(hwcr.vector, amd ? -1 : 13);
  if (amd) EXPECT_EQ(hwcr.value, 1u << 24);
}

CONFORMANCE(halts_until_an_interrupt_or_nmi_wakes_it) {
  Rig rig{accelerator};
  rig.handler(0x40, k_count_0);
  rig.handler(2, k_count_1);
  EXPECT_EQ(rig.run(k_halt_and_wake), Exit::kHalted);
  EXPECT(rig.state().activity == Activity::kHalted);
  EXPECT_EQ(rig.vcpu->run(), Exit::kHalted);  // nothing woke it
  EXPECT_EQ(rig.get(Rig::kData + 16), 0u);
  rig.platform.interrupt(0x40);
  EXPECT_EQ(rig.vcpu->run(), Exit::kHalted);
  EXPECT_EQ(rig.get(Rig::kData), 1u);
  EXPECT_EQ(rig.get(Rig::kData + 16), 1u);
  rig.signals.raise(Signal::kNmi);
  EXPECT_EQ(rig.vcpu->run(), Exit::kHalted);
  EXPECT_EQ(rig.get(Rig::kData + 8), 1u);
  EXPECT_EQ(rig.get(Rig::kData + 16), 2u);
  rig.platform.interrupt(0x40);
  EXPECT_EQ(rig.vcpu->run(), Exit::kHalted);  // IF is off now
  EXPECT_EQ(rig.get(Rig::kData), 1u);
}

CONFORMANCE(an_interrupt_waits_for_its_window) {
  for (const bool by_stack : {false, true}) {
    Rig rig{accelerator};
    rig.handler(0x40, k_count_0);
    rig.platform.on_out = [&](std::uint16_t, std::uint32_t) { rig.platform.interrupt(0x40); };
    if (by_stack) {
      EXPECT_EQ(rig.run(k_shadow_mov_ss), Exit::kHalted);
    } else {
      EXPECT_EQ(rig.run(k_window), Exit::kHalted);
      EXPECT_EQ(rig.get(Rig::kData + 16), 0u);  // not while IF was off
    }
    // STI holds it for one instruction. Whether a MOV SS behind it holds it for another is left
    // open (SDM Vol. 3, "Masking Exceptions and Interrupts When Switching Stacks").
    if (!by_stack) EXPECT_EQ(rig.reg(kRbx), 0u);
    EXPECT_EQ(rig.reg(kRdx), 1u);
    EXPECT_EQ(rig.get(Rig::kData), 1u);
    EXPECT_EQ(rig.platform.vectors.size(), 0u);
  }
}

CONFORMANCE(nmis_do_not_nest) {
  Rig rig{accelerator};
  rig.handler(2, k_nmi_nested);
  rig.platform.on_out = [&](std::uint16_t, std::uint32_t) { rig.signals.raise(Signal::kNmi); };
  EXPECT_EQ(rig.run(k_ask_and_go_on), Exit::kHalted);
  EXPECT_EQ(rig.get(Rig::kData + 16), 1u);  // one at a time
  EXPECT_EQ(rig.get(Rig::kData + 8), 2u);
  EXPECT(!rig.state().nmi_blocked);
}

CONFORMANCE(cr8_is_the_platforms_task_priority) {
  Rig rig{accelerator};
  EXPECT_EQ(rig.run(k_task_priority), Exit::kHalted);
  EXPECT_EQ(rig.reg(kR8), 9u);
  EXPECT_EQ(rig.reg(kR9), 3u);
  EXPECT_EQ(rig.platform.priority, 3u);
}

CONFORMANCE(exceptions_arrive_with_their_error_codes) {
  struct Row {
    std::span<const std::uint8_t> code;
    int vector;
    std::optional<std::uint64_t> error;
    unsigned pushed_at;  // RIP in the frame, from the guest's start
  };
  const Row rows[] = {
      {k_divide_by_zero, 0, std::nullopt, 2}, {k_breakpoint, 3, std::nullopt, 1},
      {k_undefined, 6, std::nullopt, 0},      {k_software_interrupt, 0x55, std::nullopt, 2},
      {k_protection, 13, 0x1238, 5},          {k_page_fault, 14, 0, 10},
      {k_page_fault_write, 14, 2, 10},        {k_non_canonical, 13, 0, 10},
      {k_x87_disabled, 7, std::nullopt, 9},
  };
  for (const Row& row : rows) {
    Rig rig{accelerator};
    EXPECT_EQ(rig.run(row.code), Exit::kHalted);
    EXPECT_EQ(rig.vector(), row.vector);
    std::uint64_t frame = rig.reg(kRsp);
    if (row.error) {
      EXPECT_EQ(rig.get(frame), *row.error);
      frame += 8;
    }
    EXPECT_EQ(rig.get(frame) - Rig::kCode, row.pushed_at);
    EXPECT_EQ(rig.get(frame + 8), std::uint64_t{Rig::kCode64});
    EXPECT_EQ(rig.get(frame + 24), Rig::kStack);
    if (row.vector == 14) EXPECT_EQ(rig.state().cr2, 0x40'0000'1000u);
  }
}

CONFORMANCE(a_single_step_traps_behind_its_instruction) {
  Rig rig{accelerator};
  EXPECT_EQ(rig.run(k_single_step), Exit::kHalted);
  EXPECT_EQ(rig.vector(), 1);
  EXPECT_EQ(rig.state().dr6 & 0x4000, 0x4000u);
  EXPECT_EQ(rig.get(rig.reg(kRsp)) - Rig::kCode, sizeof k_single_step - 2);
}

namespace {

using Pages = std::vector<std::uint64_t>;
// Those that k_dirty_pages writes.
const Pages kWrittenPages = {0x10,  0x100, 0x102, 0x103, 0x104, 0x105,
                             0x106, 0x107, 0x108, 0x10a, 0x10c, 0x10d};

void run_again(Rig& rig) {
  rig.change([](CpuState& s) {
    s.rip = Rig::kCode;
    s.activity = Activity::kRunning;
    s.fpu = FpuState{};
  });
  EXPECT_EQ(rig.vcpu->run(), Exit::kHalted);
  EXPECT_EQ(rig.vector(), -1);
}

void expect_written(Rig& rig, const Pages& wanted) {
  const auto got = rig.machine().take_written();
  REQUIRE(got.has_value());
  EXPECT_EQ(got->size(), wanted.size());
  EXPECT(*got == wanted);
}

}  // namespace

CONFORMANCE(the_dirty_log_has_exactly_the_pages_written) {
  Rig rig{accelerator};
  EXPECT_EQ(rig.run(k_dirty_pages), Exit::kHalted);  // A and D bits are set from here on
  EXPECT(rig.machine().log_writes(true));
  expect_written(rig, {});
  for (int round = 0; round < 3; ++round) {
    run_again(rig);
    expect_written(rig, kWrittenPages);
    expect_written(rig, {});
  }
  // A device's write, that a vCPU's joins on the next page.
  rig.put(0x111ffc, ~0ull);
  expect_written(rig, {0x111, 0x112});
  EXPECT(rig.machine().log_writes(false));
  run_again(rig);
  EXPECT(rig.machine().log_writes(true));
  expect_written(rig, {});
  run_again(rig);
  expect_written(rig, kWrittenPages);
}

// SDM Vol. 3, "Accessed and Dirty Flags": the processor writes them.
CONFORMANCE(the_dirty_log_has_the_page_tables_that_the_processor_writes) {
  Rig rig{accelerator};
  rig.load(k_dirty_pages);
  EXPECT(rig.machine().log_writes(true));
  run_again(rig);
  Pages wanted = {1, 2, 3, 6};  // 6: the directory of the device's address
  wanted.insert(wanted.end(), kWrittenPages.begin(), kWrittenPages.end());
  expect_written(rig, wanted);
  run_again(rig);
  expect_written(rig, kWrittenPages);
}

CONFORMANCE(a_triple_fault_shuts_down) {
  Rig rig{accelerator};
  EXPECT_EQ(rig.run(k_triple_fault), Exit::kTripleFault);
  EXPECT_EQ(rig.vcpu->run(), Exit::kTripleFault);
  // Reset brings it back.
  rig.set_long64();
  EXPECT_EQ(rig.run(k_ports), Exit::kHalted);
}

CONFORMANCE(real_mode_from_reset) {
  Rig rig{accelerator};
  CpuState s = reset_state(true);
  s.segments[kCs].base = 0x10000;
  s.segments[kCs].selector = 0x1000;
  s.segments[kDs].base = Rig::kData;
  s.segments[kDs].selector = 0x2000;
  s.rip = 0;
  s.gpr[kRsp] = 0x7000;
  rig.load(k_real_mode);
  rig.vcpu->set_state(s);
  EXPECT_EQ(rig.vcpu->run(), Exit::kHalted);
  EXPECT_EQ(rig.get<std::uint16_t>(Rig::kData + 0x10), 0x1234u);
  expect_accesses(rig.platform.outputs, {{0x80, 1, 0x12}});
  EXPECT_EQ(rig.reg(kRdx) & 0xffff, 0x6ffcu);
  EXPECT_EQ(rig.reg(kRsp) & 0xffff, 0x6ffeu);
}

CONFORMANCE(init_and_kicks_leave_at_a_boundary) {
  Rig rig{accelerator};
  rig.change([](CpuState& s) { s.gpr[kR8] = 100; });
  unsigned kicks = 0;
  rig.platform.on_out = [&](std::uint16_t, std::uint32_t n) {
    rig.signals.raise(n == 50 ? Signal::kInit : Signal::kExit);
  };
  Exit exit = rig.run(k_count_out);
  for (; exit == Exit::kKicked || exit == Exit::kInit; exit = rig.vcpu->run()) {
    ++kicks;
    EXPECT_EQ(rig.reg(kRax), kicks - 1);  // the OUT has retired, and INC has not
    EXPECT_EQ(rig.state().rip - Rig::kCode, 7u);
    if (exit == Exit::kInit) rig.signals.clear(Signal::kInit);
  }
  EXPECT_EQ(exit, Exit::kHalted);
  EXPECT_EQ(kicks, 100u);
}

CONFORMANCE(state_goes_in_and_comes_out_whole) {
  Rig rig{accelerator};
  CpuState s = rig.state();
  for (unsigned i = 0; i < 16; ++i) {
    s.gpr[i] = 0x0101'0101'0101'0101 * (i + 1);
    s.fpu.xmm[i].qword = {~0ull - i, 0x1234'5678'0000'0000u + i};
  }
  for (unsigned i = 0; i < 8; ++i) s.fpu.physical[i] = {0x8000'0000'0000'0000 + i, static_cast<std::uint16_t>(0x3fff + i)};
  s.fpu.status = 3 << 11;
  s.fpu.tags = 0xc000;  // seven valid, physical 7 empty
  s.fpu.control = 0x27f;
  s.fpu.mxcsr = 0x1fa0;
  s.rflags = 0xcd7 & ~0x100u;
  s.dr = {0x1000, 0x2000, 0x3000, 0x4000};
  s.cr2 = 0x1234'5000;
  s.star = 0x23'0010'0000'0000;
  s.lstar = 0xffff'8000'1234'5678;
  s.fmask = 0x700;
  s.kernel_gs_base = 0x7fff'1234'0000;
  s.sysenter_cs = 0x10;
  s.sysenter_eip = 0xffff'8000'0000'1000;
  s.tsc_aux = 7;
  s.pat = 0x0007'0406'0007'0106;
  s.mtrr_def_type = 0xc06;
  s.mtrr_fixed[3] = 0x0505'0505'0505'0505;
  s.segments[kFs].base = 0x7fff'0000'1000;
  s.segments[kGs].base = 0xffff'9000'0000'0000;
  s.interrupt_shadow = true;
  s.nmi_blocked = true;
  s.accepted_interrupt = 0x140;
  rig.vcpu->set_state(s);
  CpuState got = rig.vcpu->state();
  const auto text = [](CpuState& state) {
    return state::to_value(state).print();
  };
  EXPECT_EQ(text(got), text(s));
}

CONFORMANCE(an_accepted_interrupt_is_delivered_first) {
  Rig rig{accelerator};
  rig.handler(0x40, k_count_0);
  rig.load(k_ask_and_go_on);
  rig.change([](CpuState& s) {
    s.accepted_interrupt = 0x140;
    s.rflags |= 0x200;
    s.activity = Activity::kHalted;
  });
  EXPECT_EQ(rig.vcpu->run(), Exit::kHalted);
  EXPECT_EQ(rig.get(Rig::kData), 1u);
  EXPECT_EQ(rig.platform.outputs.size(), 1u);
}

namespace {

// Runs `mover` on `from`; at each OUT in `at` it moves to the other of the two.
void move_between(const Accelerator& from, const Accelerator& to, unsigned every) {
  Rig first{from}, second{to};
  Rig* here = &first;
  Rig* there = &second;
  unsigned outs = 0, moves = 0;
  for (Rig* rig : {here, there})
    rig->platform.on_out = [&outs, every, rig](std::uint16_t, std::uint32_t) {
      if (++outs % every == 0) rig->signals.raise(Signal::kExit);
    };
  Exit exit = here->run(k_mover);
  for (; exit == Exit::kKicked; exit = here->vcpu->run()) {
    std::memcpy(there->at(0), here->at(0), Rig::kSize);
    there->memory->written(Gpa{0}, Rig::kSize);
    there->vcpu->set_state(here->vcpu->state());
    std::swap(here, there);
    ++moves;
  }
  EXPECT_EQ(exit, Exit::kHalted);
  EXPECT_EQ(here->vector(), -1);
  EXPECT_EQ(outs, 16u);
  EXPECT_EQ(moves, 16 / every);
  const CpuState s = here->state();
  EXPECT_EQ(s.gpr[kR8], 0u);  // 16 - 16
  EXPECT_EQ(s.gpr[kR9], ~0ull);
  EXPECT_EQ(s.gpr[kR10], 0x123u + 16 * 5);
  EXPECT_EQ(s.gpr[kR11], 0x1010u);
  EXPECT_EQ(s.gpr[kR12], 136u);  // 16 + 15 + … + 1
  EXPECT_EQ(s.gpr[kR13], 16u);   // STC lived through every OUT
  EXPECT_EQ(here->get<double>(Rig::kData), 3.14159265358979323846 + 16);
  EXPECT_EQ(here->get(Rig::kData + 8), 1u);
}

}  // namespace

CONFORMANCE(state_moves_from_any_accelerator_to_any) {
  for (const Accelerator* other : usable()) {
    if (!together(accelerator, *other)) continue;
    for (const unsigned every : {1u, 3u, 7u}) move_between(accelerator, *other, every);
  }
}

TEST_MAIN()

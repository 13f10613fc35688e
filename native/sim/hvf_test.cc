// What the accelerator does where VMX gives up: events into MMIO, code out of MMIO, states that VM
// entry refuses.
#include "accel/conformance_rig.h"
#include "accelerator.h"

using namespace hv;
using namespace hv::conformance;

namespace {

constexpr unsigned kRsp = 4, kRbx = 3;
constexpr std::uint64_t kDevice = RecordingPlatform::kDevice;

}  // namespace

TEST(an_interrupt_is_delivered_to_a_stack_that_is_a_device) {
  Rig rig{sim::simulated_hvf()};
  rig.handler(0x40, k_count_0);
  rig.change([](CpuState& s) { s.gpr[kRsp] = kDevice + 64; });
  rig.platform.interrupt(0x40);
  // sti; nop; hlt: the handler runs behind the NOP and comes back by the frame in the device.
  constexpr std::uint8_t kWindow[] = {0xfb, 0x90, 0xf4};
  EXPECT_EQ(rig.run(kWindow), Exit::kHalted);
  EXPECT_EQ(rig.get(Rig::kData), 1u);
  EXPECT_EQ(rig.reg(kRsp), kDevice + 64);
  std::uint64_t frame[5];
  std::memcpy(frame, rig.platform.device.data() + 24, sizeof frame);
  EXPECT_EQ(frame[0], Rig::kCode + 2);
  EXPECT_EQ(frame[1], std::uint64_t{Rig::kCode64});
  EXPECT_EQ(frame[3], kDevice + 64);
}

TEST(a_fault_is_delivered_to_a_stack_that_is_a_device) {
  Rig rig{sim::simulated_hvf()};
  rig.change([](CpuState& s) { s.gpr[kRsp] = kDevice + 64; });
  EXPECT_EQ(rig.run(k_undefined), Exit::kHalted);
  EXPECT_EQ(rig.vector(), 6);
  EXPECT_EQ(rig.reg(kRsp), kDevice + 24);
}

TEST(code_runs_out_of_a_device) {
  Rig rig{sim::simulated_hvf()};
  // out 0x90, al; mov ebx, 7; hlt
  constexpr std::uint8_t kInDevice[] = {0xe6, 0x90, 0xbb, 7, 0, 0, 0, 0xf4};
  std::copy(std::begin(kInDevice), std::end(kInDevice), rig.platform.device.begin());
  rig.change([](CpuState& s) { s.rip = kDevice; });
  EXPECT_EQ(rig.vcpu->run(), Exit::kHalted);
  EXPECT_EQ(rig.platform.outputs.size(), 1u);
  EXPECT_EQ(rig.reg(kRbx), 7u);
  EXPECT_EQ(rig.state().rip, kDevice + sizeof kInDevice);
}

TEST(a_guest_in_a_state_that_vm_entry_refuses_goes_on) {
  Rig rig{sim::simulated_hvf()};
  // DS as no load leaves it: not accessed. (The log says that entry was refused.)
  rig.change([](CpuState& s) { s.segments[kDs].access = 0xc092; });
  EXPECT_EQ(rig.run(k_ports), Exit::kHalted);
  EXPECT_EQ(rig.platform.outputs.size(), 6u);
}

TEST(a_second_vm_is_refused_while_there_is_one) {
  Rig rig{sim::simulated_hvf()};
  std::string error;
  const auto memory = GuestMemory::create(16 * kPageSize, error);
  EXPECT(sim::simulated_hvf().create_machine(*memory) == nullptr);
  EXPECT_EQ(rig.run(k_ports), Exit::kHalted);
}

TEST_MAIN()

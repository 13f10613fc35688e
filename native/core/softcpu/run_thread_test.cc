// Two vCPUs over one memory: code that one writes while the other runs it, and locked updates.
#include <array>
#include <chrono>
#include <thread>

#include "softcpu/test_machine.h"

namespace hv::softcpu {

namespace {

using Bytes = std::vector<std::uint8_t>;

// Two CPUs in the long mode of a TestMachine, each with a platform and signals of its own.
class Pair {
 public:
  Pair() {
    base_.enter_long64();
    for (VcpuIndex n = 0; n < 2; ++n) {
      list_[n] = &signals_[n];
      cpus_[n] = std::make_unique<Cpu>(
          VcpuWiring{n, 2, platforms_[n], signals_[n], list_}, base_.memory());
    }
  }
  TestMachine& machine() { return base_; }

  void start(VcpuIndex n, std::uint64_t at, const Bytes& code) {
    base_.put(at, code);
    CpuState s = base_.state();
    s.rip = at;
    s.gpr[kRsp] = TestMachine::kStack - 0x8000 * n;
    cpus_[n]->set_state(s);
  }

  // False: one of them did not halt within the time that any machine needs.
  bool run() {
    std::array<Exit, 2> exits{};
    std::atomic<int> done{0};
    std::vector<std::thread> threads;
    for (unsigned n = 0; n < 2; ++n)
      threads.emplace_back([&, n] {
        exits[n] = cpus_[n]->run();
        ++done;
      });
    for (int waited = 0; done < 2 && waited < 60'000; waited += 5)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    for (VcpuSignals& signals : signals_) signals.raise(Signal::kExit);
    for (std::thread& thread : threads) thread.join();
    return exits[0] == Exit::kHalted && exits[1] == Exit::kHalted;
  }
  CpuState state(VcpuIndex n) const { return cpus_[n]->state(); }

 private:
  TestMachine base_;
  std::array<FakePlatform, 2> platforms_;
  std::array<VcpuSignals, 2> signals_;
  std::array<VcpuSignals*, 2> list_{};
  std::array<std::unique_ptr<Cpu>, 2> cpus_;
};

}  // namespace

// On each of 200 pages CPU 0 writes 1 to 50 into the immediate of a function while CPU 1 calls it
// until it returns 50. The pages are data to CPU 0 before they become code to CPU 1.
TEST(code_written_by_one_vcpu_reaches_the_other) {
  Pair pair;
  constexpr std::uint64_t kFunctions = 0x100000, kCount = 200;
  for (std::uint64_t n = 0; n < kCount; ++n)
    pair.machine().put(kFunctions + n * 0x1000, {0xb8, 0, 0, 0, 0, 0xc3});  // MOV EAX, 0; RET
  const Bytes writer = {
      0xbf, 0x01, 0x00, 0x10, 0x00,                          // mov edi, 0x100001
      0xb9, 0xc8, 0x00, 0x00, 0x00,                          // mov ecx, 200
      0x31, 0xc0,                                            // page: xor eax, eax
      0xff, 0xc0,                                            // next: inc eax
      0x89, 0x07,                                            // mov [rdi], eax
      0xba, 0x14, 0x00, 0x00, 0x00,                          // mov edx, 20
      0xff, 0xca,                                            // delay: dec edx
      0x75, 0xfc,                                            // jnz delay
      0x83, 0xf8, 0x32,                                      // cmp eax, 50
      0x75, 0xee,                                            // jne next
      0x48, 0x39, 0x3c, 0x25, 0x00, 0x00, 0x02, 0x00,        // seen: cmp [0x20000], rdi
      0x75, 0xf6,                                            // jne seen
      0x48, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00,              // add rdi, 0x1000
      0xff, 0xc9,                                            // dec ecx
      0x75, 0xd7,                                            // jnz page
      0xf4};
  const Bytes runner = {
      0xbf, 0x01, 0x00, 0x10, 0x00,                          // mov edi, 0x100001
      0xb9, 0xc8, 0x00, 0x00, 0x00,                          // mov ecx, 200
      0x31, 0xdb,                                            // page: xor ebx, ebx
      0x48, 0x8d, 0x47, 0xff,                                // again: lea rax, [rdi - 1]
      0xff, 0xd0,                                            // call rax
      0x39, 0xd8,                                            // cmp eax, ebx
      0x72, 0x1b,                                            // jb backwards
      0x89, 0xc3,                                            // mov ebx, eax
      0x83, 0xf8, 0x32,                                      // cmp eax, 50
      0x75, 0xef,                                            // jne again
      0x48, 0x89, 0x3c, 0x25, 0x00, 0x00, 0x02, 0x00,        // mov [0x20000], rdi
      0x48, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00,              // add rdi, 0x1000
      0xff, 0xc9,                                            // dec ecx
      0x75, 0xda,                                            // jnz page
      0xf4,                                                  //
      0x0f, 0x0b};                                           // backwards: ud2
  pair.start(0, TestMachine::kCode, writer);
  pair.start(1, TestMachine::kCode + 0x1000, runner);
  REQUIRE(pair.run());
  EXPECT_EQ(pair.state(0).gpr[kRcx], 0u);
  EXPECT_EQ(pair.state(1).gpr[kRcx], 0u);
}

TEST(locked_updates_lose_nothing) {
  Pair pair;
  // MOV ECX, 100000; again: LOCK INC QWORD [0x20000]; LOCK XADD [0x20008], RAX (1); MOV EAX, 1;
  // DEC ECX; JNZ again
  const Bytes code = {0xb9, 0xa0, 0x86, 0x01, 0x00, 0xb8, 0x01, 0x00, 0x00, 0x00,
                      0xf0, 0x48, 0xff, 0x04, 0x25, 0x00, 0x00, 0x02, 0x00,
                      0xf0, 0x48, 0x0f, 0xc1, 0x04, 0x25, 0x08, 0x00, 0x02, 0x00,
                      0xff, 0xc9, 0x75, 0xe4, 0xf4};
  pair.start(0, TestMachine::kCode, code);
  pair.start(1, TestMachine::kCode + 0x1000, code);
  REQUIRE(pair.run());
  EXPECT_EQ(pair.machine().get64(0x20000), 200'000u);
  EXPECT_EQ(pair.machine().get64(0x20008), 200'000u);
}

}  // namespace hv::softcpu

TEST_MAIN()

// Which loads are found to wait for themselves.
#include "softcpu/translator/recurrence.h"

#include <deque>

#include "softcpu/test_machine.h"

using namespace hv;
using namespace hv::softcpu;
using namespace hv::softcpu::translator;

namespace {

constexpr std::uint64_t kHead = 0x40'1000;

// Instructions of a loop's body, ended by a branch back to its begin.
class Loop {
 public:
  Loop& insn(std::initializer_list<std::uint8_t> bytes, Step::Way way = Step::Way::kNext) {
    std::vector<std::uint8_t> padded{bytes};
    padded.resize(16);
    const Decoded decoded = decode(padded, CodeSize::k64);
    EXPECT(decoded.status == DecodeStatus::kOk);
    insns_.push_back(decoded.insn);
    steps_.push_back({way, &insns_.back()});
    length_ += decoded.insn.length;
    return *this;
  }
  Loop& past() { return insn({0x74, 0x10}, Step::Way::kPast); }  // a branch out of the middle
  Loop& back() { return insn({0x75, static_cast<std::uint8_t>(-(length_ + 2))}); }
  std::uint64_t loads() const { return recurrent_loads(steps_, kHead); }

 private:
  std::deque<Insn> insns_;
  std::vector<Step> steps_;
  int length_ = 0;
};

}  // namespace

TEST(a_table_looked_up_by_what_it_gave) {  // CRC-32
  Loop loop;
  loop.insn({0x0f, 0xb6, 0x17})                                   // movzx edx, byte [rdi]
      .insn({0x48, 0xff, 0xc7})                                   // inc rdi
      .insn({0x31, 0xc2})                                         // xor edx, eax
      .insn({0xc1, 0xe8, 0x08})                                   // shr eax, 8
      .insn({0x0f, 0xb6, 0xd2})                                   // movzx edx, dl
      .insn({0x33, 0x04, 0x95, 0x00, 0x60, 0x4b, 0x00})           // xor eax, [4 * rdx + table]
      .insn({0x48, 0x39, 0xf7})                                   // cmp rdi, rsi
      .back();
  EXPECT_EQ(loop.loads(), 1u << 5);
}

TEST(a_list_that_is_followed) {
  Loop loop;
  loop.insn({0x48, 0x3b, 0x77, 0x08})  // cmp rsi, [rdi + 8]
      .past()                          // jz found
      .insn({0x48, 0x8b, 0x3f})        // mov rdi, [rdi]
      .insn({0x48, 0x85, 0xff})        // test rdi, rdi
      .back();
  EXPECT_EQ(loop.loads(), 1u << 2);
}

TEST(a_chain_over_two_turns) {
  Loop loop;
  loop.insn({0x48, 0x8b, 0x03})  // mov rax, [rbx]
      .insn({0x48, 0x8d, 0x59, 0x08})  // lea rbx, [rcx + 8]
      .insn({0x48, 0x89, 0xc1})  // mov rcx, rax
      .back();
  EXPECT_EQ(loop.loads(), 1u);
}

TEST(rows_and_gathered_elements_wait_for_nothing) {
  Loop sum;
  sum.insn({0x48, 0x03, 0x07})        // add rax, [rdi]
      .insn({0x48, 0x83, 0xc7, 0x08})  // add rdi, 8
      .insn({0x48, 0x39, 0xf7})        // cmp rdi, rsi
      .back();
  EXPECT_EQ(sum.loads(), 0u);
  Loop gather;
  gather.insn({0x8b, 0x17})            // mov edx, [rdi]
      .insn({0x48, 0x83, 0xc7, 0x04})  // add rdi, 4
      .insn({0x03, 0x04, 0x93})        // add eax, [rbx + 4 * rdx]
      .insn({0x48, 0x39, 0xf7})        // cmp rdi, rsi
      .back();
  EXPECT_EQ(gather.loads(), 0u);
}

TEST(what_is_no_loop_has_none) {
  Loop straight;
  straight.insn({0x48, 0x8b, 0x3f});  // mov rdi, [rdi]
  EXPECT_EQ(straight.loads(), 0u);
  Loop elsewhere;
  elsewhere.insn({0x48, 0x8b, 0x3f}).insn({0x75, 0x20});
  EXPECT_EQ(elsewhere.loads(), 0u);
}

// Two pages whose frames lie the other way round: what crosses from the first to the second is not
// to be found before the second's frame, though the turn before found its entry.
TEST(a_list_with_a_link_across_pages) {
  constexpr std::uint64_t kTable = 0x5000, kFirst = 0x20'0000, kSecond = 0x20'1000;
  constexpr std::uint64_t kFirstFrame = 0x30'1000, kSecondFrame = 0x30'0000;
  TestMachine m;
  m.enter_long64();
  m.put64(kTable, kFirstFrame | 7);
  m.put64(kTable + 8, kSecondFrame | 7);
  m.put64(TestMachine::kPd + 8, kTable | 7);
  m.put64(kSecondFrame + 0x10, kSecond + 0x20);
  m.put64(kSecondFrame + 0x20, kFirst + 0xffc);
  m.put32(kFirstFrame + 0xffc, kSecond + 0x10);
  m.put32(kSecondFrame, 0);
  m.put32(kSecondFrame - 4, kSecond + 0x30);
  m.put64(kSecondFrame + 0x30, kSecond + 0x30);
  m.change([&](CpuState& s) {
    s.gpr[kRdi] = kSecond + 0x10;
    s.gpr[kRcx] = 3 * 200 + 1;
  });
  // mov rdi, [rdi]; dec ecx; jnz back
  EXPECT_EQ(m.execute({0x48, 0x8b, 0x3f, 0xff, 0xc9, 0x75, 0xf9}).gpr[kRdi], kSecond + 0x20);
}

TEST_MAIN()

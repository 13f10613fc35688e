// Which accesses are found to lie near each other, by the register they go by.
#include "softcpu/translator/access_plan.h"

#include "base/test.h"
#include "softcpu/cpu.h"
#include "softcpu/decoder.h"

using namespace hv::softcpu;
using namespace hv::softcpu::translator;

namespace {

// Instructions, each with the access that its emitter would make.
class Code {
 public:
  Code& insn(std::initializer_list<std::uint8_t> bytes) {
    std::vector<std::uint8_t> padded{bytes};
    padded.resize(16);
    const Decoded decoded = decode(padded, CodeSize::k64);
    EXPECT(decoded.status == DecodeStatus::kOk);
    insns_.push_back(decoded.insn);
    return *this;
  }
  Code& at(std::uint8_t base, std::int64_t offset, bool writes = false,
           std::uint8_t index = kNoRegister, std::uint8_t scale = 0) {
    uses_.push_back({.insn = static_cast<std::uint8_t>(insns_.size() - 1), .base = base,
                     .index = index, .scale = scale, .offset = offset, .bytes = 8,
                     .writes = writes, .groupable = true});
    return *this;
  }
  Code& handled() {
    plan_.handler_at(static_cast<unsigned>(insns_.size() - 1));
    return *this;
  }
  bool form() {
    std::vector<Step> steps;
    for (const Insn& insn : insns_) steps.push_back({Step::Way::kNext, &insn});
    for (const Use& use : uses_) plan_.add(use);
    return plan_.form(steps);
  }
  AccessPlan::Role next(unsigned insn) { return plan_.next(insn); }

 private:
  std::vector<Insn> insns_;
  std::vector<Use> uses_;
  AccessPlan plan_;
};

}  // namespace

TEST(accesses_of_one_register_form_a_group) {
  Code code;
  code.insn({0x48, 0x8b, 0x47, 0x08}).at(kRdi, 8);         // mov rax, [rdi+8]
  code.insn({0x48, 0x89, 0x47, 0x20}).at(kRdi, 32, true);  // mov [rdi+32], rax
  EXPECT(code.form());
  const auto first = code.next(0), second = code.next(1);
  EXPECT(first.leads && !second.leads);
  EXPECT(first.group != nullptr && first.group == second.group);
  EXPECT_EQ(first.group->first, 8);
  EXPECT_EQ(first.group->last, 40);
  EXPECT(first.group->writes);
}

TEST(pushes_move_the_stack_by_constants) {
  Code code;
  code.insn({0x55}).at(kRsp, -8, true);                    // push rbp
  code.insn({0x53}).at(kRsp, -8, true);                    // push rbx
  code.insn({0x48, 0x83, 0xec, 0x18});                     // sub rsp, 24
  code.insn({0x48, 0x89, 0x04, 0x24}).at(kRsp, 0, true);   // mov [rsp], rax
  EXPECT(code.form());
  const auto first = code.next(0);
  EXPECT_EQ(first.group->first, -40);
  EXPECT_EQ(first.group->last, 0);
  EXPECT_EQ(first.group->moved, -8);
  EXPECT(code.next(1).group == first.group && code.next(3).group == first.group);
}

TEST(an_index_counts_by_its_scale) {
  Code code;
  code.insn({0x48, 0x8b, 0x14, 0xcf}).at(kRdi, 0, false, kRcx, 3);  // mov rdx, [rdi+rcx*8]
  code.insn({0x48, 0x83, 0xc1, 0x02});                              // add rcx, 2
  code.insn({0x48, 0x8b, 0x14, 0xcf}).at(kRdi, 0, false, kRcx, 3);
  EXPECT(code.form());
  EXPECT_EQ(code.next(0).group->last, 24);
}

TEST(a_register_that_is_loaded_ends_its_group) {
  Code code;
  code.insn({0x48, 0x8b, 0x3f}).at(kRdi, 0);        // mov rdi, [rdi]
  code.insn({0x48, 0x8b, 0x47, 0x08}).at(kRdi, 8);  // mov rax, [rdi+8]
  EXPECT(!code.form());
}

TEST(a_handler_in_between_ends_all_groups) {
  Code code;
  code.insn({0x48, 0x8b, 0x07}).at(kRdi, 0);
  code.insn({0x0f, 0xa2}).handled();                // cpuid
  code.insn({0x48, 0x8b, 0x47, 0x08}).at(kRdi, 8);
  EXPECT(!code.form());
}

TEST(what_lies_far_apart_goes_alone) {
  Code code;
  code.insn({0x48, 0x8b, 0x07}).at(kRdi, 0);
  code.insn({0x48, 0x8b, 0x87, 0x00, 0x08, 0, 0}).at(kRdi, 0x800);
  EXPECT(!code.form());
}

TEST_MAIN()

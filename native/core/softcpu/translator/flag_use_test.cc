#include "softcpu/translator/flag_use.h"

#include <initializer_list>

#include "base/test.h"
#include "softcpu/decoder.h"

namespace {

using namespace hv::softcpu;
using namespace hv::softcpu::translator;

// Whether the flags of the first instruction of this 64-bit code matter.
bool first_matters(std::initializer_list<unsigned> code) {
  std::vector<std::uint8_t> bytes;
  for (const unsigned value : code) bytes.push_back(static_cast<std::uint8_t>(value));
  std::vector<Insn> insns;
  for (std::size_t at = 0; at < bytes.size(); at += insns.back().length)
    insns.push_back(decode(std::span{bytes}.subspan(at), CodeSize::k64).insn);
  std::vector<Step> steps;
  for (const Insn& insn : insns) steps.push_back({Step::Way::kNext, &insn});
  return flags_matter(steps, 0);
}

}  // namespace

// imul eax, ecx first, each time.
TEST(flags_that_are_overwritten_do_not_matter) {
  EXPECT(!first_matters({0x0f, 0xaf, 0xc1, 0x01, 0xc8}));              // add eax, ecx
  EXPECT(!first_matters({0x0f, 0xaf, 0xc1, 0x89, 0xca, 0xf7, 0xd9}));  // mov edx, ecx; neg ecx
  EXPECT(!first_matters({0x0f, 0xaf, 0xc1, 0x8d, 0x41, 0x01, 0x85, 0xc0}));  // lea; test eax, eax
}

TEST(flags_that_something_looks_at_matter) {
  EXPECT(first_matters({0x0f, 0xaf, 0xc1}));                     // whoever comes next
  EXPECT(first_matters({0x0f, 0xaf, 0xc1, 0x11, 0xc8}));         // adc eax, ecx
  EXPECT(first_matters({0x0f, 0xaf, 0xc1, 0x0f, 0x40, 0xc1, 0x01, 0xc8}));  // cmovo
  EXPECT(first_matters({0x0f, 0xaf, 0xc1, 0xff, 0xc0, 0x01, 0xc8}));        // inc keeps CF
  EXPECT(first_matters({0x0f, 0xaf, 0xc1, 0x70, 0x00, 0x01, 0xc8}));        // jo
}

// A fault would show them.
TEST(flags_matter_to_what_may_fault) {
  EXPECT(first_matters({0x0f, 0xaf, 0xc1, 0x03, 0x01}));              // add eax, [rcx]
  EXPECT(first_matters({0x0f, 0xaf, 0xc1, 0x8b, 0x01, 0x01, 0xc8}));  // mov eax, [rcx]
  EXPECT(first_matters({0x0f, 0xaf, 0xc1, 0x50, 0x01, 0xc8}));        // push rax
}

TEST_MAIN()

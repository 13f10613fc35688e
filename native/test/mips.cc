// How fast the software CPU runs: guest code is this file's own section `guest`, compiled by the
// host's compiler for its own x86-64 and copied into a test machine.
//
//   make -C native/test mips
#include <ctime>
#include <cstdlib>

#include "softcpu/test_machine.h"

extern "C" {
extern const std::uint8_t __start_guest[], __stop_guest[];
}

#define GUEST extern "C" \
  __attribute__((section("guest"), noinline, used, target("no-avx"),    \
                 optimize("no-tree-loop-distribute-patterns", "no-tree-vectorize")))

// Integer arithmetic in registers, with a data-dependent branch.
GUEST std::uint64_t collatz(std::uint64_t limit, std::uint8_t*) {
  std::uint64_t longest = 0;
  for (std::uint64_t n = 1; n < limit; ++n) {
    std::uint64_t steps = 0;
    for (std::uint64_t x = n; x != 1; ++steps) x = (x & 1) != 0 ? 3 * x + 1 : x >> 1;
    if (steps > longest) longest = steps;
  }
  return longest;
}

// Loads and stores of bytes.
GUEST std::uint64_t sieve(std::uint64_t size, std::uint8_t* memory) {
  std::uint64_t primes = 0;
  for (std::uint64_t i = 0; i < size; ++i) memory[i] = 1;
  for (std::uint64_t i = 2; i < size; ++i) {
    if (memory[i] == 0) continue;
    ++primes;
    for (std::uint64_t j = 2 * i; j < size; j += i) memory[j] = 0;
  }
  return primes;
}

struct Node {
  Node* left;
  Node* right;
  std::uint64_t key;
};

// Pointers, calls and the stack.
GUEST std::uint64_t walk(const Node* node) {
  return node == nullptr ? 0 : node->key + walk(node->left) + walk(node->right);
}
GUEST std::uint64_t tree(std::uint64_t count, std::uint8_t* memory) {
  Node* const nodes = reinterpret_cast<Node*>(memory);
  Node* root = nullptr;
  std::uint64_t key = 88172645463325252;
  for (std::uint64_t i = 0; i < count; ++i) {
    key ^= key << 13, key ^= key >> 7, key ^= key << 17;
    nodes[i] = {nullptr, nullptr, key};
    Node** place = &root;
    while (*place != nullptr) place = key < (*place)->key ? &(*place)->left : &(*place)->right;
    *place = &nodes[i];
  }
  return walk(root) & 0xffff;
}

namespace {

using namespace hv;
using namespace hv::softcpu;

struct Work {
  const char* name;
  std::uint64_t (*function)(std::uint64_t, std::uint8_t*);
  std::uint64_t size;
};

void measure(const Work& work) {
  TestMachine m{8u << 20};
  m.enter_long64();
  m.put(TestMachine::kCode, {__start_guest, __stop_guest});
  const auto offset = static_cast<std::uint64_t>(reinterpret_cast<const std::uint8_t*>(work.function) -
                                                 __start_guest);
  m.put(0x9000, {0xf4});
  m.put64(TestMachine::kStack - 8, 0x9000);  // the return address: HLT
  m.change([&](CpuState& s) {
    s.rip = TestMachine::kCode + offset;
    s.gpr[kRsp] = TestMachine::kStack - 8;
    s.gpr[kRdi] = work.size;
    s.gpr[kRsi] = 0x100000;
  });
  const std::clock_t start = std::clock();  // CPU time: other processes may want the cores
  m.run_until_halt();
  const double took = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  const auto instructions = static_cast<double>(m.state().instructions);
  std::printf("%-8s result %6llu  %7.1f M instructions  %6.1f MIPS\n", work.name,
              static_cast<unsigned long long>(m.state().gpr[kRax]), instructions / 1e6,
              instructions / 1e6 / took);
}

}  // namespace

int main() {
  for (const Work& work : {Work{"collatz", collatz, 200'000}, Work{"sieve", sieve, 4'000'000},
                           Work{"tree", tree, 100'000}})
    measure(work);
}

// Guest code as host code: a block of decoded instructions (block_cache.h) becomes x86-64 code once
// it has run a few times. The one header through which the CPU knows of it; on hosts that cannot,
// it says so and the interpreter does everything.
//
// Code stays exact by three rules. Whatever has no emitter, and every access that misses the TLB,
// is done by the interpreter's handler, with registers, flags and RIP in the Cpu as it expects; so
// faults leave by the handlers' longjmp. Translated code is entered only where its page's version
// (memory/code_pages.h) is the one that it was made from. And it leaves for the loop at the first
// backward branch or jump to elsewhere after a signal was raised.
#pragma once
#include <bitset>
#include <cstdint>
#include <memory>
#include <string>

#include "softcpu/op.h"
#include "softcpu/translator/host.h"

namespace hv::softcpu {

class Cpu;
struct Block;

struct TranslatorOptions {
  bool enabled = HV_TRANSLATOR != 0;
  std::uint32_t threshold = 8;  // a block is interpreted so many times first
  std::size_t code_bytes = 32u << 20;
  std::bitset<static_cast<std::size_t>(Op::kCount)> off;  // operations left to the interpreter

  bool traces = true;  // several blocks as one piece (trace.h)
  bool groups = true;  // of accesses (access_plan.h)

  // XHYVED_SOFTCPU: words with commas between: `interpreter`, `eager`, `threshold=N`, `no-traces`,
  // `no-groups`, `-AddMr` (an operation's name as in ops_*.def).
  static const TranslatorOptions& from_environment();
  static TranslatorOptions parse(const std::string& words);
};

namespace translator {
struct Translation;
}

#if HV_TRANSLATOR

class Translator {
 public:
  // nullptr where it is off, or the host refuses memory that is executable.
  static std::unique_ptr<Translator> create(Cpu& cpu, const TranslatorOptions& options);
  ~Translator();

  // The code of a fresh block at RIP; nullptr while it is to be interpreted.
  translator::Translation* find(Block& block, std::uint64_t rip);
  // Runs it, and what it leads to. True: the mode may have changed.
  bool run(translator::Translation& translation);
  // The code cache is full: all blocks should be dropped.
  bool full() const;
  std::size_t code_bytes() const;
  // For tests: what is wrong with the bookkeeping, empty when nothing is.
  std::string check() const;

 private:
  struct Parts;
  explicit Translator(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

#else

class Translator {
 public:
  static std::unique_ptr<Translator> create(Cpu&, const TranslatorOptions&) { return nullptr; }
  translator::Translation* find(Block&, std::uint64_t) { return nullptr; }
  bool run(translator::Translation&) { return false; }
  bool full() const { return false; }
  std::size_t code_bytes() const { return 0; }
  std::string check() const { return {}; }
};

#endif

}  // namespace hv::softcpu

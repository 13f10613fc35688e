// The oracle: random user-mode instructions on the host's CPU and on ours, compared to the bit.
//
//   oracle [--count N] [--seed S] [--only MNEMONIC] [--mode 16|32|64] [--replay CASE] [--show N]
//          [--cpu interpreter|translator] [--undefined compare|ignore]
//
// A child process does the work, so that a case that goes wild natively ends the child alone; the
// parent says which case it was and starts the next child behind it.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>

#include "compare.h"
#include "guest_run.h"
#include "native_run.h"

namespace oracle {
namespace {

using namespace hv::softcpu;

constexpr unsigned kMaxRows = 4096;

struct Options {
  std::uint64_t count = 20'000, seed = 1, replay = 0;
  std::string only, mode;
  unsigned show = 10;
  bool translates = false, undefined_too = false;
};

// Shared with the child, so that it survives the child.
struct Progress {
  std::uint64_t next, ran, mismatches, faults, invalid;
  std::uint32_t covered[kMaxRows];
};

struct Choice {
  const Row* row;
  CodeSize mode;
};

std::vector<const Row*> all_rows(const std::string& only) {
  std::vector<const Row*> out;
  for (std::size_t i = 0; i < kFamilies; ++i)
    for (const Row& row : rows(static_cast<Family>(i)))
      if (only.empty() || row.name == only) out.push_back(&row);
  return out;
}

std::vector<CodeSize> modes_of(const Options& options, NativeModes host) {
  std::vector<CodeSize> out;
  const auto wanted = [&](const char* name) { return options.mode.empty() || options.mode == name; };
  if (wanted("64")) out.push_back(CodeSize::k64);
  if (wanted("32") && host.code32) out.push_back(CodeSize::k32);
  if (wanted("16") && host.code16) out.push_back(CodeSize::k16);
  return out;
}

// Which row, and in which code size: follows from the case's seed alone, so that it can be replayed.
Choice choose(std::uint64_t seed, const std::vector<const Row*>& table,
              const std::vector<CodeSize>& modes) {
  Random random{seed ^ 0x6f72'6163'6c65};
  for (unsigned tries = 0; tries < 100'000; ++tries) {
    const Row* row = table[random.below(static_cast<unsigned>(table.size()))];
    const bool usual = random.percent(60);
    const CodeSize mode = modes[usual ? 0 : random.below(static_cast<unsigned>(modes.size()))];
    if (can_show(*row, mode)) return {row, mode};
  }
  std::fprintf(stderr, "oracle: user mode cannot show this instruction\n");
  std::_Exit(3);
}

std::size_t row_number(const std::vector<const Row*>& table, const Row* row) {
  for (std::size_t i = 0; i < table.size(); ++i)
    if (table[i] == row) return i;
  return table.size();
}

void work(const Options& options, const std::vector<const Row*>& table,
          const std::vector<CodeSize>& modes, Progress& progress) {
  GuestRunner guest{options.translates};
  Outcome native_outcome, guest_outcome;
  while (progress.next < options.count) {
    const std::uint64_t number = progress.next++;
    const std::uint64_t seed =
        options.replay != 0 ? options.replay : Random{options.seed + (number << 20)}.bits();
    alarm(5);
    const Choice choice = choose(seed, table, modes);
    const Generated given = generate(seed, *choice.row, choice.mode);
    if (given.decoded.row != nullptr && !can_show(*given.decoded.row, choice.mode)) continue;
    native_run(given.test, native_outcome);
    guest.run(given.test, guest_outcome);
    ++progress.ran;
    if (native_outcome.vector != 3) ++progress.faults;
    if (given.decoded.row == nullptr) ++progress.invalid;
    const std::size_t row = row_number(table, given.decoded.row);
    if (row < table.size()) ++progress.covered[row];
    const std::string wrong = compare(given, native_outcome, guest_outcome, options.undefined_too);
    if (wrong.empty() && options.replay == 0) continue;
    if (!wrong.empty() && ++progress.mismatches > options.show) continue;
    std::printf("%s%s", describe(given).c_str(), wrong.empty() ? "    the same\n" : wrong.c_str());
    std::fflush(stdout);
  }
}

bool run_child(const Options& options, const std::vector<const Row*>& table, Progress& progress) {
  const pid_t child = fork();
  if (child == 0) {
    const NativeModes host = native_setup();
    work(options, table, modes_of(options, host), progress);
    std::_Exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFEXITED(status)) return WEXITSTATUS(status) == 0;
  ++progress.mismatches;
  const std::uint64_t seed = Random{options.seed + ((progress.next - 1) << 20)}.bits();
  std::printf("case %" PRIu64 " (seed %#" PRIx64 ") ended the child with signal %d\n",
              progress.next - 1, seed, WTERMSIG(status));
  return progress.mismatches < 1000;
}

unsigned report_uncovered(const std::vector<const Row*>& table, const Progress& progress) {
  unsigned missing = 0;
  for (std::size_t i = 0; i < table.size(); ++i) {
    const bool shows = can_show(*table[i], CodeSize::k64) || can_show(*table[i], CodeSize::k32);
    if (!shows || progress.covered[i] != 0) continue;
    if (++missing <= 40)
      std::printf("never ran: %s (opcode %02x)\n", std::string{table[i]->name}.c_str(),
                  table[i]->opcode);
  }
  return missing;
}

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const char* value = argv[i + 1];
    if (name == "--count") options.count = std::strtoull(value, nullptr, 0);
    else if (name == "--seed") options.seed = std::strtoull(value, nullptr, 0);
    else if (name == "--replay") options.replay = std::strtoull(value, nullptr, 0), options.count = 1;
    else if (name == "--only") options.only = value;
    else if (name == "--mode") options.mode = value;
    else if (name == "--cpu") options.translates = std::string{value} == "translator";
    else if (name == "--undefined") options.undefined_too = std::string{value} == "compare";
    else if (name == "--show") options.show = static_cast<unsigned>(std::strtoul(value, nullptr, 0));
    else return false;
  }
  return argc % 2 == 1;
}

int run(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, options)) {
    std::fprintf(stderr, "usage: oracle [--count N] [--seed S] [--only MNEMONIC] [--mode 16|32|64] "
                         "[--replay SEED] [--show N] [--cpu interpreter|translator] [--undefined compare|ignore]\n");
    return 2;
  }
  const auto table = all_rows(options.only);
  if (table.empty() || table.size() > kMaxRows) {
    std::fprintf(stderr, "oracle: no such instruction\n");
    return 2;
  }
  auto* progress = static_cast<Progress*>(mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE,
                                               MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  while (progress->next < options.count && run_child(options, table, *progress)) {}
  const bool full = options.replay == 0 && options.count >= 20 * table.size();
  const unsigned missing = full ? report_uncovered(table, *progress) : 0;
  std::printf("%" PRIu64 " instructions (seed %" PRIu64 "), %" PRIu64 " faulted, %" PRIu64
              " not valid, %zu rows, %u never ran, %" PRIu64 " mismatches\n",
              progress->ran, options.seed, progress->faults, progress->invalid, table.size(),
              missing, progress->mismatches);
  return progress->mismatches != 0 || missing != 0 || progress->ran == 0;
}

}  // namespace
}  // namespace oracle

int main(int argc, char** argv) { return oracle::run(argc, argv); }

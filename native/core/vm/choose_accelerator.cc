#include "vm/choose_accelerator.h"

#include <cstdio>
#include <optional>

#include "accel/speed.h"

namespace hv {
namespace {

// design.md, "Accelerators": in the order that `auto` prefers.
struct Known {
  std::string_view name, hosts;
};
constexpr Known kSoft{"soft", "any host"};
constexpr Known kKnown[] = {{"hvf", "Intel Macs"}, {"kvm", "Linux on x86-64"}, kSoft};

const Accelerator* built(std::string_view name) {
  for (const Accelerator* accelerator : accelerators())
    if (accelerator->name() == name) return accelerator;
  return nullptr;
}

std::string rounded(double nanoseconds) {
  char text[32];
  std::snprintf(text, sizeof text, nanoseconds < 10 ? "%.1f" : "%.0f", nanoseconds);
  return text;
}

// Whether a usable accelerator of the host's is faster than the software CPU, in words.
struct Race {
  bool faster = false;
  std::string told;
};

Race race(const Accelerator& hardware) {
  const Accelerator& soft = *accelerators().back();
  const std::string name{hardware.name()};
  const std::optional<double> its = time_instruction(hardware);
  if (!its) return {false, name + ": cannot run a loop of five instructions here"};
  const double softs = time_instruction(soft).value_or(0);
  return {*its < softs, name + ": " + rounded(*its) + " ns per instruction, soft: " + rounded(softs)};
}

struct Candidate {
  AcceleratorReport report;
  const Accelerator* accelerator = nullptr;
  bool preferred = false;  // `auto` takes it
};

Candidate candidate(const Known& known) {
  const auto [name, hosts] = known;
  const std::string words{name};
  const Accelerator* const accelerator = built(name);
  if (accelerator == nullptr)
    return {{words, false, words + ": only for " + std::string{hosts}}};
  if (auto why = accelerator->unavailable()) return {{words, false, std::move(*why)}};
  if (name == "soft")
    return {{words, true, "the software CPU runs on every host"}, accelerator, true};
  Race result = race(*accelerator);
  return {{words, true, std::move(result.told)}, accelerator, result.faster};
}

// `soft:WORDS` is the software CPU with its engine chosen, for tests: softcpu/translator/translator.h.
constexpr std::string_view kEngine = "soft:";

AcceleratorChoice soft_with_engine(std::string_view wanted) {
  return {soft_accelerator(wanted.substr(kEngine.size())), {std::string{wanted}, true, "asked for"}};
}

// Asked and timed once: neither the host nor its speed changes while the process lives.
const std::vector<Candidate>& candidates() {
  static const std::vector<Candidate> all = [] {
    std::vector<Candidate> list;
    for (const Known& known : kKnown) list.push_back(candidate(known));
    return list;
  }();
  return all;
}

}  // namespace

std::vector<AcceleratorReport> report_accelerators() {
  std::vector<AcceleratorReport> out;
  for (const Candidate& one : candidates()) out.push_back(one.report);
  return out;
}

AcceleratorChoice choose_accelerator(std::string_view wanted) {
  if (wanted.starts_with(kEngine)) return soft_with_engine(wanted);
  if (wanted == "soft") {  // nothing else need be asked or timed
    Candidate soft = candidate(kSoft);
    return {soft.accelerator, std::move(soft.report)};
  }
  std::string passed_over;
  for (const Candidate& one : candidates()) {
    if (wanted == "auto" && !one.preferred) {
      passed_over += one.report.reason + "; ";
      continue;
    }
    if (wanted != "auto" && one.report.name != wanted) continue;
    AcceleratorChoice choice{one.accelerator, one.report};
    choice.report.reason = passed_over + choice.report.reason;
    return choice;
  }
  return {nullptr, {std::string{wanted}, false, "there is no accelerator of this name"}};
}

}  // namespace hv

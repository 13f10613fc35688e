#include "vm/choose_accelerator.h"

namespace hv {
namespace {

// design.md, "Accelerators": in the order that `auto` prefers.
constexpr std::string_view kNames[] = {"hvf", "kvm", "soft"};

const Accelerator* built(std::string_view name) {
  for (const Accelerator* accelerator : accelerators())
    if (accelerator->name() == name) return accelerator;
  return nullptr;
}

AcceleratorReport report(std::string_view name) {
  const Accelerator* const accelerator = built(name);
  if (accelerator == nullptr) return {std::string{name}, false, "not built yet: " + std::string{name}};
  if (auto why = accelerator->unavailable()) return {std::string{name}, false, std::move(*why)};
  const bool soft = name == "soft";
  return {std::string{name}, true, soft ? "the software CPU runs on every host" : "usable"};
}

}  // namespace

std::vector<AcceleratorReport> report_accelerators() {
  std::vector<AcceleratorReport> out;
  for (const std::string_view name : kNames) out.push_back(report(name));
  return out;
}

AcceleratorChoice choose_accelerator(std::string_view wanted) {
  std::string passed_over;
  for (const AcceleratorReport& candidate : report_accelerators()) {
    if (wanted != "auto" && candidate.name != wanted) continue;
    AcceleratorChoice choice{nullptr, candidate};
    if (candidate.usable) {
      choice.accelerator = built(candidate.name);
      choice.report.reason = passed_over + candidate.reason;
      return choice;
    }
    if (wanted != "auto") return choice;
    passed_over += candidate.reason + "; ";
  }
  return {nullptr, {std::string{wanted}, false, "there is no accelerator of this name"}};
}

}  // namespace hv

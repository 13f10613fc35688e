// Which accelerator runs a VM, and why: the reason is shown to the operator.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "accel/accelerator.h"

namespace hv {

struct AcceleratorReport {
  std::string name;
  bool usable = false;
  std::string reason;
};

// Every accelerator by name, also those that this build or host does not have, in the order that
// `auto` prefers.
std::vector<AcceleratorReport> report_accelerators();

struct AcceleratorChoice {
  const Accelerator* accelerator = nullptr;  // nullptr: report.reason says why not
  AcceleratorReport report;
};
// wanted: "auto", a name, or "soft:" and words that choose the software CPU's engine. Which `auto`
// takes does not depend on the CPU that is wanted; with_host_cpu() of the choice says whether it can.
AcceleratorChoice choose_accelerator(std::string_view wanted);

}  // namespace hv

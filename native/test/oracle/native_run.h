// Runs a case on the host's own CPU.
#pragma once
#include "scene.h"

namespace oracle {

// Maps code and data at their fixed addresses, installs the signal handlers and the LDT. Returns
// which code sizes this host can run.
struct NativeModes {
  bool code32 = false, code16 = false;
};
NativeModes native_setup();

void native_run(const Case& given, Outcome& outcome);

}  // namespace oracle

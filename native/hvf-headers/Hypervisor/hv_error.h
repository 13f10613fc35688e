// What the functions of Hypervisor.framework return. Our own declarations of Apple's public
// interface (developer.apple.com/documentation/hypervisor): numbers and names are the interface's,
// so that a build needs no SDK.
#pragma once
#include <stdint.h>

typedef int hv_return_t;  // a mach_error_t

enum {
  HV_SUCCESS = 0,
  HV_ERROR = (int)0xfae94001,
  HV_BUSY = (int)0xfae94002,
  HV_BAD_ARGUMENT = (int)0xfae94003,
  HV_NO_RESOURCES = (int)0xfae94005,
  HV_NO_DEVICE = (int)0xfae94006,
  HV_DENIED = (int)0xfae94007,
  HV_UNSUPPORTED = (int)0xfae9400f,
};

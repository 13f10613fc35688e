// For hosts without an x87.
#pragma once
#include "softcpu/host/portable/transcendental.h"

namespace hv::softcpu::host {

using portable::transcendental;

}  // namespace hv::softcpu::host

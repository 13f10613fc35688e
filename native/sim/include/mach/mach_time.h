// What accel/hvf uses of macOS's clock, where the simulation stands in for macOS: a tick is a
// nanosecond.
#pragma once
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  uint32_t numer, denom;
} mach_timebase_info_data_t;

uint64_t mach_absolute_time(void);
int mach_timebase_info(mach_timebase_info_data_t* info);

#ifdef __cplusplus
}
#endif

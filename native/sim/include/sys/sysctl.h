// What accel/hvf asks of macOS's kernel, where the simulation stands in for macOS.
#pragma once
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

int sysctlbyname(const char* name, void* value, size_t* size, void* fresh, size_t fresh_size);

#ifdef __cplusplus
}
#endif

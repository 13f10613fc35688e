// A walk from a folder to a path below it, folder by folder, that follows no link at all: for hosts
// and kernels whose open() cannot be told to stay beneath.
#pragma once
#include <sys/types.h>

#include <string>

namespace hv::host {

int walk_beneath(int folder, const std::string& path, int flags, mode_t mode, int& fd);

}  // namespace hv::host

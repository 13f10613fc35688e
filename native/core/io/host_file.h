// What hosts do differently with files. One file a host: host_file_linux.cc, host_file_darwin.cc.
// Each returns 0 or an errno.
#pragma once
#include <sys/types.h>
#include <sys/uio.h>

#include <cstdint>

namespace hv::io::host {

// What was written is on the medium, as far as the host can make it so.
int sync(int fd);
// The range reads as zeros and takes no room; EOPNOTSUPP where the file cannot have holes.
int punch(int fd, std::uint64_t offset, std::uint64_t length);
// Nobody needs what the range holds; EOPNOTSUPP where the host has no use for knowing.
int discard(int fd, std::uint64_t offset, std::uint64_t length);
// The range reads as zeros and keeps its room; EOPNOTSUPP where that must be written out.
int zero(int fd, std::uint64_t offset, std::uint64_t length);
// preadv() of what is in memory already; -1 with EAGAIN where it would have to wait.
ssize_t read_now(int fd, const iovec* pieces, int count, std::uint64_t offset);

}  // namespace hv::io::host

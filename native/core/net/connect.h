// Unix stream sockets for stream_link.h. Each gives 0 or an errno value, and sockets that do not
// block and are closed at exec().
#pragma once
#include <string>

namespace hv::net {

int connect_unix(const std::string& path, int& fd);
// Two ends of one connection; the second is for a child process, and blocks.
int make_pair(int& ours, int& theirs);

}  // namespace hv::net

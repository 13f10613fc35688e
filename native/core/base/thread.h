// What the host's threads can do beyond std::thread. One file a host: thread_linux.cc,
// thread_darwin.cc.
#pragma once
#include <cstdint>

namespace hv::host {

// As debuggers and `top -H` show it; cut to what the host allows.
void name_this_thread(const char* name);
// Signals are for the JavaScript thread alone: everything the host lets a thread block.
void block_all_signals();
// The core that this thread runs on now; -1 where the host does not say.
int current_core();
// How many cores this process may use, at least 1.
unsigned usable_cores();
// Gives the core to another thread that wants it.
void yield_core();

}  // namespace hv::host

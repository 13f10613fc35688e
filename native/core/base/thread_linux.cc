#include "base/thread.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <cstring>

namespace hv::host {

void name_this_thread(const char* name) {
  char cut[16] = {};  // pthread_setname_np(3): 15 characters and the final zero
  std::strncpy(cut, name, sizeof cut - 1);
  pthread_setname_np(pthread_self(), cut);
}

void block_all_signals() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
}

int current_core() { return sched_getcpu(); }

unsigned usable_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  const int count = CPU_COUNT(&set);
  return count < 1 ? 1 : static_cast<unsigned>(count);
}

void yield_core() { sched_yield(); }

}  // namespace hv::host

#include "base/thread.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/sysctl.h>

namespace hv::host {

void name_this_thread(const char* name) { pthread_setname_np(name); }

void block_all_signals() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
}

int current_core() { return -1; }

unsigned usable_cores() {
  int count = 0;
  size_t size = sizeof count;
  if (sysctlbyname("hw.activecpu", &count, &size, nullptr, 0) != 0 || count < 1) return 1;
  return static_cast<unsigned>(count);
}

void yield_core() { sched_yield(); }

}  // namespace hv::host

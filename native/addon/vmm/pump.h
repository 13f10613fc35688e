// Carries what other threads have for JavaScript to its thread: the bus's exits and the VM's
// notices. One uv_async_t a VM; no ThreadSafeFunction, whose queue costs twice as much an exit. And a
// uv_poll_t, where the host's kernel rings doorbells itself (bus/kernel_bells.h).
//
// One waking serves, looks again for a bounded moment where the vCPU runs on another core and that
// paid lately, then sleeps; after a millisecond it lets the event loop have a turn first.
#pragma once
#include <napi.h>
#include <uv.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <vector>

#include "bus/bus.h"
#include "vm/events.h"

namespace hv::addon {

class Pump final : public VmOwner {
 public:
  // serve(): serves the bus until nothing is ready or its own bound is reached.
  // notify(event, number, generation, text): one notice.
  // completed(): completions of file I/O wait to be taken.
  Pump(Napi::Env env, Napi::Function serve, Napi::Function notify, Napi::Function completed);

  // On the JavaScript thread, before the VM runs.
  void attach(Bus& bus);
  // On the JavaScript thread, before the bus goes: looks at it no more.
  void detach();
  // On the JavaScript thread, once no other thread can reach the pump. `closed` runs when the
  // event loop has let go of it, and then the pump is gone.
  static void close(std::unique_ptr<Pump> pump, std::function<void()> closed);

  // Any thread.
  void notice(VmNotice notice) override;
  void wake() override { uv_async_send(&async_); }
  void completed() {
    completions_.store(true);
    wake();
  }

 private:
  using Time = std::chrono::steady_clock::time_point;

  void turn();
  void bells_rang();
  void serve_once();
  void deliver_notices();
  void deliver_completions();
  bool look_again();
  void call(const Napi::FunctionReference& function, const std::vector<napi_value>& arguments);

  const Napi::Env env_;
  Napi::FunctionReference serve_, notify_, completed_;
  Napi::AsyncContext context_;
  Bus* bus_ = nullptr;
  Channel* channel_ = nullptr;  // the bus's
  uv_async_t async_;
  std::unique_ptr<uv_poll_t> bells_;
  std::mutex mutex_;
  std::vector<VmNotice> notices_;
  std::atomic<bool> completions_{false};
  // Looks that found something add, looks in vain take away: looking costs CPU time.
  int credit_ = 8;
  std::function<void()> closed_;
};

}  // namespace hv::addon

// Deadlines in guest time. One host thread sleeps until the earliest and calls back; while nothing
// is armed, or the guest's clock is paused, it sleeps for ever.
//
// Locks: the service's mutex is a leaf: arm() and cancel() may be called under any lock, and no
// callback runs under it.
//
// Races. arm() and cancel() never wait. A callback that the thread has already taken off the queue
// when cancel() or arm() is called still runs once. It is told the generation of the arming that
// it belongs to, and arm() returns each arming's generation, so an owner can tell. The chips here
// do not need to: for them a callback only means "look at the clock", and they find nothing due.
// ~Timer() waits for a callback under way, which can no longer arm it: never destroy a Timer under
// a lock that its callback takes, nor from the callback.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <limits>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/types.h"
#include "time/guest_clock.h"

namespace hv {

class Timer;

class TimerService {
 public:
  enum class Threading : std::uint8_t {
    kThread,  // a thread of its own calls back
    kManual,  // nobody does until run_due(): for tests and for a VM that is only inspected
  };

  explicit TimerService(GuestClock& clock, Threading threading = Threading::kThread);
  // Every Timer is gone by then.
  ~TimerService();
  TimerService(const TimerService&) = delete;
  TimerService& operator=(const TimerService&) = delete;

  // Returns when no callback is running. With the clock paused none starts after that, so that
  // GuestClock::pause() and settle() make the chips stand still. Not from a callback.
  void settle();
  // Threading::kManual: calls back what is due now, in order of the deadlines, on this thread.
  void run_due();
  std::optional<GuestNs> next_due() const;
  // Times that the thread woke, for tests of idleness.
  std::uint64_t wakeups() const;
  GuestClock& clock() { return clock_; }

 private:
  friend class Timer;
  static constexpr GuestNs kNever = std::numeric_limits<GuestNs>::max();

  std::uint64_t arm(Timer& timer, GuestNs due);
  void cancel(Timer& timer);
  void remove(Timer& timer);

  void place(std::size_t at, Timer* timer);
  void sift_up(std::size_t at);
  void sift_down(std::size_t at);
  void take_out(Timer& timer);
  // The earliest timer if its time has come, taken off the queue.
  Timer* take_due();
  void call_back(Timer& timer, std::unique_lock<std::mutex>& lock);
  void wait(std::unique_lock<std::mutex>& lock);
  void serve();

  GuestClock& clock_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable idle_;
  std::vector<Timer*> heap_;  // a binary heap by deadline
  Timer* calling_ = nullptr;
  std::thread::id caller_;
  // What the thread sleeps for; 0 while it is awake and will look at the heap again by itself.
  GuestNs sleeps_until_ = 0;
  std::uint64_t wakeups_ = 0;
  bool stop_ = false;
  std::thread thread_;
};

class Timer {
 public:
  // The argument is the generation of the arming. Callbacks must be short: they all share one
  // thread.
  using Callback = std::function<void(std::uint64_t generation)>;

  Timer(TimerService& service, Callback callback)
      : service_{service}, callback_{std::move(callback)} {}
  ~Timer() { service_.remove(*this); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  // Replaces the deadline that was armed before. A time already passed is due at once. Returns
  // the generation.
  std::uint64_t arm(GuestNs due) { return service_.arm(*this, due); }
  void cancel() { service_.cancel(*this); }

 private:
  friend class TimerService;
  static constexpr std::size_t kNotQueued = std::numeric_limits<std::size_t>::max();

  TimerService& service_;
  const Callback callback_;
  // Guarded by the service's mutex.
  GuestNs due_ = 0;
  std::uint64_t generation_ = 0;
  bool leaving_ = false;  // in ~Timer()
  std::size_t at_ = kNotQueued;
};

}  // namespace hv

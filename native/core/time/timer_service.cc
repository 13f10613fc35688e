#include "time/timer_service.h"

#include <chrono>

namespace hv {

namespace {

// Longer sleeps would overflow the host's time points.
constexpr GuestNs kLongestSleep = 3'600ull * 1'000'000'000;

}  // namespace

TimerService::TimerService(GuestClock& clock, Threading threading) : clock_{clock} {
  if (threading == Threading::kManual) return;
  clock_.on_change([this] {
    std::scoped_lock hold(mutex_);
    wake_.notify_one();
  });
  thread_ = std::thread([this] { serve(); });
}

TimerService::~TimerService() {
  if (!thread_.joinable()) return;
  clock_.on_change({});
  {
    std::scoped_lock hold(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

std::uint64_t TimerService::arm(Timer& timer, GuestNs due) {
  bool wake = false;
  std::uint64_t generation = 0;
  {
    std::scoped_lock hold(mutex_);
    generation = ++timer.generation_;
    if (timer.leaving_) return generation;
    const GuestNs before = timer.due_;
    timer.due_ = due;
    if (timer.at_ == Timer::kNotQueued) {
      heap_.push_back(&timer);
      timer.at_ = heap_.size() - 1;
      sift_up(timer.at_);
    } else if (due < before) {
      sift_up(timer.at_);
    } else {
      sift_down(timer.at_);
    }
    // A deadline that moved away leaves the thread asleep; it wakes at the old one and sleeps on.
    wake = due < sleeps_until_;
    if (wake) sleeps_until_ = 0;
  }
  if (wake) wake_.notify_one();
  return generation;
}

void TimerService::cancel(Timer& timer) {
  std::scoped_lock hold(mutex_);
  ++timer.generation_;
  take_out(timer);
}

void TimerService::remove(Timer& timer) {
  std::unique_lock lock(mutex_);
  timer.leaving_ = true;
  take_out(timer);
  idle_.wait(lock, [&] { return calling_ != &timer || caller_ == std::this_thread::get_id(); });
}

void TimerService::settle() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [&] { return calling_ == nullptr; });
}

std::optional<GuestNs> TimerService::next_due() const {
  std::scoped_lock hold(mutex_);
  if (heap_.empty()) return std::nullopt;
  return heap_.front()->due_;
}

std::uint64_t TimerService::wakeups() const {
  std::scoped_lock hold(mutex_);
  return wakeups_;
}

void TimerService::place(std::size_t at, Timer* timer) {
  heap_[at] = timer;
  timer->at_ = at;
}

void TimerService::sift_up(std::size_t at) {
  Timer* const timer = heap_[at];
  while (at > 0) {
    const std::size_t parent = (at - 1) / 2;
    if (heap_[parent]->due_ <= timer->due_) break;
    place(at, heap_[parent]);
    at = parent;
  }
  place(at, timer);
}

void TimerService::sift_down(std::size_t at) {
  Timer* const timer = heap_[at];
  for (;;) {
    std::size_t child = 2 * at + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && heap_[child + 1]->due_ < heap_[child]->due_) ++child;
    if (timer->due_ <= heap_[child]->due_) break;
    place(at, heap_[child]);
    at = child;
  }
  place(at, timer);
}

void TimerService::take_out(Timer& timer) {
  const std::size_t at = timer.at_;
  if (at == Timer::kNotQueued) return;
  timer.at_ = Timer::kNotQueued;
  Timer* const last = heap_.back();
  heap_.pop_back();
  if (last == &timer) return;
  place(at, last);
  sift_up(at);
  sift_down(last->at_);
}

Timer* TimerService::take_due() {
  if (heap_.empty() || !clock_.running()) return nullptr;
  Timer* const first = heap_.front();
  if (first->due_ > clock_.now()) return nullptr;
  take_out(*first);
  return first;
}

void TimerService::call_back(Timer& timer, std::unique_lock<std::mutex>& lock) {
  const std::uint64_t generation = timer.generation_;
  calling_ = &timer;
  caller_ = std::this_thread::get_id();
  lock.unlock();
  timer.callback_(generation);
  lock.lock();
  calling_ = nullptr;
  caller_ = {};
  idle_.notify_all();
}

void TimerService::run_due() {
  std::unique_lock lock(mutex_);
  // Only what is due now: a callback that arms its timer for now again waits for the next call.
  const GuestNs until = clock_.now();
  std::size_t most = heap_.size();
  while (most-- > 0 && !heap_.empty() && heap_.front()->due_ <= until) {
    Timer* const due = take_due();
    if (due == nullptr) return;
    call_back(*due, lock);
  }
}

void TimerService::wait(std::unique_lock<std::mutex>& lock) {
  const GuestNs now = clock_.now();
  sleeps_until_ = clock_.running() && !heap_.empty() ? heap_.front()->due_ : kNever;
  if (!clock_.running() || heap_.empty()) {
    // While paused, a new deadline is of no interest: resume() wakes.
    if (!clock_.running()) sleeps_until_ = 0;
    wake_.wait(lock);
  } else if (sleeps_until_ > now) {
    const GuestNs sleep = sleeps_until_ - now < kLongestSleep ? sleeps_until_ - now : kLongestSleep;
    const auto until = std::chrono::steady_clock::now() +
                       std::chrono::nanoseconds(static_cast<std::int64_t>(sleep));
    wake_.wait_until(lock, until);
  }
  sleeps_until_ = 0;
  ++wakeups_;
}

void TimerService::serve() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    if (Timer* const due = take_due())
      call_back(*due, lock);
    else
      wait(lock);
  }
}

}  // namespace hv

#include "time/guest_clock.h"

#include <chrono>

#include "accel/frequencies.h"
#include "time/ticks.h"

namespace hv {

namespace {

class MonotonicHostClock final : public HostClock {
 public:
  std::uint64_t now() const override {
    const auto since = std::chrono::steady_clock::now().time_since_epoch();
    return static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(since).count());
  }
};

}  // namespace

const HostClock& monotonic_host_clock() {
  static const MonotonicHostClock clock;
  return clock;
}

GuestClock::GuestClock(const HostClock& host) : host_{host} {}

GuestNs GuestClock::now() const noexcept {
  for (;;) {
    // Pairs with change(): the host's clock is read between two looks at the sequence, so a time
    // after a pause is never reported for a moment before it.
    const std::uint32_t before = sequence_.load(std::memory_order_acquire);
    const bool runs = running_.load(std::memory_order_acquire);
    const std::uint64_t base = base_.load(std::memory_order_acquire);
    const GuestNs time = runs ? host_.now() - base : base;
    if ((before & 1) == 0 && sequence_.load(std::memory_order_acquire) == before) return time;
  }
}

std::uint64_t GuestClock::tsc() const noexcept {
  static_assert(kTscHz * 2 == kNsPerSecond * 5, "the ratio below");
  const GuestNs ns = now();
  return ns / 2 * 5 + ns % 2 * 5 / 2;
}

// The writer's side of the sequence lock.
template <class F>
void GuestClock::change(F&& f) {
  sequence_.fetch_add(1, std::memory_order_acq_rel);
  f();
  sequence_.fetch_add(1, std::memory_order_acq_rel);
}

void GuestClock::pause() {
  {
    std::scoped_lock hold(writers_);
    if (!running()) return;
    change([this] {
      // Past every time that a reader took under the even sequence before.
      base_.store(host_.now() - base_.load(std::memory_order_relaxed), std::memory_order_release);
      running_.store(false, std::memory_order_release);
    });
  }
  tell();
}

void GuestClock::resume() {
  {
    std::scoped_lock hold(writers_);
    if (running()) return;
    change([this] {
      base_.store(host_.now() - base_.load(std::memory_order_relaxed), std::memory_order_release);
      running_.store(true, std::memory_order_release);
    });
  }
  tell();
}

bool GuestClock::set_state(const GuestClockState& state) {
  {
    std::scoped_lock hold(writers_);
    if (running()) return false;
    change([&] { base_.store(state.now, std::memory_order_release); });
  }
  tell();
  return true;
}

void GuestClock::on_change(std::function<void()> listener) {
  std::scoped_lock hold(writers_);
  listener_ = std::move(listener);
}

void GuestClock::tell() {
  std::function<void()> listener;
  {
    std::scoped_lock hold(writers_);
    listener = listener_;
  }
  if (listener) listener();
}

}  // namespace hv

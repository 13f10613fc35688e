#include "pump.h"

namespace hv::addon {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::microseconds kLook{20};
constexpr std::chrono::milliseconds kTurn{1};
constexpr int kMostCredit = 32, kPaid = 4;

}  // namespace

Pump::Pump(Napi::Env env, Napi::Function serve, Napi::Function notify, Napi::Function completed)
    : env_{env},
      serve_{Napi::Persistent(serve)},
      notify_{Napi::Persistent(notify)},
      completed_{Napi::Persistent(completed)},
      context_{env, "xhyved.machine"} {
  uv_loop_s* loop = nullptr;
  napi_get_uv_event_loop(env, &loop);
  uv_async_init(loop, &async_, [](uv_async_t* async) { static_cast<Pump*>(async->data)->turn(); });
  async_.data = this;
}

void Pump::attach(Bus& bus) {
  bus_ = &bus;
  channel_ = &bus.channel();
  if (bus.bells() == nullptr) return;
  bells_ = std::make_unique<uv_poll_t>();
  uv_poll_init(async_.loop, bells_.get(), bus.bells()->descriptor());
  bells_->data = this;
  uv_poll_start(bells_.get(), UV_READABLE, [](uv_poll_t* poll, int, int) {
    static_cast<Pump*>(poll->data)->bells_rang();
  });
}

// The poll handle outlives the pump until the event loop has let go of it, and then goes by itself.
void Pump::detach() {
  bus_ = nullptr;
  channel_ = nullptr;
  if (bells_ == nullptr) return;
  uv_close(reinterpret_cast<uv_handle_t*>(bells_.release()),
           [](uv_handle_t* handle) { delete reinterpret_cast<uv_poll_t*>(handle); });
}

void Pump::close(std::unique_ptr<Pump> pump, std::function<void()> closed) {
  Pump* const self = pump.release();
  self->detach();
  self->closed_ = std::move(closed);
  uv_close(reinterpret_cast<uv_handle_t*>(&self->async_), [](uv_handle_t* handle) {
    std::unique_ptr<Pump> last{static_cast<Pump*>(handle->data)};
    const Napi::HandleScope scope{last->env_};
    const std::function<void()> then = std::move(last->closed_);
    last.reset();
    if (then) then();
  });
}

void Pump::notice(VmNotice notice) {
  {
    std::scoped_lock hold{mutex_};
    notices_.push_back(std::move(notice));
  }
  wake();
}

void Pump::call(const Napi::FunctionReference& function,
                const std::vector<napi_value>& arguments) {
  // A callback of its own, so that promises and ticks that a handler queued run after it.
  function.MakeCallback(env_.Global(), arguments, context_);
  if (!env_.IsExceptionPending()) return;
  const Napi::Value error = env_.GetAndClearPendingException().Value();
  napi_fatal_exception(env_, error);  // the process's uncaughtException listeners
}

void Pump::serve_once() {
  const Napi::HandleScope scope{env_};
  call(serve_, {});
}

void Pump::deliver_notices() {
  std::vector<VmNotice> all;
  {
    std::scoped_lock hold{mutex_};
    all.swap(notices_);
  }
  for (const VmNotice& one : all) {
    const Napi::HandleScope scope{env_};
    call(notify_, {Napi::Number::New(env_, static_cast<double>(one.event)),
                   Napi::Number::New(env_, one.number),
                   Napi::Number::New(env_, static_cast<double>(one.generation)),
                   Napi::String::New(env_, one.text)});
  }
}

void Pump::deliver_completions() {
  if (!completions_.exchange(false)) return;
  const Napi::HandleScope scope{env_};
  call(completed_, {});
}

bool Pump::look_again() {
  if (credit_ <= 0 || !channel_->peer_elsewhere()) return false;
  const auto end = Clock::now() + kLook;
  while (Clock::now() < end) {
    if (!channel_->ready()) continue;
    credit_ = credit_ + kPaid < kMostCredit ? credit_ + kPaid : kMostCredit;
    return true;
  }
  --credit_;
  return false;
}

void Pump::bells_rang() {
  channel_->woken_by_kernel();
  bus_->collect();
  turn();
}

void Pump::turn() {
  const auto end = Clock::now() + kTurn;
  if (channel_ != nullptr) channel_->woken();
  for (;;) {
    const bool busy = channel_ != nullptr && channel_->ready();
    if (busy) serve_once();
    deliver_completions();
    deliver_notices();
    if (channel_ == nullptr) return;  // a notice closed the VM
    if (Clock::now() >= end) return wake();
    if (channel_->ready() || look_again()) continue;
    if (channel_->try_sleep()) break;
  }
  if (credit_ < 1 && ++credit_ < 1) credit_ = 1;
}

}  // namespace hv::addon

#include "net_object.h"

#include <algorithm>
#include <array>

#include "../arguments.h"
#include "base/json.h"

namespace hv::addon {
namespace {

constexpr std::size_t kMostAtOnce = 64;
constexpr std::uint64_t kMostPieces = 4096;
constexpr double kMostExact = 9007199254740991.0;
constexpr std::uint64_t kSafe = (1ull << 53) - 1;

template <class Array>
bool is_array(const Napi::Value& value, napi_typedarray_type type) {
  return value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == type;
}

bool is_bytes(const Napi::Value& value) {
  return is_array<Napi::Uint8Array>(value, napi_uint8_array);
}

std::span<const std::uint8_t> bytes_of(const Napi::Value& value) {
  const auto array = value.As<Napi::Uint8Array>();
  return {array.Data(), array.ByteLength()};
}

// A capture whose port is gone and whose next one is not there yet.
struct BetweenPorts {
  std::unique_ptr<net::Capture> capture;
};

Napi::FunctionReference& constructor(Napi::Env env) {
  return *env.GetInstanceData<Napi::FunctionReference>();
}

}  // namespace

// libuv's handle lives until the event loop has let go of it, the object maybe not so long.
struct NetObject::Poll {
  uv_poll_t handle;
  NetObject* owner;
};

Napi::Function NetObject::define(Napi::Env env) {
  const Napi::Function function = DefineClass(
      env, "NetPort",
      {InstanceMethod<&NetObject::offloads>("offloads"),
       InstanceMethod<&NetObject::fault>("fault"),
       InstanceMethod<&NetObject::listen>("listen"),
       InstanceMethod<&NetObject::watch>("watch"),
       InstanceMethod<&NetObject::agree>("agree"),
       InstanceMethod<&NetObject::filter>("filter"),
       InstanceMethod<&NetObject::post>("post"),
       InstanceMethod<&NetObject::clear>("clear"),
       InstanceMethod<&NetObject::receive>("receive"),
       InstanceMethod<&NetObject::send>("send"),
       InstanceMethod<&NetObject::flush>("flush"),
       InstanceMethod<&NetObject::capture>("capture"),
       InstanceMethod<&NetObject::stop_capture>("stopCapture"),
       InstanceMethod<&NetObject::take_capture>("takeCapture"),
       InstanceMethod<&NetObject::continue_capture>("continueCapture"),
       InstanceMethod<&NetObject::statistics>("statistics"),
       InstanceMethod<&NetObject::close>("close")});
  auto* const kept = new Napi::FunctionReference{Napi::Persistent(function)};
  env.SetInstanceData(kept);
  return function;
}

Napi::Object NetObject::make(Napi::Env env, std::unique_ptr<net::Port> port) {
  return constructor(env).New({Napi::External<net::Port>::New(env, port.release())});
}

NetObject::NetObject(const Info& info) : Napi::ObjectWrap<NetObject>{info} {
  if (!info[0].IsExternal()) {
    Napi::TypeError::New(info.Env(), "ports are made by a machine").ThrowAsJavaScriptException();
    return;
  }
  port_.reset(info[0].As<Napi::External<net::Port>>().Data());
}

NetObject::~NetObject() { shut(); }

bool NetObject::open(const Info& info) {
  if (port_ == nullptr)
    Napi::Error::New(info.Env(), "the port is closed").ThrowAsJavaScriptException();
  return port_ != nullptr;
}

void NetObject::shut() {
  if (poll_ != nullptr) {
    poll_->owner = nullptr;
    uv_poll_stop(&poll_->handle);
    uv_close(reinterpret_cast<uv_handle_t*>(&poll_->handle),
             [](uv_handle_t* handle) { delete static_cast<Poll*>(handle->data); });
    poll_ = nullptr;
    ready_.Reset();
    Unref();
  }
  port_.reset();
}

void NetObject::close(const Info&) { shut(); }

// --- events -------------------------------------------------------------------------------------

void NetObject::listen(const Info& info) {
  Arguments args{info};
  const Napi::Function ready = args.function(0, "ready");
  if (!args.ok() || !open(info) || poll_ != nullptr) return;
  uv_loop_s* loop = nullptr;
  napi_get_uv_event_loop(info.Env(), &loop);
  auto poll = std::make_unique<Poll>();
  poll->owner = this;
  if (const int error = uv_poll_init(loop, &poll->handle, port_->link().descriptor())) {
    Napi::Error::New(info.Env(), uv_strerror(error)).ThrowAsJavaScriptException();
    return;
  }
  poll_ = poll.release();
  poll_->handle.data = poll_;
  ready_ = Napi::Persistent(ready);
  context_ = std::make_unique<Napi::AsyncContext>(info.Env(), "xhyved.network");
  Ref();  // until close(): the event loop has its address
}

void NetObject::watch(const Info& info) {
  Arguments args{info};
  const bool readable = args.flag(0, "readable"), writable = args.flag(1, "writable");
  if (!args.ok() || !open(info) || poll_ == nullptr) return;
  const int events = (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0);
  if (events == 0) {
    uv_poll_stop(&poll_->handle);
    return;
  }
  uv_poll_start(&poll_->handle, events, [](uv_poll_t* handle, int status, int found) {
    NetObject* const owner = static_cast<Poll*>(handle->data)->owner;
    // An error is found by the next read or write, which says what it is.
    if (owner != nullptr) owner->ready(status < 0 ? UV_READABLE | UV_WRITABLE : found);
  });
}

void NetObject::ready(int events) {
  const Napi::Env env = Env();
  const Napi::HandleScope scope{env};
  const auto flag = [&](int bit) { return Napi::Boolean::New(env, (events & bit) != 0); };
  ready_.MakeCallback(env.Global(), {flag(UV_READABLE), flag(UV_WRITABLE)}, *context_);
  if (!env.IsExceptionPending()) return;
  const Napi::Value error = env.GetAndClearPendingException().Value();
  napi_fatal_exception(env, error);  // the process's uncaughtException listeners
}

// --- what was agreed on -------------------------------------------------------------------------

Napi::Value NetObject::offloads(const Info& info) {
  if (!open(info)) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), port_->link().offloads());
}

Napi::Value NetObject::fault(const Info& info) {
  if (!open(info)) return info.Env().Undefined();
  return Napi::String::New(info.Env(), port_->link().fault());
}

void NetObject::agree(const Info& info) {
  Arguments args{info};
  net::Agreement agreement;
  agreement.header = args.word(0, "header", sizeof(net::Header));
  agreement.mergeable = args.flag(1, "mergeable");
  agreement.checksums = args.flag(2, "checksums");
  agreement.accepts = args.word(3, "accepts", 31);
  if (args.ok() && agreement.header != 10 && agreement.header != 12)
    args.fail("header", "10 or 12");
  if (args.ok() && open(info)) port_->agree(agreement);
}

void NetObject::filter(const Info& info) {
  Arguments args{info};
  net::Filter filter;
  filter.mode = args.word(0, "mode", 63);
  if (args.ok() && !(is_bytes(info[1]) && is_bytes(info[2]) && is_bytes(info[3])))
    args.fail("addresses", "Uint8Arrays");
  if (!args.ok() || !open(info)) return;
  const auto mac = bytes_of(info[1]), addresses = bytes_of(info[2]), vlans = bytes_of(info[3]);
  if (mac.size() == net::kMacBytes) std::ranges::copy(mac, filter.mac.begin());
  for (std::size_t at = 0; at + net::kMacBytes <= addresses.size(); at += net::kMacBytes) {
    net::Mac one;
    std::copy_n(addresses.begin() + static_cast<std::ptrdiff_t>(at), net::kMacBytes, one.begin());
    filter.addresses.insert(one);
  }
  if (vlans.size() == 512)
    for (std::size_t i = 0; i < 4096; ++i) filter.vlans.push_back(vlans[i / 8] >> (i % 8) & 1);
  port_->filter() = filter;
}

// --- frames -------------------------------------------------------------------------------------

// (numbers: Float64Array, count) into chains_.
bool NetObject::read_chains(const Info& info) {
  Arguments args{info};
  const auto count = static_cast<std::size_t>(args.integer(1, "count", 1u << 24));
  if (!args.ok() || !open(info)) return false;
  if (!is_array<Napi::Float64Array>(info[0], napi_float64_array) ||
      info[0].As<Napi::Float64Array>().ElementLength() < count)
    return args.fail("numbers", "a Float64Array"), false;
  const double* const numbers = info[0].As<Napi::Float64Array>().Data();
  pieces_.clear();
  chains_.clear();
  pieces_.reserve(count);  // chains_ point into it
  for (std::size_t at = 0; at < count;) {
    const double pieces = numbers[at++];
    if (!(pieces >= 0 && pieces <= kMostPieces) || count - at < 2 * static_cast<std::size_t>(pieces))
      return args.fail("numbers", "chains"), false;
    const std::size_t first = pieces_.size();
    for (auto left = static_cast<std::size_t>(pieces); left > 0; --left, at += 2) {
      if (!(numbers[at] >= 0 && numbers[at] <= kMostExact && numbers[at + 1] >= 0 &&
            numbers[at + 1] <= kMostExact))
        return args.fail("numbers", "whole and not negative"), false;
      pieces_.push_back({Gpa{static_cast<std::uint64_t>(numbers[at])},
                         static_cast<std::uint64_t>(numbers[at + 1])});
    }
    chains_.emplace_back(pieces_.data() + first, pieces_.size() - first);
  }
  return true;
}

Napi::Value NetObject::post(const Info& info) {
  if (!read_chains(info)) return info.Env().Undefined();
  std::size_t good = 0;
  while (good < chains_.size() && port_->post(chains_[good])) ++good;
  return Napi::Number::New(info.Env(), static_cast<double>(good));
}

void NetObject::clear(const Info& info) {
  if (open(info)) port_->clear();
}

Napi::Value NetObject::receive(const Info& info) {
  Arguments args{info};
  const bool whole = args.flag(1, "wholeRing");
  if (!args.ok() || !open(info)) return info.Env().Undefined();
  if (!is_array<Napi::Uint32Array>(info[0], napi_uint32_array))
    return args.fail("into", "a Uint32Array"), info.Env().Undefined();
  auto into = info[0].As<Napi::Uint32Array>();
  std::array<net::Received, kMostAtOnce> frames{};
  std::size_t count = 0;
  const std::size_t room = std::min(frames.size(), into.ElementLength() / 2);
  const net::Stop stop = port_->receive({frames.data(), room}, count, whole);
  for (std::size_t i = 0; i < count; ++i) {
    into.Data()[2 * i] = frames[i].chains;
    into.Data()[2 * i + 1] = frames[i].bytes;
  }
  return Napi::Number::New(info.Env(), static_cast<double>(4 * count + static_cast<unsigned>(stop)));
}

Napi::Value NetObject::send(const Info& info) {
  if (!read_chains(info)) return info.Env().Undefined();
  net::Stop stop{};
  const std::size_t done = port_->send(chains_, stop);
  return Napi::Number::New(info.Env(), static_cast<double>(4 * done + static_cast<unsigned>(stop)));
}

Napi::Value NetObject::flush(const Info& info) {
  if (!open(info)) return info.Env().Undefined();
  return Napi::Boolean::New(info.Env(), port_->flush());
}

// --- inspection ---------------------------------------------------------------------------------

void NetObject::capture(const Info& info) {
  Arguments args{info};
  const auto fd = static_cast<int>(args.word(0, "fd", 0x7fffffff));
  const std::string name = args.text(1, "name");
  const std::uint64_t limit = args.integer(2, "limit", kSafe);
  const std::uint32_t snap = args.word(3, "snap");
  if (!args.ok() || !open(info)) return;
  port_->capture(std::make_unique<net::Capture>(fd, name.substr(0, 255), limit, snap));
}

void NetObject::stop_capture(const Info& info) {
  if (open(info)) port_->capture(nullptr);
}

Napi::Value NetObject::take_capture(const Info& info) {
  if (!open(info) || port_->capturing() == nullptr) return info.Env().Undefined();
  return Napi::External<BetweenPorts>::New(
      info.Env(), new BetweenPorts{port_->take_capture()},
      [](Napi::Env, BetweenPorts* between) { delete between; });
}

void NetObject::continue_capture(const Info& info) {
  if (!open(info)) return;
  if (!info[0].IsExternal()) {
    Napi::TypeError::New(info.Env(), "a capture that a port gave").ThrowAsJavaScriptException();
    return;
  }
  auto* const between = info[0].As<Napi::External<BetweenPorts>>().Data();
  if (between->capture) port_->capture(std::move(between->capture));
}

Napi::Value NetObject::statistics(const Info& info) {
  if (!open(info)) return info.Env().Undefined();
  const net::Counters& all = port_->counters();
  json::Object out;
  const auto add = [&out](const char* name, std::uint64_t value) {
    out.emplace(name, json::Value{value});
  };
  add("sent", all.sent);
  add("sentBytes", all.sent_bytes);
  add("sendDropped", all.send_dropped);
  add("received", all.received);
  add("receivedBytes", all.received_bytes);
  add("receiveDropped", all.receive_dropped);
  add("filtered", all.filtered);
  if (net::Capture* const capture = port_->capturing()) {
    capture->flush();
    add("capturedFrames", capture->frames());
    add("capturedBytes", capture->bytes());
    out.emplace("captureEnded", json::Value{capture->ended()});
  }
  return Napi::String::New(info.Env(), json::Value{std::move(out)}.print());
}

}  // namespace hv::addon

// Serial chips: made here, answered on the vCPUs' threads, with JavaScript at the host's end.
#include "../arguments.h"
#include "base/state.h"
#include "vm_object.h"

namespace hv::addon {
namespace {

constexpr std::uint32_t kLastPort = 0xffff;

}  // namespace

Uart* VmObject::uart_of(const Info& info) {
  Arguments args{info};
  const std::uint32_t id = args.word(0, "uart");
  if (!args.ok() || !alive(info)) return nullptr;
  std::deque<Uart>& uarts = vm_->board().uarts;
  if (id < uarts.size()) return &uarts[id];
  args.fail("uart", "a serial chip");
  return nullptr;
}

Napi::Value VmObject::uart(const Info& info) {
  Arguments args{info};
  if (!alive(info)) return info.Env().Undefined();
  LevelLine* line = nullptr;
  if (!info[0].IsUndefined()) {
    const std::uint32_t number = args.word(0, "line");
    if (!args.ok()) return info.Env().Undefined();
    if (number >= lines_.size()) return args.fail("line", "a line"), info.Env().Undefined();
    line = &lines_[number];
  }
  std::deque<Uart>& uarts = vm_->board().uarts;
  const auto id = static_cast<std::uint32_t>(uarts.size());
  uarts.emplace_back(vm_->board().timers, line, [pump = pump_.get(), id] {
    pump->notice({VmEvent::kUart, id});
  });
  return Napi::Number::New(info.Env(), id);
}

Napi::Value VmObject::map_uart(const Info& info) {
  Uart* const chip = uart_of(info);
  Arguments args{info};
  const std::string name = args.text(1, "name");
  const std::uint32_t port = args.word(2, "port", kLastPort);
  if (chip == nullptr || !args.ok()) return info.Env().Undefined();
  Range* range = nullptr;
  RangeSpec spec{name, Space::kPorts, port, uart::kLength, {}, chip};
  const std::string wrong = vm_->bus().map().add(std::move(spec), range);
  if (wrong.empty()) return Napi::Number::New(info.Env(), range->id);
  Napi::RangeError::New(info.Env(), wrong).ThrowAsJavaScriptException();
  return info.Env().Undefined();
}

Napi::Value VmObject::uart_read(const Info& info) {
  Uart* const chip = uart_of(info);
  Arguments args{info};
  const std::uint32_t offset = args.word(1, "offset", uart::kLength - 1);
  if (chip == nullptr || !args.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), static_cast<double>(chip->read(0, offset, 1)));
}

void VmObject::uart_write(const Info& info) {
  Uart* const chip = uart_of(info);
  Arguments args{info};
  const std::uint32_t offset = args.word(1, "offset", uart::kLength - 1);
  const std::uint32_t value = args.word(2, "value", 0xff);
  if (chip != nullptr && args.ok()) chip->write(0, offset, 1, value);
}

Napi::Value VmObject::uart_interrupting(const Info& info) {
  const Uart* const chip = uart_of(info);
  return Napi::Boolean::New(info.Env(), chip != nullptr && chip->interrupting());
}

Napi::Value VmObject::uart_take(const Info& info) {
  // A machine that is gone has nothing more to say.
  if (vm_ == nullptr) return Napi::Buffer<std::uint8_t>::New(info.Env(), 0);
  Uart* const chip = uart_of(info);
  if (chip == nullptr) return info.Env().Undefined();
  const std::vector<std::uint8_t> taken = chip->take();
  return Napi::Buffer<std::uint8_t>::Copy(info.Env(), taken.data(), taken.size());
}

Napi::Value VmObject::uart_receive(const Info& info) {
  Uart* const chip = uart_of(info);
  Arguments args{info};
  if (chip == nullptr) return info.Env().Undefined();
  if (!info[1].IsTypedArray()) return args.fail("bytes", "a Uint8Array"), info.Env().Undefined();
  const auto array = info[1].As<Napi::TypedArray>();
  if (array.TypedArrayType() != napi_uint8_array)
    return args.fail("bytes", "a Uint8Array"), info.Env().Undefined();
  const auto bytes = info[1].As<Napi::Uint8Array>();
  const bool more = chip->receive({bytes.Data(), bytes.ElementLength()});
  return Napi::Boolean::New(info.Env(), more);
}

void VmObject::uart_break(const Info& info) {
  if (Uart* const chip = uart_of(info); chip != nullptr) chip->receive_break();
}

void VmObject::uart_hold(const Info& info) {
  Uart* const chip = uart_of(info);
  Arguments args{info};
  const bool on = args.flag(1, "on");
  if (chip != nullptr && args.ok()) chip->hold(on);
}

void VmObject::uart_reset(const Info& info) {
  if (Uart* const chip = uart_of(info); chip != nullptr) chip->reset();
}

Napi::Value VmObject::uart_save(const Info& info) {
  const Uart* const chip = uart_of(info);
  if (chip == nullptr) return info.Env().Undefined();
  return Napi::String::New(info.Env(), state::save(chip->state()).print());
}

Napi::Value VmObject::uart_restore(const Info& info) {
  Uart* const chip = uart_of(info);
  Arguments args{info};
  const std::string text = args.text(1, "state");
  if (chip == nullptr || !args.ok()) return info.Env().Undefined();
  UartState state;
  const auto value = json::parse(text);
  std::string wrong = value ? state::restore(*value, state) : "uart: the state is not JSON";
  if (const std::string_view field = Uart::check(state); wrong.empty() && !field.empty())
    wrong = "uart." + std::string{field} + ": missing or out of range";
  if (wrong.empty()) chip->set_state(state);
  return Napi::String::New(info.Env(), wrong);
}

}  // namespace hv::addon

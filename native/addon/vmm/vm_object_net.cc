// Opening what network cards are plugged into. Failures are Errors in words for the operator, with
// code and errno as Node's have.
#include <uv.h>

#include "../arguments.h"
#include "net/connect.h"
#include "net/host.h"
#include "net/stream_link.h"
#include "net/switch_link.h"
#include "net/tap_link.h"
#include "net/vmnet.h"
#include "net_object.h"
#include "vm_object.h"

namespace hv::addon {
namespace {

using Info = Napi::CallbackInfo;

Napi::Value fail(const Info& info, int error, const char* what) {
  const char* const code = uv_err_name(-error);
  Napi::Error thrown = Napi::Error::New(
      info.Env(), std::string{what} + ": " + uv_strerror(-error) + " (" + code + ")");
  thrown.Set("code", Napi::String::New(info.Env(), code));
  thrown.Set("errno", Napi::Number::New(info.Env(), -error));
  thrown.ThrowAsJavaScriptException();
  return info.Env().Undefined();
}

std::string text_of(const net::Mac& mac) {
  char out[3 * net::kMacBytes];
  for (std::size_t i = 0; i < net::kMacBytes; ++i)
    std::snprintf(out + 3 * i, 4, i + 1 < net::kMacBytes ? "%02x:" : "%02x", mac[i]);
  return out;
}

// Six bytes.
bool read_mac(const Napi::Value& value, net::Mac& out) {
  if (!value.IsTypedArray() ||
      value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array ||
      value.As<Napi::Uint8Array>().ByteLength() != out.size())
    return false;
  std::copy_n(value.As<Napi::Uint8Array>().Data(), out.size(), out.begin());
  return true;
}

}  // namespace

Napi::Value VmObject::net_port(const Info& info, std::unique_ptr<net::Link> link) {
  return NetObject::make(info.Env(),
                         std::make_unique<net::Port>(vm_->shared_memory(), std::move(link)));
}

// (name, bridge): [port, name]; an empty bridge: none
Napi::Value VmObject::net_tap(const Info& info) {
  Arguments args{info};
  const std::string name = args.text(0, "name"), bridge = args.text(1, "bridge");
  if (!args.ok() || !alive(info)) return info.Env().Undefined();
  net::host::Tap tap;
  if (const int error = net::host::open_tap(name, tap)) return fail(info, error, "the interface");
  auto link = std::make_unique<net::TapLink>(tap);  // closes it if we fail
  if (const int error = net::host::set_up(tap.name); error != 0 && error != EPERM)
    return fail(info, error, "taking the interface up");
  if (!bridge.empty())
    if (const int error = net::host::join_bridge(tap.name, bridge))
      return fail(info, error, "the bridge");
  const Napi::Array out = Napi::Array::New(info.Env());
  out.Set(0u, net_port(info, std::move(link)));
  out.Set(1u, tap.name);
  return out;
}

// (path): a port
Napi::Value VmObject::net_stream(const Info& info) {
  Arguments args{info};
  const std::string path = args.text(0, "path");
  if (!args.ok() || !alive(info)) return info.Env().Undefined();
  int fd = -1;
  if (const int error = net::connect_unix(path, fd)) return fail(info, error, "its socket");
  return net_port(info, std::make_unique<net::StreamLink>(fd));
}

// (): [port, fd]: the other end, for a child process
Napi::Value VmObject::net_pair(const Info& info) {
  if (!alive(info)) return info.Env().Undefined();
  int ours = -1, theirs = -1;
  if (const int error = net::make_pair(ours, theirs)) return fail(info, error, "socketpair");
  const Napi::Array out = Napi::Array::New(info.Env());
  out.Set(0u, net_port(info, std::make_unique<net::StreamLink>(ours)));
  out.Set(1u, theirs);
  return out;
}

// (folder, mac): a port
Napi::Value VmObject::net_switch(const Info& info) {
  Arguments args{info};
  const std::string folder = args.text(0, "folder");
  net::Mac mac;
  if (args.ok() && !read_mac(info[1], mac)) args.fail("mac", "6 bytes");
  if (!args.ok() || !alive(info)) return info.Env().Undefined();
  int error = 0;
  auto link = net::SwitchLink::join(folder, mac, error);
  if (link == nullptr) return fail(info, error, "joining the network");
  return net_port(info, std::move(link));
}

// (mode, interface id, bridged interface): [port, MAC address as text]
Napi::Value VmObject::net_vmnet(const Info& info) {
  Arguments args{info};
  net::VmnetOptions options;
  options.mode = static_cast<net::VmnetOptions::Mode>(args.word(0, "mode", 2));
  options.interface_id = args.text(1, "interfaceId");
  options.bridge_to = args.text(2, "bridgeTo");
  if (!args.ok() || !alive(info)) return info.Env().Undefined();
  net::Vmnet vmnet;
  const std::string wrong = net::open_vmnet(options, vmnet);
  if (!wrong.empty()) return refuse(info, wrong), info.Env().Undefined();
  const Napi::Array out = Napi::Array::New(info.Env());
  out.Set(0u, net_port(info, std::move(vmnet.link)));
  out.Set(1u, text_of(vmnet.mac));
  return out;
}

}  // namespace hv::addon

// One network port as JavaScript holds it: native/net.ts wraps this class, nobody else uses it.
// VmObject's net…() methods make it. Chains come as numbers, many at a time: pieces, then address and
// length of each piece, chain after chain.
#pragma once
#include <napi.h>
#include <uv.h>

#include <memory>
#include <vector>

#include "net/port.h"

namespace hv::addon {

class NetObject final : public Napi::ObjectWrap<NetObject> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Object make(Napi::Env env, std::unique_ptr<net::Port> port);
  // (an External of the port)
  explicit NetObject(const Napi::CallbackInfo& info);
  ~NetObject() override;

 private:
  using Info = Napi::CallbackInfo;
  using Value = Napi::Value;
  struct Poll;

  Value offloads(const Info& info);
  Value fault(const Info& info);
  void listen(const Info& info);  // (ready: (readable, writable) => void)
  void watch(const Info& info);   // (readable, writable)
  void agree(const Info& info);   // (header, mergeable, checksums, accepts)
  void filter(const Info& info);  // (mode, mac, addresses, vlans): Uint8Arrays
  Value post(const Info& info);   // (numbers, count): how many chains were good
  void clear(const Info& info);
  Value receive(const Info& info);  // (into: Uint32Array, wholeRing): 4 * count + Stop
  Value send(const Info& info);     // (numbers, count): 4 * chains dealt with + Stop
  Value flush(const Info& info);
  void capture(const Info& info);  // (fd, name, limit, snap)
  void stop_capture(const Info& info);
  Value take_capture(const Info& info);       // an External, or undefined
  void continue_capture(const Info& info);    // (that External, once)
  Value statistics(const Info& info);  // JSON
  void close(const Info& info);

  bool open(const Info& info);
  bool read_chains(const Info& info);
  void shut();
  void ready(int events);

  std::unique_ptr<net::Port> port_;
  Poll* poll_ = nullptr;
  Napi::FunctionReference ready_;
  std::unique_ptr<Napi::AsyncContext> context_;
  std::vector<net::Piece> pieces_;
  std::vector<net::Chain> chains_;
};

}  // namespace hv::addon

// The addon of the daemon: host facilities only, no VM code. native/host.ts is its face.
#include <fcntl.h>
#include <napi.h>
#include <uv.h>

#include <cerrno>
#include <cstring>

#include "../arguments.h"
#include "facilities.h"
#include "pty.h"

namespace hv::addon {
namespace {

using Info = Napi::CallbackInfo;
using Napi::Value;

constexpr std::uint32_t kMostFd = 0x7fffffff;
constexpr std::uint32_t kMostBytes = 1u << 20;

// An Error as Node makes them: code "EACCES", errno, syscall, and a sentence.
Value fail(const Info& info, int error, const char* call) {
  const char* const code = uv_err_name(-error);
  Napi::Error thrown = Napi::Error::New(
      info.Env(), std::string{code} + ": " + uv_strerror(-error) + ", " + call);
  thrown.Set("code", Napi::String::New(info.Env(), code));
  thrown.Set("errno", Napi::Number::New(info.Env(), -error));
  thrown.Set("syscall", Napi::String::New(info.Env(), call));
  thrown.ThrowAsJavaScriptException();
  return info.Env().Undefined();
}

int descriptor(Arguments& args, std::size_t at, const char* name) {
  return static_cast<int>(args.word(at, name, kMostFd));
}

Napi::Array numbers(Napi::Env env, const std::vector<int>& values) {
  const Napi::Array out = Napi::Array::New(env, values.size());
  for (std::uint32_t i = 0; i < values.size(); ++i) out.Set(i, values[i]);
  return out;
}

// (fd, shared?): true, or false where another holds it
Value lock_file(const Info& info) {
  Arguments args{info};
  const int fd = descriptor(args, 0, "fd");
  const bool shared = !info[1].IsUndefined() && args.flag(1, "shared");
  if (!args.ok()) return info.Env().Undefined();
  const int error = host::lock_file(fd, shared);
  if (error != 0 && error != EWOULDBLOCK) return fail(info, error, "flock");
  return Napi::Boolean::New(info.Env(), error == 0);
}

void unlock_file(const Info& info) {
  Arguments args{info};
  const int fd = descriptor(args, 0, "fd");
  if (!args.ok()) return;
  if (const int error = host::unlock_file(fd)) fail(info, error, "flock");
}

// (fd): another of the same open file
Value duplicate(const Info& info) {
  Arguments args{info};
  const int fd = descriptor(args, 0, "fd");
  if (!args.ok()) return info.Env().Undefined();
  const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return fail(info, errno, "fcntl");
  return Napi::Number::New(info.Env(), copy);
}

// (fd): bytes
Value direct_alignment(const Info& info) {
  Arguments args{info};
  const int fd = descriptor(args, 0, "fd");
  if (!args.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), static_cast<double>(host::direct_alignment(fd)));
}

// (fd): { size, logical, physical }
Value block_device(const Info& info) {
  Arguments args{info};
  const int fd = descriptor(args, 0, "fd");
  if (!args.ok()) return info.Env().Undefined();
  host::BlockDevice found;
  if (const int error = host::block_device(fd, found)) return fail(info, error, "ioctl");
  const Napi::Object out = Napi::Object::New(info.Env());
  out.Set("size", static_cast<double>(found.size));
  out.Set("logical", static_cast<double>(found.logical));
  out.Set("physical", static_cast<double>(found.physical));
  return out;
}

Value peer_credentials(const Info& info) {
  Arguments args{info};
  const int fd = descriptor(args, 0, "fd");
  if (!args.ok()) return info.Env().Undefined();
  host::Peer peer;
  if (const int error = host::peer_credentials(fd, peer)) return fail(info, error, "getsockopt");
  const Napi::Object out = Napi::Object::New(info.Env());
  out.Set("uid", static_cast<double>(peer.uid));
  out.Set("gid", static_cast<double>(peer.gid));
  out.Set("pid", static_cast<double>(peer.pid));
  return out;
}

Value process_start(const Info& info) {
  Arguments args{info};
  const auto pid = static_cast<pid_t>(args.word(0, "pid", kMostFd));
  if (!args.ok()) return info.Env().Undefined();
  const auto started = host::process_start(pid);
  if (!started) return info.Env().Undefined();
  return Napi::String::New(info.Env(), *started);
}

// (pid, started, signal): false where that process is gone
Value signal_process(const Info& info) {
  Arguments args{info};
  const auto pid = static_cast<pid_t>(args.word(0, "pid", kMostFd));
  const std::string started = args.text(1, "started");
  const int signal = static_cast<int>(args.word(2, "signal", 64));
  if (args.ok() && pid == 0) args.fail("pid", "greater than 0");  // kill(2): 0 is our own group
  if (!args.ok()) return info.Env().Undefined();
  const int error = host::signal_process(pid, started, signal);
  if (error != 0 && error != ESRCH) return fail(info, error, "kill");
  return Napi::Boolean::New(info.Env(), error == 0);
}

// (folder, path, flags, mode): fd
Value open_beneath(const Info& info) {
  Arguments args{info};
  const int folder = descriptor(args, 0, "folder");
  const std::string path = args.text(1, "path");
  const int flags = static_cast<int>(args.word(2, "flags", kMostFd));
  const auto mode = static_cast<mode_t>(args.word(3, "mode", 07777));
  if (!args.ok()) return info.Env().Undefined();
  int fd = -1;
  const int error = host::open_beneath(folder, path, flags, mode, fd);
  if (error != 0) return fail(info, error, "openat2");
  return Napi::Number::New(info.Env(), fd);
}

// (socket, bytes, fds): how many bytes were sent; undefined: not now
Value send_descriptors(const Info& info) {
  Arguments args{info};
  const int socket = descriptor(args, 0, "socket");
  const Value bytes = info[1];
  const Napi::Array list = args.array(2, "fds");
  if (args.ok() && !bytes.IsTypedArray()) args.fail("bytes", "a Uint8Array");
  if (!args.ok()) return info.Env().Undefined();
  std::vector<int> fds;
  for (std::uint32_t i = 0; i < list.Length(); ++i) {
    const Value fd = list.Get(i);
    const double number = fd.IsNumber() ? fd.As<Napi::Number>().DoubleValue() : -1;
    if (!(number >= 0 && number <= kMostFd))
      return args.fail("fds", "an array of descriptors"), info.Env().Undefined();
    fds.push_back(static_cast<int>(number));
  }
  const auto data = bytes.As<Napi::TypedArray>();
  const auto* const start =
      static_cast<const std::uint8_t*>(data.ArrayBuffer().Data()) + data.ByteOffset();
  std::size_t sent = 0;
  const int error = host::send_descriptors(socket, start, data.ByteLength(), fds, sent);
  if (error == EAGAIN) return info.Env().Undefined();
  if (error != 0) return fail(info, error, "sendmsg");
  return Napi::Number::New(info.Env(), static_cast<double>(sent));
}

// (socket, most): {bytes, fds}, no bytes at the end; undefined: not now
Value receive_descriptors(const Info& info) {
  Arguments args{info};
  const int socket = descriptor(args, 0, "socket");
  const std::uint32_t most = args.word(1, "most", kMostBytes);
  if (!args.ok()) return info.Env().Undefined();
  std::vector<std::uint8_t> bytes(most);
  std::vector<int> fds;
  const int error = host::receive_descriptors(socket, bytes, fds);
  if (error == EAGAIN) return info.Env().Undefined();
  if (error != 0) return fail(info, error, "recvmsg");
  const Napi::Object out = Napi::Object::New(info.Env());
  out.Set("bytes", Napi::Buffer<std::uint8_t>::Copy(info.Env(), bytes.data(), bytes.size()));
  out.Set("fds", numbers(info.Env(), fds));
  return out;
}

// (text): false where nobody asked to be notified
Value sd_notify(const Info& info) {
  Arguments args{info};
  const std::string text = args.text(0, "text");
  if (!args.ok()) return info.Env().Undefined();
  const int error = host::sd_notify(text);
  if (error != 0 && error != ENOENT) return fail(info, error, "sendto");
  return Napi::Boolean::New(info.Env(), error == 0);
}

// (name): descriptors; undefined on hosts without launchd
Value launch_activate_socket(const Info& info) {
  Arguments args{info};
  const std::string name = args.text(0, "name");
  if (!args.ok()) return info.Env().Undefined();
  std::vector<int> fds;
  const int error = host::launch_activate_socket(name, fds);
  if (error == ENOSYS) return info.Env().Undefined();
  if (error != 0) return fail(info, error, "launch_activate_socket");
  return numbers(info.Env(), fds);
}

// (profile)
void confine(const Info& info) {
  Arguments args{info};
  const std::string profile = args.text(0, "profile");
  if (!args.ok()) return;
  std::string failed;
  if (const int error = host::confine(profile, failed)) fail(info, error, failed.c_str());
}

// (): {fd, slave, path}
Value open_pty(const Info& info) {
  host::Pty pty;
  if (const int error = host::open_pty(pty)) return fail(info, error, "posix_openpt");
  const Napi::Object out = Napi::Object::New(info.Env());
  out.Set("fd", pty.master);
  out.Set("slave", pty.slave);
  out.Set("path", pty.path);
  return out;
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Function function) { exports.Set(name, function); };
  add("lockFile", Napi::Function::New<lock_file>(env));
  add("duplicate", Napi::Function::New<duplicate>(env));
  add("directAlignment", Napi::Function::New<direct_alignment>(env));
  add("blockDevice", Napi::Function::New<block_device>(env));
  add("unlockFile", Napi::Function::New<unlock_file>(env));
  add("peerCredentials", Napi::Function::New<peer_credentials>(env));
  add("processStart", Napi::Function::New<process_start>(env));
  add("signalProcess", Napi::Function::New<signal_process>(env));
  add("openBeneath", Napi::Function::New<open_beneath>(env));
  add("sendDescriptors", Napi::Function::New<send_descriptors>(env));
  add("receiveDescriptors", Napi::Function::New<receive_descriptors>(env));
  add("sdNotify", Napi::Function::New<sd_notify>(env));
  add("launchActivateSocket", Napi::Function::New<launch_activate_socket>(env));
  add("confine", Napi::Function::New<confine>(env));
  add("openPty", Napi::Function::New<open_pty>(env));
  return exports;
}

}  // namespace
}  // namespace hv::addon

static Napi::Object host_init(Napi::Env env, Napi::Object exports) {
  return hv::addon::init(env, exports);
}
NODE_API_MODULE(host, host_init)

// Files that devices move bytes to and from. Requests come as numbers, many at a time:
// operation, file, tag, offset, length, pieces, then address and length of each piece.
#include "../arguments.h"
#include "vm_object.h"

namespace hv::addon {
namespace {

constexpr std::size_t kHeader = 6;
constexpr std::uint32_t kMostAlignment = 65536;
constexpr std::uint64_t kSafe = (1ull << 53) - 1;
constexpr double kMostExact = 9007199254740991.0;

class Numbers {
 public:
  explicit Numbers(std::span<const double> all) : left_{all} {}

  bool empty() const { return left_.empty(); }
  bool has(std::size_t count) const { return left_.size() >= count; }
  // A whole number; what is none makes the request fail.
  std::uint64_t next() {
    const double value = left_.front();
    left_ = left_.subspan(1);
    if (value >= 0 && value <= kMostExact) return static_cast<std::uint64_t>(value);
    good_ = false;
    return 0;
  }
  bool good() const { return good_; }

 private:
  std::span<const double> left_;
  bool good_ = true;
};

bool read_request(Numbers& from, io::Request& out) {
  if (!from.has(kHeader)) return false;
  const std::uint64_t op = from.next();
  out.op = static_cast<io::Op>(op);
  out.file = static_cast<io::FileId>(from.next());
  out.tag = static_cast<std::uint32_t>(from.next());
  out.offset = from.next();
  out.length = from.next();
  const std::uint64_t pieces = from.next();
  if (op >= io::kOps || pieces > 4096 || !from.has(2 * pieces)) return false;
  for (std::uint64_t i = 0; i < pieces; ++i) {
    const std::uint64_t at = from.next();
    out.pieces.push_back({Gpa{at}, from.next()});
  }
  return from.good();
}

}  // namespace

io::Pool& VmObject::pool() {
  if (io_ == nullptr) {
    Pump* const pump = pump_.get();
    io_ = std::make_unique<io::Pool>(vm_->shared_memory(), [pump] { pump->completed(); });
  }
  return *io_;
}

// (fd, alignment): id. The descriptor is ours from here on.
Napi::Value VmObject::io_add(const Info& info) {
  Arguments args{info};
  const auto fd = static_cast<int>(args.word(0, "fd", 0x7fffffff));
  const std::size_t alignment = args.word(1, "alignment", kMostAlignment);
  if (!args.ok() || !alive(info)) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), pool().add(fd, std::max<std::size_t>(alignment, 1)));
}

// (file): id, of the same open file
Napi::Value VmObject::io_twin(const Info& info) {
  Arguments args{info};
  const io::FileId file = args.word(0, "file");
  if (!args.ok() || !alive(info)) return info.Env().Undefined();
  const std::optional<io::FileId> twin = pool().twin(file);
  if (!twin) return refuse(info, "no more descriptors can be had"), info.Env().Undefined();
  return Napi::Number::New(info.Env(), *twin);
}

// (size): [address, ArrayBuffer]
Napi::Value VmObject::io_buffer(const Info& info) {
  Arguments args{info};
  const auto size = static_cast<std::size_t>(args.integer(0, "size", io::kBufferWindow));
  if (!args.ok() || !alive(info)) return info.Env().Undefined();
  const std::shared_ptr<io::Buffer> buffer = io::Buffer::create(size);
  const auto address = buffer == nullptr ? std::nullopt : pool().add_buffer(buffer);
  if (!address) return refuse(info, "no more memory for I/O can be had"), info.Env().Undefined();
  const Napi::Array out = Napi::Array::New(info.Env(), 2);
  out.Set(0u, static_cast<double>(*address));
  out.Set(1u, external(info.Env(), buffer->bytes().data(), size, buffer));
  return out;
}

// (address)
void VmObject::io_drop(const Info& info) {
  Arguments args{info};
  const std::uint64_t address = args.integer(0, "address", kSafe);
  if (args.ok() && alive(info) && io_ != nullptr) io_->drop_buffer(address);
}

// (numbers: Float64Array, count): whether completions wait already
Napi::Value VmObject::io_submit(const Info& info) {
  Arguments args{info};
  const Napi::Value value = info[0];
  const auto count = args.integer(1, "count", 1u << 24);
  if (!args.ok() || !alive(info)) return info.Env().Undefined();
  if (io_ == nullptr || !value.IsTypedArray() ||
      value.As<Napi::TypedArray>().TypedArrayType() != napi_float64_array ||
      value.As<Napi::Float64Array>().ElementLength() < count)
    return args.fail("numbers", "a Float64Array"), info.Env().Undefined();
  Numbers numbers{{value.As<Napi::Float64Array>().Data(), static_cast<std::size_t>(count)}};
  std::vector<io::Request> batch;
  while (!numbers.empty())
    if (!read_request(numbers, batch.emplace_back()))
      return args.fail("numbers", "requests"), info.Env().Undefined();
  return Napi::Boolean::New(info.Env(), io_->submit(std::move(batch)));
}

// (into: Int32Array): how many pairs of tag and errno
Napi::Value VmObject::io_take(const Info& info) {
  Arguments args{info};
  const Napi::Value value = info[0];
  if (!alive(info)) return info.Env().Undefined();
  if (!value.IsTypedArray() ||
      value.As<Napi::TypedArray>().TypedArrayType() != napi_int32_array)
    return args.fail("into", "an Int32Array"), info.Env().Undefined();
  Napi::Int32Array into = value.As<Napi::Int32Array>();
  std::array<io::Completion, 128> some{};
  const std::size_t room = std::min(some.size(), into.ElementLength() / 2);
  const std::size_t got = io_ == nullptr ? 0 : io_->take({some.data(), room});
  for (std::size_t i = 0; i < got; ++i) {
    into.Data()[2 * i] = static_cast<std::int32_t>(some[i].tag);
    into.Data()[2 * i + 1] = some[i].error;
  }
  return Napi::Number::New(info.Env(), static_cast<double>(got));
}

void VmObject::io_cancel(const Info& info) {
  Arguments args{info};
  const io::FileId file = args.word(0, "file");
  if (args.ok() && alive(info) && io_ != nullptr) io_->cancel(file);
}

void VmObject::io_close(const Info& info) {
  Arguments args{info};
  const io::FileId file = args.word(0, "file");
  if (args.ok() && alive(info) && io_ != nullptr) io_->close(file);
}

}  // namespace hv::addon

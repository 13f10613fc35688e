// Arguments of exported functions, each checked. The first that is wrong throws a TypeError that
// names it; what is read after that is zero, and ok() is false: the function returns at once.
#pragma once
#include <napi.h>

#include <cmath>
#include <cstdint>
#include <string>

namespace hv::addon {

class Arguments {
 public:
  explicit Arguments(const Napi::CallbackInfo& info) : info_{info} {}

  bool ok() const { return ok_; }

  // A whole number from 0 to `most` (at most 2^53 - 1).
  std::uint64_t integer(std::size_t at, const char* name, std::uint64_t most) {
    const Napi::Value value = info_[at];
    const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
    const bool good = number >= 0 && number <= kSafe && std::floor(number) == number &&
                      static_cast<std::uint64_t>(number) <= most;
    return good ? static_cast<std::uint64_t>(number) : fail(name, "a whole number in its range");
  }
  std::uint32_t word(std::size_t at, const char* name, std::uint32_t most = ~0u) {
    return static_cast<std::uint32_t>(integer(at, name, most));
  }
  bool flag(std::size_t at, const char* name) {
    const Napi::Value value = info_[at];
    if (value.IsBoolean()) return value.As<Napi::Boolean>().Value();
    return fail(name, "true or false") != 0;
  }
  std::string text(std::size_t at, const char* name) {
    const Napi::Value value = info_[at];
    if (value.IsString()) return value.As<Napi::String>().Utf8Value();
    fail(name, "a string");
    return {};
  }
  // Guest time: a bigint; what lies before the beginning or after the end is moved there.
  std::uint64_t time(std::size_t at, const char* name) {
    const Napi::Value value = info_[at];
    if (!value.IsBigInt()) return fail(name, "a bigint");
    bool whole = false;
    const std::uint64_t number = value.As<Napi::BigInt>().Uint64Value(&whole);
    if (whole) return number;
    bool fits = false;
    return value.As<Napi::BigInt>().Int64Value(&fits) < 0 && fits ? 0 : ~0ull;
  }
  Napi::Function function(std::size_t at, const char* name) {
    const Napi::Value value = info_[at];
    if (value.IsFunction()) return value.As<Napi::Function>();
    fail(name, "a function");
    return {};
  }
  Napi::Array array(std::size_t at, const char* name) {
    const Napi::Value value = info_[at];
    if (value.IsArray()) return value.As<Napi::Array>();
    fail(name, "an array");
    return {};
  }

  std::uint64_t fail(const char* name, const char* wanted) {
    if (ok_)
      Napi::TypeError::New(info_.Env(), std::string{name} + " must be " + wanted)
          .ThrowAsJavaScriptException();
    ok_ = false;
    return 0;
  }

 private:
  static constexpr double kSafe = 9007199254740991.0;
  const Napi::CallbackInfo& info_;
  bool ok_ = true;
};

}  // namespace hv::addon

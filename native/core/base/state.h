// Saved state. Every component keeps what a snapshot must hold in one plain structure with a name
// and a version, apart from its wiring, and lists its fields once:
//
//   struct PicState {
//     static constexpr std::string_view kName = "pic";
//     static constexpr std::uint32_t kVersion = 1;
//     std::uint8_t irr = 0, imr = 0;
//     template <class Visit> void fields(Visit&& visit) { visit("irr", irr); visit("imr", imr); }
//   };
//
// save() and restore() below do the rest. A component that is not Stateful does not compile where
// the machine registers it. Fields may be integers, bools, enums, std::array or std::vector of any
// of these, and structures that list fields of their own; arrays of bytes print as one hex string.
#pragma once
#include <array>
#include <concepts>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/json.h"

namespace hv::state {

struct AnyVisitor {
  template <class T>
  void operator()(std::string_view, T&) {}
};

template <class T>
concept Fields = requires(T value, AnyVisitor visit) { value.fields(visit); };

template <class T>
concept Stateful = Fields<T> && requires {
  { T::kName } -> std::convertible_to<std::string_view>;
  { T::kVersion } -> std::convertible_to<std::uint32_t>;
};

std::string to_hex(const std::uint8_t* bytes, std::size_t length);
bool from_hex(std::string_view text, std::uint8_t* bytes, std::size_t length);

template <class T>
json::Value to_value(T& field);
template <class T>
bool from_value(const json::Value& value, T& field);

struct Writer {
  json::Object out;
  template <class T>
  void operator()(std::string_view name, T& field) {
    out.emplace(std::string{name}, to_value(field));
  }
};

// Remembers the first field that is missing or out of range; `failed` is empty when all is well.
struct Reader {
  const json::Value& in;
  std::string failed = {};
  template <class T>
  void operator()(std::string_view name, T& field) {
    if (!failed.empty()) return;
    const json::Value* value = in.find(name);
    if (value == nullptr || !from_value(*value, field)) failed = name;
  }
};

template <class T>
inline constexpr bool is_sequence = false;
template <class T, std::size_t N>
inline constexpr bool is_sequence<std::array<T, N>> = true;
template <class T>
inline constexpr bool is_sequence<std::vector<T>> = true;
template <class T>
inline constexpr bool is_vector = false;
template <class T>
inline constexpr bool is_vector<std::vector<T>> = true;

template <class T>
json::Value to_value(T& field) {
  if constexpr (std::same_as<T, bool>) {
    return json::Value{field};
  } else if constexpr (std::is_enum_v<T>) {
    return json::Value{static_cast<std::uint64_t>(field)};
  } else if constexpr (std::integral<T>) {
    return json::Value{static_cast<std::uint64_t>(static_cast<std::make_unsigned_t<T>>(field))};
  } else if constexpr (is_sequence<T>) {
    if constexpr (std::same_as<typename T::value_type, std::uint8_t>) {
      return json::Value{to_hex(field.data(), field.size())};
    } else {
      json::Array items;
      for (auto& item : field) items.push_back(to_value(item));
      return json::Value{std::move(items)};
    }
  } else {
    static_assert(Fields<T>, "a field is an integer, an array, or a structure with fields()");
    Writer writer;
    field.fields(writer);
    return json::Value{std::move(writer.out)};
  }
}

template <class T>
bool integer_from(const json::Value& value, T& field) {
  const auto number = value.integer();
  if (!number || *number > std::numeric_limits<std::make_unsigned_t<T>>::max()) return false;
  field = static_cast<T>(*number);
  return true;
}

template <class T>
bool sequence_from(const json::Value& value, T& field) {
  if constexpr (std::same_as<typename T::value_type, std::uint8_t>) {
    const std::string* text = value.text();
    if (text == nullptr) return false;
    if constexpr (is_vector<T>) field.resize(text->size() / 2);
    return from_hex(*text, field.data(), field.size());
  } else {
    const json::Array* items = value.array();
    if (items == nullptr) return false;
    if constexpr (is_vector<T>) field.resize(items->size());
    if (items->size() != field.size()) return false;
    for (std::size_t i = 0; i < field.size(); ++i)
      if (!from_value((*items)[i], field[i])) return false;
    return true;
  }
}

template <class T>
bool from_value(const json::Value& value, T& field) {
  if constexpr (std::same_as<T, bool>) {
    const auto flag = value.boolean();
    if (flag) field = *flag;
    return flag.has_value();
  } else if constexpr (std::is_enum_v<T>) {
    std::underlying_type_t<T> number{};
    if (!integer_from(value, number)) return false;
    field = static_cast<T>(number);
    return true;
  } else if constexpr (std::integral<T>) {
    return integer_from(value, field);
  } else if constexpr (is_sequence<T>) {
    return sequence_from(value, field);
  } else {
    static_assert(Fields<T>, "a field is an integer, an array, or a structure with fields()");
    Reader reader{value};
    field.fields(reader);
    return reader.failed.empty();
  }
}

// {"version": N, "state": {…}}
template <Stateful T>
json::Value save(T state) {
  json::Object out;
  out.emplace("version", json::Value{std::uint64_t{T::kVersion}});
  out.emplace("state", to_value(state));
  return json::Value{std::move(out)};
}

// Empty on success, else what is wrong, naming component and field. `state` is untouched then.
template <Stateful T>
[[nodiscard]] std::string restore(const json::Value& saved, T& state) {
  const std::string name{T::kName};
  const json::Value* version = saved.find("version");
  const json::Value* body = saved.find("state");
  if (version == nullptr || body == nullptr) return name + ": no version or no state";
  if (version->integer() != T::kVersion)
    return name + ": its version is not " + std::to_string(T::kVersion);
  T fresh{};
  Reader reader{*body};
  fresh.fields(reader);
  if (!reader.failed.empty()) return name + "." + reader.failed + ": missing or out of range";
  state = std::move(fresh);
  return {};
}

}  // namespace hv::state

// The one serialized form of state: JSON without fractions. Integers above 2^53 are written as
// "0x…" strings, since JavaScript's numbers end there; readers take both.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace hv::json {

class Value;
using Array = std::vector<Value>;
using Object = std::map<std::string, Value, std::less<>>;

class Value {
 public:
  Value() = default;
  Value(bool flag) : data_{flag} {}
  Value(std::uint64_t number) : data_{number} {}
  Value(std::string text) : data_{std::move(text)} {}
  Value(Array items) : data_{std::move(items)} {}
  Value(Object members) : data_{std::move(members)} {}

  std::optional<bool> boolean() const;
  // A JSON number without sign, or a string "0x…" or of decimal digits.
  std::optional<std::uint64_t> integer() const;
  const std::string* text() const { return std::get_if<std::string>(&data_); }
  const Array* array() const { return std::get_if<Array>(&data_); }
  const Object* object() const { return std::get_if<Object>(&data_); }
  // The member of an object; nullptr where this is no object or has no such member.
  const Value* find(std::string_view name) const;

  std::string print() const;

 private:
  void print(std::string& out) const;
  std::variant<std::nullptr_t, bool, std::uint64_t, std::string, Array, Object> data_;
};

// nullopt where the text is not JSON of this kind (negative numbers, fractions), nests deeper
// than 64 levels, or has anything behind the value.
std::optional<Value> parse(std::string_view text);

}  // namespace hv::json

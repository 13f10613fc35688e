#include "base/json.h"

#include <charconv>

namespace hv::json {
namespace {

constexpr std::uint64_t kLargestExact = (1ull << 53) - 1;  // ECMA-262, Number.MAX_SAFE_INTEGER
constexpr int kDeepest = 64;

void print_text(std::string& out, std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  out += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20) {
      out += "\\u00";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += c;
    }
  }
  out += '"';
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_{text} {}

  std::optional<Value> whole() {
    auto value = any(0);
    skip_space();
    return at_ == text_.size() ? value : std::nullopt;
  }

 private:
  void skip_space() {
    while (at_ < text_.size() && std::string_view{" \t\r\n"}.find(text_[at_]) != std::string_view::npos) ++at_;
  }

  bool take(char c) {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  bool word(std::string_view expected) {
    if (!text_.substr(at_).starts_with(expected)) return false;
    at_ += expected.size();
    return true;
  }

  std::optional<Value> any(int depth) {
    skip_space();
    if (depth > kDeepest || at_ >= text_.size()) return std::nullopt;
    switch (text_[at_]) {
      case '{': return object(depth);
      case '[': return array(depth);
      case '"': return text();
      case 't': return word("true") ? std::optional<Value>{true} : std::nullopt;
      case 'f': return word("false") ? std::optional<Value>{false} : std::nullopt;
      case 'n': return word("null") ? std::optional<Value>{Value{}} : std::nullopt;
      default: return number();
    }
  }

  std::optional<Value> number() {
    std::uint64_t value = 0;
    const char* first = text_.data() + at_;
    const auto [end, error] = std::from_chars(first, text_.data() + text_.size(), value);
    if (error != std::errc{}) return std::nullopt;
    at_ += static_cast<std::size_t>(end - first);
    return Value{value};
  }

  std::optional<Value> text() {
    auto value = quoted();
    if (!value) return std::nullopt;
    return Value{std::move(*value)};
  }

  std::optional<std::string> quoted() {
    if (!take('"')) return std::nullopt;
    std::string out;
    while (at_ < text_.size() && text_[at_] != '"') {
      if (text_[at_] != '\\') {
        out += text_[at_++];
      } else if (!escape(out)) {
        return std::nullopt;
      }
    }
    return take('"') ? std::optional{out} : std::nullopt;
  }

  bool escape(std::string& out) {
    static constexpr std::string_view kNames = "\"\\/bfnrt";
    static constexpr std::string_view kBytes = "\"\\/\b\f\n\r\t";
    if (at_ + 1 >= text_.size()) return false;
    const char c = text_[at_ + 1];
    if (c == 'u') return unicode(out);
    const auto found = kNames.find(c);
    if (found == kNames.npos) return false;
    out += kBytes[found];
    at_ += 2;
    return true;
  }

  // State holds ASCII only; anything wider than a byte was not written by us.
  bool unicode(std::string& out) {
    unsigned code = 0;
    if (at_ + 6 > text_.size()) return false;
    const char* first = text_.data() + at_ + 2;
    const auto [end, error] = std::from_chars(first, first + 4, code, 16);
    if (error != std::errc{} || end != first + 4 || code > 0x7f) return false;
    out += static_cast<char>(code);
    at_ += 6;
    return true;
  }

  std::optional<Value> array(int depth) {
    Array items;
    take('[');
    if (take(']')) return Value{std::move(items)};
    do {
      auto item = any(depth + 1);
      if (!item) return std::nullopt;
      items.push_back(std::move(*item));
    } while (take(','));
    return take(']') ? std::optional<Value>{std::move(items)} : std::nullopt;
  }

  std::optional<Value> object(int depth) {
    Object members;
    take('{');
    if (take('}')) return Value{std::move(members)};
    do {
      skip_space();
      auto name = quoted();
      if (!name || !take(':')) return std::nullopt;
      auto member = any(depth + 1);
      if (!member) return std::nullopt;
      members.insert_or_assign(std::move(*name), std::move(*member));
    } while (take(','));
    return take('}') ? std::optional<Value>{std::move(members)} : std::nullopt;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

std::optional<std::uint64_t> integer_of(std::string_view text) {
  const int base = text.starts_with("0x") ? 16 : 10;
  if (base == 16) text.remove_prefix(2);
  std::uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value, base);
  if (result.ec != std::errc{} || result.ptr != end) return std::nullopt;
  return value;
}

}  // namespace

std::optional<bool> Value::boolean() const {
  const bool* flag = std::get_if<bool>(&data_);
  return flag ? std::optional{*flag} : std::nullopt;
}

std::optional<std::uint64_t> Value::integer() const {
  if (const auto* number = std::get_if<std::uint64_t>(&data_)) return *number;
  const std::string* digits = text();
  return digits ? integer_of(*digits) : std::nullopt;
}

const Value* Value::find(std::string_view name) const {
  const Object* members = object();
  if (members == nullptr) return nullptr;
  const auto found = members->find(name);
  return found == members->end() ? nullptr : &found->second;
}

std::string Value::print() const {
  std::string out;
  print(out);
  return out;
}

void Value::print(std::string& out) const {
  if (const auto* flag = std::get_if<bool>(&data_)) {
    out += *flag ? "true" : "false";
  } else if (const auto* number = std::get_if<std::uint64_t>(&data_)) {
    char digits[20];
    const bool exact = *number <= kLargestExact;
    const auto end = std::to_chars(digits, digits + sizeof digits, *number, exact ? 10 : 16).ptr;
    out += exact ? "" : "\"0x";
    out.append(digits, end);
    out += exact ? "" : "\"";
  } else if (const auto* words = std::get_if<std::string>(&data_)) {
    print_text(out, *words);
  } else if (const auto* items = std::get_if<Array>(&data_)) {
    const char* before = "[";
    if (items->empty()) out += before;
    for (const Value& item : *items) {
      out += before;
      item.print(out);
      before = ",";
    }
    out += ']';
  } else if (const auto* members = std::get_if<Object>(&data_)) {
    const char* before = "{";
    if (members->empty()) out += before;
    for (const auto& [name, member] : *members) {
      out += before;
      print_text(out, name);
      out += ':';
      member.print(out);
      before = ",";
    }
    out += '}';
  } else {
    out += "null";
  }
}

std::optional<Value> parse(std::string_view text) { return Parser{text}.whole(); }

}  // namespace hv::json

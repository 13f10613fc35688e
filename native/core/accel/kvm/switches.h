// Words of the environment variable XHYVED_KVM, separated by commas: for comparing, and for doubt.
// docs/kvm.md has them.
#pragma once
#include <cstdlib>
#include <string_view>

namespace hv::kvm {

inline bool switched(std::string_view word) {
  const char* const given = std::getenv("XHYVED_KVM");
  std::string_view words = given != nullptr ? given : "";
  while (!words.empty()) {
    const std::size_t end = words.find(',');
    if (words.substr(0, end) == word) return true;
    words = end == words.npos ? std::string_view{} : words.substr(end + 1);
  }
  return false;
}

}  // namespace hv::kvm

#include <cstdlib>
#include <string_view>

#include "softcpu/translator/translator.h"

namespace hv::softcpu {

namespace {

constexpr std::string_view kNames[] = {
    "Invalid",
#define OP(name) #name,
#include "softcpu/ops_integer.def"
#include "softcpu/ops_system.def"
#include "softcpu/ops_x87.def"
#include "softcpu/ops_simd.def"
#undef OP
};

void apply(TranslatorOptions& options, std::string_view word) {
  if (word == "interpreter") options.enabled = false;
  if (word == "eager") options.threshold = 0;
  if (word == "no-traces") options.traces = false;
  if (word == "no-groups") options.groups = false;
  constexpr std::string_view kThreshold = "threshold=";
  if (word.starts_with(kThreshold))
    options.threshold = static_cast<std::uint32_t>(
        std::strtoul(std::string{word.substr(kThreshold.size())}.c_str(), nullptr, 10));
  if (!word.starts_with('-')) return;
  for (std::size_t i = 0; i < std::size(kNames); ++i)
    if (kNames[i] == word.substr(1)) options.off.set(i);
}

}  // namespace

TranslatorOptions TranslatorOptions::parse(const std::string& words) {
  TranslatorOptions options;
  for (std::size_t at = 0; at <= words.size();) {
    const std::size_t end = std::min(words.find(',', at), words.size());
    apply(options, std::string_view{words}.substr(at, end - at));
    at = end + 1;
  }
  return options;
}

const TranslatorOptions& TranslatorOptions::from_environment() {
  static const TranslatorOptions kOptions = [] {
    const char* const words = std::getenv("XHYVED_SOFTCPU");
    return parse(words != nullptr ? words : "");
  }();
  return kOptions;
}

}  // namespace hv::softcpu

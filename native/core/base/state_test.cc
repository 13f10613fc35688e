#include "base/state.h"

#include "base/test.h"

namespace {

struct Inner {
  std::uint16_t word = 0;
  template <class Visit>
  void fields(Visit&& visit) {
    visit("word", word);
  }
};

struct Sample {
  static constexpr std::string_view kName = "sample";
  static constexpr std::uint32_t kVersion = 3;
  std::uint64_t wide = 0;
  bool flag = false;
  std::array<std::uint8_t, 3> bytes{};
  std::array<Inner, 2> inner{};
  std::vector<std::uint32_t> list;
  template <class Visit>
  void fields(Visit&& visit) {
    visit("wide", wide);
    visit("flag", flag);
    visit("bytes", bytes);
    visit("inner", inner);
    visit("list", list);
  }
};

Sample sample() {
  return {~0ull, true, {1, 0xab, 0xff}, {Inner{7}, Inner{65535}}, {1, 2, 0xffffffff}};
}

}  // namespace

TEST(prints_wide_integers_as_hexadecimal_strings) {
  EXPECT_EQ(hv::state::save(sample()).print(),
            std::string{R"({"state":{"bytes":"01abff","flag":true,"inner":[{"word":7},)"
                        R"({"word":65535}],"list":[1,2,4294967295],)"
                        R"("wide":"0xffffffffffffffff"},"version":3})"});
}

TEST(comes_back_the_same_through_text) {
  const auto text = hv::state::save(sample()).print();
  const auto parsed = hv::json::parse(text);
  REQUIRE(parsed.has_value());
  Sample back;
  EXPECT_EQ(hv::state::restore(*parsed, back), std::string{});
  EXPECT_EQ(hv::state::save(back).print(), text);
}

TEST(refuses_what_does_not_fit_and_changes_nothing) {
  const auto refused = [](const char* text) {
    Sample into;
    into.wide = 5;
    const auto parsed = hv::json::parse(text);
    const std::string error = parsed ? hv::state::restore(*parsed, into) : "no JSON";
    EXPECT_EQ(into.wide, 5u);
    return error;
  };
  EXPECT_EQ(refused(R"({"version":2,"state":{}})"), std::string{"sample: its version is not 3"});
  EXPECT_EQ(refused(R"({"version":3,"state":{}})"),
            std::string{"sample.wide: missing or out of range"});
  EXPECT_EQ(refused(R"({"version":3,"state":{"wide":1,"flag":true,"bytes":"0102"}})"),
            std::string{"sample.bytes: missing or out of range"});
  EXPECT_EQ(refused(R"({"version":3,"state":{"wide":1,"flag":true,"bytes":"010203",)"
                    R"("inner":[{"word":65536},{"word":1}],"list":[]}})"),
            std::string{"sample.inner: missing or out of range"});
}

TEST(parses_only_json) {
  for (const char* text : {"", "{", "[1,]", "{\"a\":1,}", "1 2", "-1", "1.5", "tru", "\"\\x\""})
    EXPECT(!hv::json::parse(text));
  EXPECT(hv::json::parse(" {\"a\" : [true, null, \"\\u0041\"]} ").has_value());
  EXPECT(!hv::json::parse(std::string(100, '[')));
}

TEST_MAIN()

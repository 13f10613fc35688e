// The core's tests are plain executables: one per *_test.cc, linked with the core. A test file
// holds TEST(name) { … } bodies; main() is here. `EXPECT` goes on after a failure, `REQUIRE`
// leaves the test. Arguments on the command line pick tests by part of their name.
#pragma once
#include <cstdio>
#include <cstring>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

namespace hv::test {

struct Case {
  const char* name;
  void (*run)();
};

inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}
inline int failures = 0;

struct Register {
  Register(const char* name, void (*run)()) { cases().push_back({name, run}); }
};

template <class T>
std::string show(const T& value) {
  std::ostringstream out;
  if constexpr (std::is_same_v<T, bool>) {
    out << (value ? "true" : "false");
  } else if constexpr (std::is_enum_v<T>) {
    out << "0x" << std::hex << static_cast<unsigned long long>(value);
  } else if constexpr (std::is_integral_v<T>) {
    out << std::dec << +value << " (0x" << std::hex
        << static_cast<unsigned long long>(static_cast<std::make_unsigned_t<T>>(value)) << ")";
  } else {
    out << value;
  }
  return out.str();
}

inline bool fail(const char* file, int line, const std::string& what) {
  ++failures;
  std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
  return false;
}

template <class A, class B>
bool equal(const char* file, int line, const char* what, const A& got, const B& wanted) {
  if (got == static_cast<A>(wanted)) return true;
  return fail(file, line, std::string{what} + " is " + show(got) + ", wanted " +
                              show(static_cast<A>(wanted)));
}

inline int main(int argc, char** argv) {
  int ran = 0;
  for (const Case& test : cases()) {
    bool wanted = argc < 2;
    for (int i = 1; i < argc; ++i) wanted |= std::strstr(test.name, argv[i]) != nullptr;
    if (!wanted) continue;
    const int before = failures;
    test.run();
    ++ran;
    if (failures != before) std::fprintf(stderr, "FAILED %s\n", test.name);
  }
  std::printf("%d passed, %d failed checks\n", ran, failures);
  return failures != 0 || ran == 0;
}

}  // namespace hv::test

#define TEST(name)                                                      \
  static void test_##name();                                            \
  static const hv::test::Register register_##name{#name, &test_##name}; \
  static void test_##name()
#define EXPECT(condition) \
  ((condition) ? true : hv::test::fail(__FILE__, __LINE__, "not true: " #condition))
#define EXPECT_EQ(got, wanted) hv::test::equal(__FILE__, __LINE__, #got, (got), (wanted))
#define REQUIRE(condition)        \
  do {                            \
    if (!EXPECT(condition)) return; \
  } while (false)
#define TEST_MAIN() \
  int main(int argc, char** argv) { return hv::test::main(argc, argv); }

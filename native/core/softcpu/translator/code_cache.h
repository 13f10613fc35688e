// Memory for generated code: one bounded piece, mapped twice (a memfd), writable here and
// executable there, so that no page is ever both (W^X). Filled from the front; emptied as a whole.
#pragma once
#include <cstddef>
#include <cstdint>

namespace hv::softcpu::translator {

class CodeCache {
 public:
  explicit CodeCache(std::size_t size);
  ~CodeCache();
  CodeCache(const CodeCache&) = delete;
  CodeCache& operator=(const CodeCache&) = delete;

  bool usable() const { return writable_ != nullptr; }
  std::uint8_t* begin() const { return writable_; }
  std::uint8_t* end() const { return writable_ + size_; }
  std::uint8_t* next() const { return next_; }
  void take(std::uint8_t* up_to) { next_ = up_to; }
  std::size_t used() const { return static_cast<std::size_t>(next_ - writable_); }
  bool holds(const void* at) const {
    return at >= writable_ && at < writable_ + size_;
  }
  // Where code written at `at` runs.
  const std::uint8_t* executable(const std::uint8_t* at) const { return at + distance_; }

 private:
  std::size_t size_;
  std::uint8_t* writable_ = nullptr;
  std::uint8_t* executable_ = nullptr;
  std::uint8_t* next_ = nullptr;
  std::ptrdiff_t distance_ = 0;
};

}  // namespace hv::softcpu::translator

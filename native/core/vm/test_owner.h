// The owner of a VM under test: it keeps what it is told until a test waits for it.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <vector>

#include "base/test.h"
#include "vm/vm.h"

namespace hv {

class TestOwner final : public VmOwner {
 public:
  void notice(VmNotice notice) override {
    std::scoped_lock hold{mutex_};
    notices_.push_back(std::move(notice));
    changed_.notify_all();
  }
  void wake() override {}

  // Waits for the next notice of this kind and takes it and what came before it; fails the test where
  // none comes.
  std::optional<VmNotice> await(VmEvent event) {
    std::unique_lock lock{mutex_};
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{60};
    for (;;) {
      const auto is = [event](const VmNotice& notice) { return notice.event == event; };
      const auto found = std::find_if(notices_.begin(), notices_.end(), is);
      if (found != notices_.end()) {
        std::optional<VmNotice> taken{std::move(*found)};
        notices_.erase(notices_.begin(), found + 1);
        return taken;
      }
      if (changed_.wait_until(lock, deadline) != std::cv_status::timeout) continue;
      EXPECT(!"a notice came");
      return std::nullopt;
    }
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<VmNotice> notices_;
};

}  // namespace hv

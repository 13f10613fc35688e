// Runs a case on our CPU.
#pragma once
#include <memory>

#include "scene.h"

namespace oracle {

class GuestRunner {
 public:
  // `translates`: by the translator, each case from its first execution on.
  explicit GuestRunner(bool translates);
  ~GuestRunner();
  void run(const Case& given, Outcome& outcome);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace oracle

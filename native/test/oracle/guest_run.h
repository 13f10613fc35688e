// Runs a case on our CPU.
#pragma once
#include <memory>

#include "scene.h"

namespace oracle {

class GuestRunner {
 public:
  GuestRunner();
  ~GuestRunner();
  void run(const Case& given, Outcome& outcome);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace oracle

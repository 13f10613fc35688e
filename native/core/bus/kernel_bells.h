// Doorbells that the host's kernel answers itself, so that the vCPU that rings one stays in the guest
// (KVM's ioeventfd). It tells that a bell rang and how often, not what was written: only a register
// whose value says nothing (RegisterWays::rings) has one.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <optional>

#include "bus/range.h"

namespace hv {

// An accelerator's. The consumer's thread makes all calls.
class KernelBells {
 public:
  using Room = std::function<bool()>;
  using Rang = std::function<void(std::uint32_t bell, std::uint64_t times)>;

  virtual ~KernelBells() = default;
  // A bell that nothing rings yet; nullopt: the host has no more.
  virtual std::optional<std::uint32_t> make() = 0;
  // From here on a write of any width at exactly `at` rings it. False: the host has no room, and the
  // write leaves the guest as ever.
  virtual bool hang(std::uint32_t bell, Space space, std::uint64_t at) = 0;
  // Where it hangs. What rang before is collected still.
  virtual void take_down(std::uint32_t bell, Space space, std::uint64_t at) = 0;
  // It hangs nowhere; what it rang is forgotten.
  virtual void drop(std::uint32_t bell) = 0;
  // Each bell that rang since the last time, while there is room; the others stay rung.
  virtual void collect(const Room& room, const Rang& rang) = 0;
  // Readable (poll(2)) while a bell has rung that was not collected.
  virtual int descriptor() const = 0;
};

// The bells of a VM's doorbells: each hangs where its range is.
class Belfry {
 public:
  // Before any range with a doorbell is made. nullptr: every doorbell leaves the guest.
  void use(KernelBells* bells) { bells_ = bells; }
  KernelBells* bells() const { return bells_; }

  // `range` was added, moved, switched or removed.
  void follow(Range& range);
  // Each doorbell that rang since the last time, while there is room.
  using Ring = std::function<void(Range&, const RegisterWays&, std::uint64_t times)>;
  void collect(const KernelBells::Room& room, const Ring& ring);

 private:
  struct Doorbell {
    Range* range;
    const RegisterWays* ways;
    std::optional<std::uint64_t> at;  // empty: it hangs nowhere
    // Where its range is now; empty where that decodes nothing.
    std::optional<std::uint64_t> wanted() const;
  };

  void make_bells(Range& range);
  void take_down(std::uint32_t bell, Doorbell& doorbell);
  void hang(std::uint32_t bell, Doorbell& doorbell);
  // function(bell, doorbell) for each of the range's.
  template <class Function>
  void each(const Range& range, Function function) {
    for (auto& [bell, doorbell] : doorbells_)
      if (doorbell.range == &range) function(bell, doorbell);
  }

  KernelBells* bells_ = nullptr;
  std::map<std::uint32_t, Doorbell> doorbells_;  // by their bells
};

}  // namespace hv

// What the VM tells its owner, from whichever thread it happens on.
#pragma once
#include <cstdint>
#include <string>

namespace hv {

enum class VmEvent : std::uint32_t {
  kParked,       // every vCPU stands at an instruction boundary, the guest clock is stopped
  kHalted,       // every vCPU is halted with interrupts off
  kTripleFault,  // `number`: the vCPU; the VM is parking
  kUnhandledIo,  // strict I/O: `text` says which access; the VM is parking
  kTimer,        // `number`: the timer, `generation`: of its arming
  kUart,         // `number`: of the one in Board::uarts that needs attention
  kExited,       // every vCPU thread is about to end
};

struct VmNotice {
  VmEvent event;
  std::uint32_t number = 0;
  std::uint64_t generation = 0;
  std::string text = {};
};

// Neither call may wait or call back into the VM.
class VmOwner {
 public:
  virtual ~VmOwner() = default;
  virtual void notice(VmNotice notice) = 0;
  // The consumer of the bus must look at it.
  virtual void wake() = 0;
};

}  // namespace hv

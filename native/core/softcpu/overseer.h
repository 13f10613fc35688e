// Who is asked before a CPU does certain things, where somebody is: an accelerator that lends the
// interpreter to its hardware, or what plays that hardware in tests. Nobody is asked per
// instruction: only where one is decoded, a page is walked, or an event is taken.
#pragma once
#include "softcpu/cpu.h"

namespace hv::softcpu {

class Overseer {
 public:
  virtual ~Overseer() = default;

  // The handler of an instruction that is being decoded, instead of `handler`.
  virtual Handler bind(const Insn&, Handler handler) { return handler; }

  // What may be done to a guest-physical page: bits 1 << AccessKind. TLBs remember it where it is
  // kAllRights.
  static constexpr unsigned kAllRights = 7;
  virtual unsigned rights(Gpa) { return kAllRights; }
  // An access that these rights forbid; `walk`: to a table of page tables. Must leave_run().
  virtual void refuse(Cpu&, Gpa, std::uint64_t /*linear*/, AccessKind, bool /*walk*/) {}

  // Whether its stores go to the dirty-page log. False for what plays hardware: the accelerator
  // over that keeps the log by what the hardware tells.
  virtual bool logs_writes() { return true; }

  // Before the delivery begins; each may leave_run() instead.
  virtual void before_exception(Cpu&, const Cpu::Pending&) {}
  virtual void before_nmi(Cpu&) {}
  virtual void before_task_switch(Cpu&, std::uint16_t /*selector*/, unsigned /*reason*/) {}
};

}  // namespace hv::softcpu

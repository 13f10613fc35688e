// From operations to handlers: the one place where the interpreter meets all four families.
#include "softcpu/cpu.h"
#include "softcpu/opcodes.h"

namespace hv::softcpu {

namespace {

void undefined(Cpu& cpu, const Insn&) { cpu.raise(Vector::kUd); }

}  // namespace

Handler bind(const Insn& insn) {
  if (insn.op == Op::kInvalid) return undefined;
  Handler handler = nullptr;
  switch (family(insn.op)) {
    case Family::kInteger: handler = bind_integer(insn); break;
    case Family::kSystem: handler = bind_system(insn); break;
    case Family::kX87: handler = bind_x87(insn); break;
    case Family::kSimd: handler = bind_simd(insn); break;
  }
  return handler != nullptr ? handler : undefined;
}

}  // namespace hv::softcpu

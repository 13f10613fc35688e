// IN, OUT, INS, OUTS and the I/O permission bitmap: SDM Vol. 1, "Input/Output".
#include "softcpu/system_ops.h"

namespace hv::softcpu {

namespace {

// SDM Vol. 1, "I/O Permission Bit Map".
bool bitmap_allows(Cpu& cpu, std::uint16_t port, unsigned bytes) {
  const unsigned type = cpu.tr.access & 0xf;
  const bool wide = type == 9 || type == 11;
  if (!wide || cpu.tr.limit < 0x67) return false;
  const std::uint32_t map = cpu.read_system<std::uint16_t>(cpu.tr.base + 0x66);
  const std::uint32_t at = map + port / 8u;
  if (at + 1 > cpu.tr.limit) return false;
  const unsigned denied = cpu.read_system<std::uint16_t>(cpu.tr.base + at);
  return (denied >> (port & 7) & ((1u << bytes) - 1)) == 0;
}

}  // namespace

void require_port(Cpu& cpu, std::uint16_t port, unsigned bytes) {
  if (!cpu.protected_mode() || (cpu.cpl <= cpu.iopl() && !cpu.virtual_8086())) return;
  if (!bitmap_allows(cpu, port, bytes)) cpu.protection_fault();
}

namespace {

unsigned bytes_of(const Insn& i) { return i.size == k8 ? 1 : i.size == k16 ? 2 : 4; }

std::uint32_t read_port(Cpu& cpu, std::uint16_t port, unsigned bytes) {
  add_count(cpu.count.port_accesses);
  match_io_breakpoints(cpu, port, bytes);
  return cpu.platform.in(cpu.index, port, bytes);
}

void write_port(Cpu& cpu, std::uint16_t port, unsigned bytes, std::uint32_t value) {
  add_count(cpu.count.port_accesses);
  match_io_breakpoints(cpu, port, bytes);
  cpu.platform.out(cpu.index, port, bytes, value);
}

std::uint16_t port_of(const Cpu& cpu, const Insn& i) {
  const bool immediate = i.op == Op::kInI || i.op == Op::kOutI;
  return immediate ? static_cast<std::uint16_t>(i.imm & 0xff) : cpu.reg<std::uint16_t>(kRdx);
}

void in(Cpu& cpu, const Insn& i) {
  const std::uint16_t port = port_of(cpu, i);
  const unsigned bytes = bytes_of(i);
  require_port(cpu, port, bytes);
  const std::uint32_t value = read_port(cpu, port, bytes);
  if (bytes == 1)
    cpu.set_reg<std::uint8_t>(kRax, static_cast<std::uint8_t>(value));
  else if (bytes == 2)
    cpu.set_reg<std::uint16_t>(kRax, static_cast<std::uint16_t>(value));
  else
    cpu.set_reg<std::uint32_t>(kRax, value);
}

void out(Cpu& cpu, const Insn& i) {
  const std::uint16_t port = port_of(cpu, i);
  const unsigned bytes = bytes_of(i);
  require_port(cpu, port, bytes);
  const std::uint64_t mask = (1ull << (8 * bytes)) - 1;
  write_port(cpu, port, bytes, static_cast<std::uint32_t>(cpu.gpr[kRax] & mask));
}

// ---- strings --------------------------------------------------------------------------------------

void set_by_address(Cpu& cpu, const Insn& i, unsigned reg, std::uint64_t value) {
  if (i.address == k16)
    cpu.set_reg<std::uint16_t>(reg, static_cast<std::uint16_t>(value));
  else
    cpu.gpr[reg] = value & kAddressMask[i.address];
}

void step(Cpu& cpu, const Insn& i, unsigned reg, unsigned bytes) {
  const std::uint64_t by = bytes;
  set_by_address(cpu, i, reg, cpu.gpr[reg] + ((cpu.system_flags & kDf) != 0 ? 0 - by : by));
}

// The store is checked before the port is read: a read cannot be taken back.
void ins_once(Cpu& cpu, const Insn& i) {
  const unsigned bytes = bytes_of(i);
  const auto port = cpu.reg<std::uint16_t>(kRdx);
  const std::uint64_t at = cpu.gpr[kRdi] & kAddressMask[i.address];
  cpu.probe_write(kEs, at, bytes);
  const std::uint32_t value = read_port(cpu, port, bytes);
  if (bytes == 1)
    cpu.write<std::uint8_t>(kEs, at, static_cast<std::uint8_t>(value));
  else if (bytes == 2)
    cpu.write<std::uint16_t>(kEs, at, static_cast<std::uint16_t>(value));
  else
    cpu.write<std::uint32_t>(kEs, at, value);
  step(cpu, i, kRdi, bytes);
}

void outs_once(Cpu& cpu, const Insn& i) {
  const unsigned bytes = bytes_of(i);
  const auto port = cpu.reg<std::uint16_t>(kRdx);
  const std::uint64_t at = cpu.gpr[kRsi] & kAddressMask[i.address];
  std::uint32_t value;
  if (bytes == 1)
    value = cpu.read<std::uint8_t>(i.segment, at);
  else if (bytes == 2)
    value = cpu.read<std::uint16_t>(i.segment, at);
  else
    value = cpu.read<std::uint32_t>(i.segment, at);
  write_port(cpu, port, bytes, value);
  step(cpu, i, kRsi, bytes);
}

// Every iteration is whole; where something waits, the instruction stays for another turn.
template <void (*once)(Cpu&, const Insn&)>
void port_string(Cpu& cpu, const Insn& i) {
  require_port(cpu, cpu.reg<std::uint16_t>(kRdx), bytes_of(i));
  if (i.repeat == 0) return once(cpu, i);
  const std::uint64_t mask = kAddressMask[i.address];
  while ((cpu.gpr[kRcx] & mask) != 0) {
    once(cpu, i);
    set_by_address(cpu, i, kRcx, (cpu.gpr[kRcx] & mask) - 1);
    const bool waits = cpu.signals.peek() != 0 || cpu.slow_mode();
    if (waits && (cpu.gpr[kRcx] & mask) != 0) {
      cpu.gpr[kRip] = cpu.instruction_start();
      return;
    }
  }
}

}  // namespace

Handler bind_io_ops(const Insn& insn) {
  switch (insn.op) {
    case Op::kInI: case Op::kInDx: return in;
    case Op::kOutI: case Op::kOutDx: return out;
    case Op::kIns: return port_string<ins_once>;
    case Op::kOuts: return port_string<outs_once>;
    default: return nullptr;
  }
}

}  // namespace hv::softcpu

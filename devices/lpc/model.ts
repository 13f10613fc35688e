// The LPC bridge: what makes an ISA bus of the ports below, and keeps the PIRQ router's registers.

import type { PciAddress, PciBus } from "../pci/bus.js";
import { PciFunction } from "../pci/function.js";
import { type IntxRouter, PIRQ_DEFAULTS, PIRQ_REGISTERS } from "../pci/routing.js";

const CLASS_ISA_BRIDGE = 0x060100;
/** The DSDT's \_SB.PC00.ISA lies here. */
export const LPC_SLOT = 31;

/** "PIRQx Route Control": IRQEN# and the IRQ; bits 6:4 are reserved. */
const ROUTE_WRITABLE = 0x8f;

const registers = PIRQ_REGISTERS.map((at, index) => ({
  at,
  width: 1 as const,
  access: "rw" as const,
  reset: PIRQ_DEFAULTS[index] ?? 0x80,
  writable: ROUTE_WRITABLE,
  cite: 'Intel ICH9, "PIRQ[n]_ROUT: PIRQ[A,B,C,D] Routing Control Register"',
}));

export const lpcBridge = (router: IntxRouter): PciFunction =>
  new PciFunction({
    name: "lpc",
    vendor: 0x8086,
    device: 0x7000,
    classCode: CLASS_ISA_BRIDGE,
    registers,
    configWritten: (config, offset, size) => {
      for (const [pirq, at] of PIRQ_REGISTERS.entries())
        if (at >= offset && at < offset + size) router.route(pirq, config.read(at, 1));
    },
  });

/** Adds it; the machine has one, on bus 0. */
export function addLpcBridge(pci: PciBus, address: PciAddress): PciFunction {
  if (address.bus !== 0) throw new Error("LPC bridge can be present only on bus 0.");
  const bridge = lpcBridge(pci.router);
  pci.add(address, bridge);
  return bridge;
}

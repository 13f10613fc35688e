// The LPC bridge: what makes an ISA bus of the ports below, and keeps the PIRQ router's registers.
import { PciFunction } from "../pci/function.js";
import { type IntxRouter, PIRQ_DEFAULTS, PIRQ_REGISTERS } from "../pci/routing.js";

const CLASS_ISA_BRIDGE = 0x060100;

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

import { describe, expect, it } from "vitest";
import { PM1_BASE } from "../devices/acpi-pm/registers.js";
import * as pci from "../devices/pci/address-map.js";
import { COM1, COM2 } from "../devices/uart/adapter.js";
import { routing } from "./assembly.js";
import * as layout from "./layout.js";

const GIB = 2 ** 30;

describe("the memory map", () => {
  it("is the devices' own where they have one", () => {
    expect(layout.ECAM).toMatchObject({ base: pci.ECAM.base, size: pci.ECAM.length });
    expect(layout.PCI_MEM32.base).toBe(pci.MEM32_WINDOW.base);
    expect(layout.endOf(layout.PCI_MEM32)).toBe(pci.MEM32_WINDOW.end);
    expect(layout.PCI_MEM64.base).toBe(pci.MEM64_WINDOW.base);
    expect(layout.endOf(layout.PCI_MEM64)).toBe(pci.MEM64_WINDOW.end);
    expect(layout.PM1_EVENT).toBe(PM1_BASE);
    expect([COM1.base, COM1.irq, COM2.base, COM2.irq]).toEqual([0x3f8, 4, 0x2f8, 3]);
  });

  it("splits memory at 3 GiB", () => {
    const ram = (memory: number) =>
      layout
        .memoryMap(memory)
        .filter((entry) => entry.type === "ram")
        .map(({ base, size }) => [base, base + size]);
    expect(ram(3 * GIB)).toEqual([
      [0, 0x9fc00],
      [0x100000, 0xc0000000],
    ]);
    expect(ram(8 * GIB).at(-1)).toEqual([0x1_0000_0000, 0x2_4000_0000]);
    expect(ram(2 ** 20)).toEqual([[0, 0x9fc00]]);
  });

  it("keeps the 64-bit window above all RAM", () => {
    expect(layout.pciMem64For(8 * GIB).base).toBe(0xd0_0000_0000);
    const high = layout.pciMem64For(2 ** 40);
    expect(high.base).toBeGreaterThanOrEqual(4 * GIB + 2 ** 40 - 3 * GIB);
    expect(high.base % (64 * GIB)).toBe(0);
  });

  it("routes INTA of slot 0 to GSI 17 and goes round after eight", () => {
    expect([routing.gsiOf(0, 0), routing.gsiOf(7, 0), routing.gsiOf(2, 3)]).toEqual([17, 16, 22]);
    expect([routing.pirqOf(0, 0), routing.pirqOf(7, 0)]).toEqual([1, 0]);
  });
});

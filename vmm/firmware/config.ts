// What the firmware tables say about a machine: made by machine.ts, read by all three tables.
import type { Region } from "../layout.js";

export interface FirmwareConfig {
  readonly cpus: number;
  readonly memory: number;
  /** As in the definition. */
  readonly uuid: string;
  readonly pciMemory64: Region;
  /** PCI slot of the LPC bridge on bus 0, when there is one: COM ports and PIRQ links hang on it. */
  readonly lpcSlot: number | undefined;
  /** The IO-APIC pin of a slot's INTA (0) to INTD (3). */
  readonly gsiOf: (slot: number, pin: number) => number;
  /** The PIRQ link, 0 for A to 7 for H, of the same. */
  readonly pirqOf: (slot: number, pin: number) => number;
}

export const PCI_SLOTS = 32;
export const PCI_PINS = 4;

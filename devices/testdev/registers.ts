// Our own device for conformance guests; what follows is its specification.
import { base64, flag, list, record } from "../state.js";

/** A latch of four bytes that every width reads and writes. */
export const LATCH = { base: 0xe0, length: 4 } as const;
/** A byte to 0x2000 + GSI sets the level of that line: 0 low, else high. Reads give the level. */
export const LINES = { base: 0x2000, length: 24 } as const;
/** PCI's I/O window begins here when this device is present: BARs would begin at 0x2000. */
export const IO_BARS_FROM = 0x2100;
/** Reads and writes like RAM, but only by exits. */
export const MEMORY = { base: 0xff000000, length: 64 * 1024 } as const;

export const TESTDEV_STATE = record({
  latch: base64(LATCH.length),
  lines: list(flag, LINES.length, LINES.length),
  memory: base64(MEMORY.length),
});

// Where PCI lives in the machine. The loaders' memory map, the MCFG table and the bridges' windows
// in the DSDT come from here.
const GIB = 2 ** 30;

export const CONFIG_PORTS = { base: 0xcf8, length: 8 } as const;
export const ECAM = { base: 0xe000_0000, length: 0x1000_0000, buses: 256 } as const;
/** Ends before 0x10000; begins later when a device holds ports at its start (testdev). */
export const IO_WINDOW = { base: 0x2000, end: 0x1_0000 } as const;
/** From the end of low memory to ECAM. */
export const MEM32_WINDOW = { base: 3 * GIB, end: ECAM.base } as const;
export const MEM64_WINDOW = { base: 0xd0_0000_0000, end: 0xfd_0000_0000 } as const;

/** A 64-bit BAR up to this size is placed below 4 GiB, where every guest reaches it. */
export const SMALL_BAR = 32 * 2 ** 20;

export const BUS_SHIFT = 20;
export const FUNCTION_SHIFT = 12;

if (ECAM.buses << BUS_SHIFT !== ECAM.length || MEM32_WINDOW.base >= MEM32_WINDOW.end)
  throw new Error("the PCI address map does not add up");

// The guest-physical memory map, all of it, with its sums asserted at load. Loaders, firmware
// tables and E820 take their addresses from here and from nowhere else.
import type { Gpa } from "../native/types.js";

export const KIB = 2 ** 10;
export const MIB = 2 ** 20;
export const GIB = 2 ** 30;
export const PAGE = 4 * KIB;

export interface Region {
  readonly name: string;
  readonly base: Gpa;
  readonly size: number;
}

const region = (name: string, base: Gpa, size: number): Region => ({ name, base, size });
export const endOf = (one: Region): Gpa => one.base + one.size;

// What boot protocols need below 640 KiB. Page 0 stays free for a BIOS data area that is all zero.
export const GDT = region("GDT", 0x2000, PAGE);
export const ZERO_PAGE = region("Linux boot_params", 0x3000, PAGE);
export const COMMAND_LINE = region("command line", 0x4000, 64 * KIB);
export const START_INFO = region("PVH start info", 0x1_4000, 2 * PAGE);
export const PAGE_TABLES = region("64-bit boot page tables", 0x1_6000, 6 * PAGE);
export const EBDA = region("EBDA", 0x9_fc00, KIB);

// Firmware tables, where a guest scans for them: MP spec 1.4 §4, SMBIOS 2.8 §5.2.1, ACPI §5.2.5.1.
export const MP_TABLE = region("MP table", 0xf_0000, 0x1000);
export const SMBIOS = region("SMBIOS", 0xf_1000, 0x1400);
export const ACPI = region("ACPI", 0xf_2400, 0xdc00);
const lowRegions = [
  GDT,
  ZERO_PAGE,
  COMMAND_LINE,
  START_INFO,
  PAGE_TABLES,
  EBDA,
  MP_TABLE,
  SMBIOS,
  ACPI,
];

/** RAM goes on here; what lies below 4 GiB and above this is the hole for PCI and chips. */
export const LOW_MEMORY_LIMIT = 3 * GIB;
export const HIGH_MEMORY = 4 * GIB;
export const FIRMWARE_TABLES = region("firmware tables", 0xf_0000, 64 * KIB);

export const PCI_MEM32 = region("PCI memory window", 0xc000_0000, 512 * MIB);
export const ECAM = region("PCI ECAM", 0xe000_0000, 256 * MIB);
export const IO_APIC = region("IO-APIC", 0xfec0_0000, PAGE);
export const HPET = region("HPET", 0xfed0_0000, KIB);
export const LOCAL_APIC = region("local APIC", 0xfee0_0000, PAGE);
const TEST_DEVICE = region("testdev memory", 0xff00_0000, 64 * KIB);
const holeRegions = [PCI_MEM32, ECAM, IO_APIC, HPET, LOCAL_APIC, TEST_DEVICE];

/** 832 to 1012 GiB: xhyve's place for it. Guests that reach up to there get it above their RAM. */
export const PCI_MEM64 = region("PCI memory window above 4 GiB", 0xd0_0000_0000, 0x2d_0000_0000);
const PCI_IO = region("PCI I/O window", 0x2000, 0xe000);

/** Ports of the ACPI fixed hardware (xhyve's own). */
export const PM1_EVENT = 0x400;
export const PM1_CONTROL = 0x404;
export const PM_TIMER = 0x408;
export const SMI_COMMAND = 0xb2;
export const RESET_PORT = 0xcf9;

export interface MemoryMapEntry {
  readonly base: Gpa;
  readonly size: number;
  readonly type: "ram" | "reserved";
}

export const lowMemoryOf = (size: number): number => Math.min(size, LOW_MEMORY_LIMIT);
export const highMemoryOf = (size: number): number => Math.max(0, size - LOW_MEMORY_LIMIT);

/** The window for 64-bit BARs: 0xD000000000, or the next 64 GiB above the guest's last byte. */
export function pciMem64For(memory: number): Region {
  const end = HIGH_MEMORY + highMemoryOf(memory);
  if (end <= PCI_MEM64.base) return PCI_MEM64;
  return region(PCI_MEM64.name, alignUp(end, 64 * GIB), PCI_MEM64.size);
}

/** E820, in order. The tables and ECAM are reserved: Linux refuses an ECAM that is not. */
export function memoryMap(memory: number): readonly MemoryMapEntry[] {
  const low = lowMemoryOf(memory);
  const high = highMemoryOf(memory);
  const entries: MemoryMapEntry[] = [
    { base: 0, size: EBDA.base, type: "ram" },
    { base: EBDA.base, size: EBDA.size, type: "reserved" },
    { base: FIRMWARE_TABLES.base, size: FIRMWARE_TABLES.size, type: "reserved" },
    { base: MIB, size: low - MIB, type: "ram" },
    { base: ECAM.base, size: ECAM.size, type: "reserved" },
    { base: HIGH_MEMORY, size: high, type: "ram" },
  ];
  return entries.filter((entry) => entry.size > 0);
}

export const alignUp = (value: number, to: number): number => Math.ceil(value / to) * to;
export const alignDown = (value: number, to: number): number => Math.floor(value / to) * to;

function assertOrdered(regions: readonly Region[], start: Gpa, end: Gpa): void {
  let at = start;
  for (const one of regions) {
    if (one.base < at) throw new Error(`layout: ${one.name} begins before 0x${at.toString(16)}`);
    at = endOf(one);
  }
  if (at > end) throw new Error(`layout: the last region ends above 0x${end.toString(16)}`);
}

assertOrdered(lowRegions, PAGE, MIB);
assertOrdered(holeRegions, LOW_MEMORY_LIMIT, HIGH_MEMORY);
assertOrdered([MP_TABLE, SMBIOS, ACPI], FIRMWARE_TABLES.base, endOf(FIRMWARE_TABLES));
assertOrdered([PCI_IO], 0x1000, 0x1_0000);

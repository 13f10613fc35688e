// SMBIOS 2.8 structures (DMTF DSP0134 2.8.0) and their entry point, where a guest scans for it.
import { VmError } from "../../api-schema/errors.js";
import { alignUp, endOf, highMemoryOf, KIB, lowMemoryOf, MIB, SMBIOS } from "../layout.js";
import { setChecksum } from "./acpi.js";
import { join, littleEndian } from "./aml.js";
import type { FirmwareConfig } from "./config.js";

const ENTRY_SIZE = 0x1f;
const u8 = (value: number): Uint8Array => littleEndian(value, 1);
const u16 = (value: number): Uint8Array => littleEndian(value, 2);
const u32 = (value: number): Uint8Array => littleEndian(value, 4);
const u64 = (value: number | bigint): Uint8Array => littleEndian(value, 8);

/** Strings are numbered from 1 in the order given (§6.1.3); the structure ends in two NULs. */
function structure(
  type: number,
  handle: number,
  fields: readonly Uint8Array[],
  strings: readonly string[] = [],
): Uint8Array {
  const body = join(...fields);
  const text = strings.length === 0 ? "\0\0" : `${strings.join("\0")}\0\0`;
  return join(
    Uint8Array.of(type, body.length + 4),
    u16(handle),
    body,
    new TextEncoder().encode(text),
  );
}

/** §7.2.1: the first three groups little-endian. */
function uuidBytes(text: string): Uint8Array {
  const raw = Buffer.from(text.replaceAll("-", ""), "hex");
  const order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
  return Uint8Array.from(order, (index) => raw[index] ?? 0);
}

const HANDLE = { bios: 0, system: 1, chassis: 3, cpu: 0x400, array: 0x1000, dimm: 0x1100 };
const MAPPED = 0x1300;
const VENDOR = "xhyved";
const NONE = "None";

// §7.1.1 and .2: ISA, PCI, shadowing, CD boot, EDD; ACPI; targeted distribution, virtual machine.
const BIOS_CHARACTERISTICS = (1n << 4n) | (1n << 7n) | (1n << 12n) | (1n << 15n) | (1n << 19n);
const BIOS_EXTENSIONS = [0x01, 0x14];

const bios = (): Uint8Array =>
  structure(
    0,
    HANDLE.bios,
    [
      Uint8Array.of(1, 2),
      u16(0xf000),
      Uint8Array.of(3, 0),
      u64(BIOS_CHARACTERISTICS),
      Uint8Array.of(...BIOS_EXTENSIONS, 0xff, 0xff, 0xff, 0xff), // release numbers: none
    ],
    ["BHYVE", "1.00", "11/01/2026"],
  );

const WAKE_POWER_SWITCH = 6;
const system = (uuid: string): Uint8Array =>
  structure(
    1,
    HANDLE.system,
    [Uint8Array.of(1, 2, 3, 4), uuidBytes(uuid), Uint8Array.of(WAKE_POWER_SWITCH, 5, 6)],
    [VENDOR, "BHYVE", "1.0", NONE, NONE, "Virtual Machine"],
  );

const OTHER = 1;
const UNKNOWN = 2;
const SAFE = 3;
const chassis = (): Uint8Array =>
  structure(
    3,
    HANDLE.chassis,
    [
      Uint8Array.of(1, OTHER, 2, 3, 3, SAFE, SAFE, SAFE, UNKNOWN),
      u32(0),
      Uint8Array.of(0, 1, 0, 0, 3),
    ],
    [VENDOR, "1.0", NONE],
  );

const CENTRAL_PROCESSOR = 3;
const FAMILY_OTHER = 1;
const POPULATED_ENABLED = 0x41;
const NO_CACHE = 0xffff;
const cpu = (index: number): Uint8Array =>
  structure(
    4,
    HANDLE.cpu + index,
    [
      Uint8Array.of(1, CENTRAL_PROCESSOR, FAMILY_OTHER, 2),
      u64(0), // CPUID: the guest can ask it itself
      Uint8Array.of(0, 0),
      u16(0), // external clock, maximum speed, current speed: unknown
      u16(0),
      u16(0),
      Uint8Array.of(POPULATED_ENABLED, FAMILY_OTHER),
      u16(NO_CACHE),
      u16(NO_CACHE),
      u16(NO_CACHE),
      Uint8Array.of(0, 0, 0, 1, 1, 1), // one core, enabled, one thread
      u16(1 << 2), // 64-bit capable
      u16(FAMILY_OTHER),
    ],
    [`CPU #${index}`, VENDOR],
  );

const SYSTEM_BOARD = 3;
const SYSTEM_MEMORY = 3;
const NO_ECC = 3;
const NO_ERROR = 0xfffe;
const memoryArray = (memory: number): Uint8Array => {
  const kib = memory / KIB;
  const extended = kib >= 0x8000_0000;
  return structure(16, HANDLE.array, [
    Uint8Array.of(SYSTEM_BOARD, SYSTEM_MEMORY, NO_ECC),
    u32(extended ? 0x8000_0000 : kib),
    u16(NO_ERROR),
    u16(1),
    u64(extended ? memory : 0),
  ]);
};

const FORM_DIMM = 9;
const TYPE_RAM = 7;
const memoryDevice = (memory: number): Uint8Array =>
  structure(
    17,
    HANDLE.dimm,
    [
      u16(HANDLE.array),
      u16(NO_ERROR),
      u16(64), // total width
      u16(64),
      ...memorySize(memory),
    ],
    [NONE],
  );

/** §7.18: MiB, or KiB with bit 15, or 0x7FFF and the extended size. */
function memorySize(memory: number): readonly Uint8Array[] {
  const mib = Math.floor(memory / MIB);
  const small = memory % MIB !== 0 && memory / KIB < 0x7fff;
  const size = small ? 0x8000 | (memory / KIB) : Math.min(mib, 0x7fff);
  return [
    u16(size),
    Uint8Array.of(FORM_DIMM, 0, 1, 1, TYPE_RAM),
    u16(1 << 2), // type detail: unknown
    u16(0),
    Uint8Array.of(1, 1, 1, 1, 0), // strings; attributes
    u32(size === 0x7fff ? mib : 0),
    u16(0), // configured speed
    join(u16(0), u16(0), u16(0)), // voltages: unknown
  ];
}

/** §7.20: addresses in KiB, or 0xFFFFFFFF and the extended ones in bytes. */
const mapped = (index: number, base: number, size: number): Uint8Array => {
  const last = base + size - 1;
  const extended = last / KIB >= 0xffff_ffff;
  return structure(19, MAPPED + index, [
    u32(extended ? 0xffff_ffff : base / KIB),
    u32(extended ? 0xffff_ffff : Math.floor(last / KIB)),
    u16(HANDLE.array),
    u8(1),
    u64(extended ? base : 0),
    u64(extended ? last : 0),
  ]);
};

function structures({ cpus, memory, uuid }: FirmwareConfig): readonly Uint8Array[] {
  const high = highMemoryOf(memory);
  return [
    bios(),
    system(uuid),
    chassis(),
    ...Array.from({ length: cpus }, (_, index) => cpu(index)),
    memoryArray(memory),
    memoryDevice(memory),
    mapped(0, 0, lowMemoryOf(memory)),
    ...(high > 0 ? [mapped(1, 2 ** 32, high)] : []),
    structure(32, 0x2000, [new Uint8Array(6), u8(0)]), // no boot error
    structure(127, 0x7f00, []),
  ];
}

/** §5.2.1: the entry point, then the structures. */
export function smbiosTables(config: FirmwareConfig): { at: number; bytes: Uint8Array } {
  const all = structures(config);
  const table = join(...all);
  const start = SMBIOS.base + alignUp(ENTRY_SIZE, 16);
  if (start + table.length > endOf(SMBIOS)) {
    throw new VmError("FIRMWARE_TABLES_TOO_LARGE", ["SMBIOS", table.length, SMBIOS.size]);
  }
  const intermediate = join(
    new TextEncoder().encode("_DMI_"),
    u8(0),
    u16(table.length),
    u32(start),
    u16(all.length),
    u8(0x28),
  );
  setChecksum(intermediate, 5);
  const entry = join(
    new TextEncoder().encode("_SM_"),
    Uint8Array.of(0, ENTRY_SIZE, 2, 8),
    u16(Math.max(...all.map((one) => one.length))),
    new Uint8Array(6), // revision 0, formatted area
    intermediate,
  );
  setChecksum(entry, 4);
  const padding = new Uint8Array(alignUp(ENTRY_SIZE, 16) - ENTRY_SIZE);
  return { at: SMBIOS.base, bytes: join(entry, padding, table) };
}

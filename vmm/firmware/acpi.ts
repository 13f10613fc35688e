// ACPI tables (ACPI 6.4 §5.2), laid out in the area where a guest scans for the root pointer.
import { VmError } from "../../api-schema/errors.js";
import type { Gpa } from "../../native/types.js";
import {
  ACPI,
  alignUp,
  ECAM,
  HPET,
  IO_APIC,
  LOCAL_APIC,
  PM_TIMER,
  PM1_CONTROL,
  PM1_EVENT,
  RESET_PORT,
  SMI_COMMAND,
} from "../layout.js";
import { join, littleEndian } from "./aml.js";
import type { FirmwareConfig } from "./config.js";
import { dsdtBody } from "./dsdt.js";

const HEADER_SIZE = 36;
const OEM_ID = "BHYVE ";
const CREATOR = "XHVD";
const u8 = (value: number): Uint8Array => littleEndian(value, 1);
const u16 = (value: number): Uint8Array => littleEndian(value, 2);
const u32 = (value: number): Uint8Array => littleEndian(value, 4);
const u64 = (value: number): Uint8Array => littleEndian(value, 8);
const zeroes = (count: number): Uint8Array => new Uint8Array(count);
const ascii = (text: string): Uint8Array => new TextEncoder().encode(text);

export function setChecksum(bytes: Uint8Array, at: number, length = bytes.length): void {
  bytes[at] = 0;
  const sum = bytes.subarray(0, length).reduce((total, byte) => total + byte, 0);
  bytes[at] = -sum & 0xff;
}

/** §5.2.6 System description table header. */
export function table(signature: string, revision: number, ...body: Uint8Array[]): Uint8Array {
  const content = join(...body);
  const bytes = join(
    ascii(signature),
    u32(HEADER_SIZE + content.length),
    u8(revision),
    u8(0), // checksum
    ascii(OEM_ID),
    ascii(`BV${signature}  `.slice(0, 8)),
    u32(1),
    ascii(CREATOR),
    u32(1),
    content,
  );
  setChecksum(bytes, 9);
  return bytes;
}

// §5.2.3.2 Generic address structure; access size 0 is "undefined (legacy)".
const SPACE_MEMORY = 0;
const SPACE_IO = 1;
const gas = (space: number, bits: number, access: number, at: number): Uint8Array =>
  join(u8(space), u8(bits), u8(0), u8(access), u64(at));
const NO_GAS = zeroes(12);

// §5.2.12 MADT.
const PCAT_COMPAT = 1;
const BUS_ISA = 0;
const ACTIVE_HIGH_EDGE = 0x5;
const ACTIVE_LOW_LEVEL = 0xf;
const ALL_PROCESSORS = 0xff;
const SCI = 9;

function madt(cpus: number): Uint8Array {
  const local = Array.from({ length: cpus }, (_, id) => join(u8(0), u8(8), u8(id), u8(id), u32(1)));
  const override = (source: number, gsi: number, flags: number): Uint8Array =>
    join(u8(2), u8(10), u8(BUS_ISA), u8(source), u32(gsi), u16(flags));
  return table(
    "APIC",
    3,
    u32(LOCAL_APIC.base),
    u32(PCAT_COMPAT),
    ...local,
    join(u8(1), u8(12), u8(0), u8(0), u32(IO_APIC.base), u32(0)),
    override(0, 2, ACTIVE_HIGH_EDGE),
    override(SCI, SCI, ACTIVE_LOW_LEVEL),
    join(u8(4), u8(6), u8(ALL_PROCESSORS), u16(ACTIVE_HIGH_EDGE), u8(1)), // NMI on LINT1
  );
}

// §5.2.9 FADT: flags of Table 5.10, boot architecture flags of Table 5.11.
const FADT_FLAGS =
  (1 << 0) | // WBINVD works
  (1 << 2) | // C1 on all processors
  (1 << 5) | // no fixed sleep button (bit 4 clear: a fixed power button)
  (1 << 6) | // no RTC wake status in the fixed registers
  (1 << 8) | // 32-bit PM timer
  (1 << 10) | // reset register
  (1 << 12) | // headless
  (1 << 19); // physical APIC destinations
const LEGACY_DEVICES = 1 << 0;
const NO_VGA = 1 << 2;
// Bit 1 stays clear: the 8042 has no keyboard or mouse behind it, only the reset command.
const C2_UNSUPPORTED = 101; // §5.2.9: a latency over 100 µs
const C3_UNSUPPORTED = 1001;
const CENTURY = 0x32;
/** Hypervisor Vendor Identity: eight characters of the vendor's own choice. */
const HYPERVISOR = "xhyved";
const RESET_VALUE = 6; // full reset: system reset and reset CPU bits of 0xCF9

function fadt(facs: Gpa, dsdt: Gpa, lpc: boolean): Uint8Array {
  return table(
    "FACP",
    6,
    join(u32(facs), u32(dsdt), u8(0), u8(0), u16(SCI), u32(SMI_COMMAND), u8(0xa0), u8(0xa1)),
    join(u8(0), u8(0)), // no S4BIOS, no P-state control
    join(u32(PM1_EVENT), u32(0), u32(PM1_CONTROL), u32(0), u32(0), u32(PM_TIMER), u32(0), u32(0)),
    join(u8(4), u8(0x2), u8(0), u8(4), u8(0), u8(0), u8(0), u8(0)), // their lengths
    join(u16(C2_UNSUPPORTED), u16(C3_UNSUPPORTED), u16(0), u16(0), u8(0), u8(0)),
    join(u8(0), u8(0), u8(CENTURY), u16(NO_VGA | (lpc ? LEGACY_DEVICES : 0)), u8(0)),
    u32(FADT_FLAGS),
    gas(SPACE_IO, 8, 1, RESET_PORT),
    join(u8(RESET_VALUE), u16(0), u8(4)), // FADT minor version 4: the table is 6.4's
    join(u64(0), u64(dsdt)), // X_FIRMWARE_CTRL stays 0 where FIRMWARE_CTRL is given
    join(gas(SPACE_IO, 32, 2, PM1_EVENT), NO_GAS),
    join(gas(SPACE_IO, 16, 2, PM1_CONTROL), NO_GAS, NO_GAS),
    join(gas(SPACE_IO, 32, 3, PM_TIMER), NO_GAS, NO_GAS),
    join(NO_GAS, NO_GAS), // sleep control and status
    ascii(HYPERVISOR.padEnd(8, "\0")),
  );
}

/** IA-PC HPET 1.0a §3.2.4; the id is the low half of the chip's capabilities register. */
const HPET_ID = 0x8086_a301;
const hpet = (): Uint8Array =>
  table("HPET", 1, u32(HPET_ID), gas(SPACE_MEMORY, 64, 0, HPET.base), u8(0), u16(0), u8(0));

/** PCI Firmware 3.2 §4.1.2. */
const mcfg = (): Uint8Array =>
  table("MCFG", 1, zeroes(8), u64(ECAM.base), u16(0), u8(0), u8(255), zeroes(4));

const FACS_SIZE = 64;
/** §5.2.10: no checksum, 64-byte aligned. */
const facs = (): Uint8Array => {
  const bytes = join(ascii("FACS"), u32(FACS_SIZE), zeroes(FACS_SIZE - 8));
  bytes[32] = 2; // version
  return bytes;
};

/** §5.2.5.3. */
function rsdp(rsdt: Gpa, xsdt: Gpa): Uint8Array {
  const bytes = join(
    ascii("RSD PTR "),
    u8(0),
    ascii(OEM_ID),
    u8(2),
    u32(rsdt),
    join(u32(36), u64(xsdt), u8(0), zeroes(3)),
  );
  setChecksum(bytes, 8, 20);
  setChecksum(bytes, 32);
  return bytes;
}

export interface AcpiTables {
  readonly at: Gpa;
  readonly bytes: Uint8Array;
  readonly rsdp: Gpa;
}

/** Places one table after the other; the pointers to it are known when it has its place. */
class Area {
  readonly #pieces: { at: Gpa; bytes: Uint8Array }[] = [];
  #next = ACPI.base + alignUp(36, 64); // the root pointer lies first

  add(bytes: Uint8Array): Gpa {
    const at = alignUp(this.#next, 64);
    this.#next = at + bytes.length;
    this.#pieces.push({ at, bytes });
    return at;
  }

  finish(root: Uint8Array): Uint8Array {
    const size = this.#next - ACPI.base;
    if (size > ACPI.size) throw new VmError("FIRMWARE_TABLES_TOO_LARGE", ["ACPI", size, ACPI.size]);
    const bytes = zeroes(size);
    bytes.set(root);
    for (const piece of this.#pieces) bytes.set(piece.bytes, piece.at - ACPI.base);
    return bytes;
  }
}

export function acpiTables(config: FirmwareConfig): AcpiTables {
  const area = new Area();
  const dsdt = area.add(table("DSDT", 2, dsdtBody(config)));
  const firmwareControl = area.add(facs());
  const tables = [
    area.add(fadt(firmwareControl, dsdt, config.lpcSlot !== undefined)),
    area.add(madt(config.cpus)),
    area.add(hpet()),
    area.add(mcfg()),
  ];
  const rsdt = area.add(table("RSDT", 1, ...tables.map(u32)));
  const xsdt = area.add(table("XSDT", 1, ...tables.map(u64)));
  return { at: ACPI.base, bytes: area.finish(rsdp(rsdt, xsdt)), rsdp: ACPI.base };
}

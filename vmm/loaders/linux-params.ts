// boot_params, the "zero page" (Linux Documentation/arch/x86/zero-page.rst and boot.rst, "The
// Real-Mode Kernel Header"), for the 32-bit and the 64-bit entry alike.
import { VmError } from "../../api-schema/errors.js";
import type { Gpa } from "../../native/types.js";
import { alignDown, alignUp, COMMAND_LINE, MIB, memoryMap, PAGE, ZERO_PAGE } from "../layout.js";
import type { Image } from "./image.js";
import type { GuestLayout, Piece } from "./plan.js";
import { hex } from "./plan.js";

const ACPI_RSDP_ADDR = 0x70;
const EXT_RAMDISK_IMAGE = 0xc0;
const EXT_RAMDISK_SIZE = 0xc4;
const EXT_CMD_LINE_PTR = 0xc8;
const ALT_MEM_K = 0x1e0;
const E820_ENTRIES = 0x1e8;
export const SETUP_HEADER = 0x1f1;
const SETUP_HEADER_LIMIT = 0x290; // edd_mbr_sig_buffer
const VID_MODE = 0x1fa;
const TYPE_OF_LOADER = 0x210;
const RAMDISK_IMAGE = 0x218;
const RAMDISK_SIZE = 0x21c;
const CMD_LINE_PTR = 0x228;
const E820_TABLE = 0x2d0;
const E820_ENTRY_SIZE = 20;

const VID_MODE_NORMAL = 0xffff;
const LOADER_UNREGISTERED = 0xff; // boot.rst, "type_of_loader": no assigned id
const E820_TYPE = { ram: 1, reserved: 2 } as const;

export interface Initrd {
  readonly at: Gpa;
  readonly size: number;
}

export interface ParamsInput {
  /** The kernel's own header from offset 0x1F1 on. */
  readonly setupHeader: Uint8Array;
  readonly initrd?: Initrd | undefined;
  readonly guest: GuestLayout;
}

export function bootParams({ setupHeader, initrd, guest }: ParamsInput): Piece {
  const bytes = new Uint8Array(PAGE);
  const view = new DataView(bytes.buffer);
  bytes.set(setupHeader.subarray(0, SETUP_HEADER_LIMIT - SETUP_HEADER), SETUP_HEADER);
  view.setUint16(VID_MODE, VID_MODE_NORMAL, true);
  view.setUint8(TYPE_OF_LOADER, LOADER_UNREGISTERED);
  view.setUint32(CMD_LINE_PTR, COMMAND_LINE.base, true);
  view.setUint32(EXT_CMD_LINE_PTR, 0, true);
  view.setUint32(ALT_MEM_K, (guest.low - MIB) / 1024, true);
  view.setBigUint64(ACPI_RSDP_ADDR, BigInt(guest.rsdp ?? 0), true);
  setInitrd(view, initrd ?? { at: 0, size: 0 });
  setE820(view, guest.memory);
  return { what: "boot_params", at: ZERO_PAGE.base, bytes };
}

function setInitrd(view: DataView, { at, size }: Initrd): void {
  view.setUint32(RAMDISK_IMAGE, at, true);
  view.setUint32(RAMDISK_SIZE, size, true);
  view.setUint32(EXT_RAMDISK_IMAGE, 0, true);
  view.setUint32(EXT_RAMDISK_SIZE, 0, true);
}

function setE820(view: DataView, memory: number): void {
  const entries = memoryMap(memory);
  view.setUint8(E820_ENTRIES, entries.length);
  for (const [index, entry] of entries.entries()) {
    const at = E820_TABLE + index * E820_ENTRY_SIZE;
    view.setBigUint64(at, BigInt(entry.base), true);
    view.setBigUint64(at + 8, BigInt(entry.size), true);
    view.setUint32(at + 16, E820_TYPE[entry.type], true);
  }
}

/** `limit` is the kernel's own, without the final NUL; ours is the room at COMMAND_LINE. */
export function commandLine(kernel: string, text: string, limit: number): Piece {
  const bytes = new TextEncoder().encode(`${text}\0`);
  const most = Math.min(limit, COMMAND_LINE.size - 1);
  if (bytes.length - 1 > most) {
    throw new VmError("CMDLINE_TOO_LONG", [bytes.length - 1, kernel, most]);
  }
  return { what: "the command line", at: COMMAND_LINE.base, bytes };
}

/** As high as the kernel allows, page-aligned, above the kernel. */
export function placeInitrd(image: Image, kernelEnd: Gpa, highest: Gpa, low: number): Initrd {
  if (image.size === 0) throw new VmError("INITRD_EMPTY", [image.name]);
  const end = Math.min(highest + 1, low);
  const at = alignDown(end - image.size, PAGE);
  if (at < alignUp(kernelEnd, PAGE)) {
    throw new VmError("INITRD_DOES_NOT_FIT", [image.name, image.size, hex(kernelEnd), hex(end)]);
  }
  return { at, size: image.size };
}

export const initrdPiece = (image: Image, { at, size }: Initrd): Piece => ({
  what: `the initrd ${image.name}`,
  at,
  image,
  offset: 0,
  length: size,
});

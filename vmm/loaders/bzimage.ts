// A Linux bzImage by the 32-bit entry of the boot protocol (Linux Documentation/arch/x86/boot.rst,
// "32-bit Boot Protocol"), version 2.10 on. Parse, then plan; plan.ts places.
import { VmError } from "../../api-schema/errors.js";
import type { Gpa } from "../../native/types.js";
import { alignUp, GDT, MIB, PAGE, ZERO_PAGE } from "../layout.js";
import { type Image, truncated, viewOf } from "./image.js";
import {
  bootParams,
  commandLine,
  type Initrd,
  initrdPiece,
  placeInitrd,
  SETUP_HEADER,
} from "./linux-params.js";
import { type BootPlan, checkPieces, type GuestLayout, gdtPiece, hex, type Piece } from "./plan.js";

export interface BzImage {
  readonly image: Image;
  readonly payloadOffset: number;
  readonly payloadSize: number;
  /** The header from 0x1F1 on, for boot_params. */
  readonly setupHeader: Uint8Array;
  readonly initrdAddrMax: Gpa;
  readonly alignment: number;
  readonly relocatable: boolean;
  readonly cmdlineSize: number;
  readonly prefAddress: Gpa;
  readonly initSize: number;
}

const SETUP_SECTS = 0x1f1;
const SYSSIZE = 0x1f4;
const BOOT_FLAG = 0x1fe;
const HEADER_LENGTH = 0x201; // the displacement of the jump at 0x200
const SIGNATURE = 0x202;
const VERSION = 0x206;
const LOADFLAGS = 0x211;
const INITRD_ADDR_MAX = 0x22c;
const KERNEL_ALIGNMENT = 0x230;
const RELOCATABLE = 0x234;
const CMDLINE_SIZE = 0x238;
const PREF_ADDRESS = 0x258;
const INIT_SIZE = 0x260;
const HEADER_END = 0x264; // of protocol 2.10
const HEADER_MOST = 0x202 + 0xff;

const HDRS = 0x5372_6448; // "HdrS"
const SECTOR = 512;
const PARAGRAPH = 16;
const LOADED_HIGH = 1;
const OLDEST = 0x20a;

export function isBzImage(image: Image): boolean {
  if (image.size < SIGNATURE + 4) return false;
  return viewOf(image.read(SIGNATURE, 4, "the signature")).getUint32(0, true) === HDRS;
}

export function parse(image: Image): BzImage {
  if (image.size < HEADER_END) throw truncated(image, "the setup header", HEADER_END);
  const bytes = image.read(0, Math.min(image.size, HEADER_MOST), "the setup header");
  const view = viewOf(bytes);
  checkHeader(image, view);
  const payloadOffset = ((view.getUint8(SETUP_SECTS) || 4) + 1) * SECTOR; // boot.rst: 0 means 4
  const payloadSize = view.getUint32(SYSSIZE, true) * PARAGRAPH;
  if (payloadOffset + payloadSize > image.size) {
    throw truncated(image, "the kernel", payloadOffset + payloadSize);
  }
  return {
    image,
    payloadOffset,
    payloadSize,
    setupHeader: bytes.slice(SETUP_HEADER, SIGNATURE + view.getUint8(HEADER_LENGTH)),
    initrdAddrMax: view.getUint32(INITRD_ADDR_MAX, true),
    alignment: view.getUint32(KERNEL_ALIGNMENT, true),
    relocatable: view.getUint8(RELOCATABLE) !== 0,
    cmdlineSize: view.getUint32(CMDLINE_SIZE, true),
    prefAddress: Number(view.getBigUint64(PREF_ADDRESS, true)),
    initSize: view.getUint32(INIT_SIZE, true),
  };
}

function checkHeader(image: Image, view: DataView): void {
  const invalid = (field: string, value: number, wanted: string): VmError =>
    new VmError("KERNEL_HEADER_INVALID", [image.name, field, hex(value), wanted]);
  const flag = view.getUint16(BOOT_FLAG, true);
  if (flag !== 0xaa55) throw invalid("boot_flag", flag, "0xaa55");
  const version = view.getUint16(VERSION, true);
  if (version < OLDEST) {
    throw new VmError("KERNEL_TOO_OLD", [image.name, `${version >> 8}.${version & 0xff}`]);
  }
  if ((view.getUint8(LOADFLAGS) & LOADED_HIGH) === 0) {
    throw new VmError("KERNEL_NOT_HIGH", [image.name]);
  }
  const alignment = view.getUint32(KERNEL_ALIGNMENT, true);
  if (alignment < PAGE || (alignment & (alignment - 1)) !== 0) {
    throw invalid("kernel_alignment", alignment, "a power of two of 0x1000 or more");
  }
  if (view.getUint32(SYSSIZE, true) === 0) throw invalid("syssize", 0, "more than 0");
  const preferred = view.getBigUint64(PREF_ADDRESS, true);
  if (preferred > 0xffff_ffffn) {
    throw new VmError("KERNEL_HEADER_INVALID", [
      image.name,
      "pref_address",
      hex(preferred),
      "below 4 GiB",
    ]);
  }
}

/**
 * At the preferred address where there is room; else, if it may be moved, as low as it goes. The
 * kernel needs init_size bytes from where it runs (boot.rst, "init_size").
 */
function loadAddress(kernel: BzImage, low: number): Gpa {
  const needed = Math.max(alignUp(kernel.initSize, PAGE), kernel.payloadSize);
  const lowest = alignUp(MIB, kernel.alignment);
  const choices = kernel.relocatable ? [kernel.prefAddress, lowest] : [kernel.prefAddress];
  const fits = choices.find((at) => at >= MIB && at + needed <= low);
  if (fits !== undefined) return fits;
  const least = Math.max(MIB, choices.at(-1) ?? MIB) + needed;
  throw new VmError("KERNEL_DOES_NOT_FIT", [kernel.image.name, hex(least), hex(low)]);
}

export interface LinuxInput {
  readonly kernel: Image;
  readonly initrd?: Image | undefined;
  readonly cmdline?: string | undefined;
}

export const DEFAULT_CMDLINE = "auto";

export function plan(kernel: BzImage, input: LinuxInput, guest: GuestLayout): BootPlan {
  const at = loadAddress(kernel, guest.low);
  const end = at + Math.max(alignUp(kernel.initSize, PAGE), kernel.payloadSize);
  const initrd: Initrd | undefined =
    input.initrd && placeInitrd(input.initrd, end, kernel.initrdAddrMax, guest.low);
  const { image, payloadOffset: offset, payloadSize: length } = kernel;
  const pieces: Piece[] = [
    gdtPiece(GDT.base, "protected"),
    bootParams({ setupHeader: kernel.setupHeader, initrd, guest }),
    commandLine(image.name, input.cmdline ?? DEFAULT_CMDLINE, kernel.cmdlineSize),
    { what: `the kernel ${image.name}`, at, image, offset, length },
  ];
  if (input.initrd && initrd) pieces.push(initrdPiece(input.initrd, initrd));
  checkPieces(image.name, pieces, guest.low);
  return { pieces, entry: { mode: "protected", rip: at, rsi: ZERO_PAGE.base, gdt: GDT.base } };
}

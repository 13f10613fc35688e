// An uncompressed Linux kernel, or any other that carries a PVH note: by that note, else (x86-64
// only) by Linux's 64-bit boot protocol.
import { VmError } from "../../api-schema/errors.js";
import type { Gpa } from "../../native/types.js";
import {
  COMMAND_LINE,
  GDT,
  GIB,
  memoryMap,
  PAGE,
  PAGE_TABLES,
  START_INFO,
  ZERO_PAGE,
} from "../layout.js";
import { DEFAULT_CMDLINE, type LinuxInput } from "./bzimage.js";
import {
  type Elf,
  EM_X86_64,
  endOfLoads,
  notesOf,
  physicalEntry,
  segmentPieces,
  unsupported,
} from "./elf.js";
import { viewOf } from "./image.js";
import {
  bootParams,
  commandLine,
  type Initrd,
  initrdPiece,
  placeInitrd,
  SETUP_HEADER,
} from "./linux-params.js";
import {
  type BootPlan,
  checkPieces,
  type Entry,
  type GuestLayout,
  gdtPiece,
  hex,
  type Piece,
} from "./plan.js";

const XEN_ELFNOTE_PHYS32_ENTRY = 18; // Xen public/elfnote.h
const LINUX_CMDLINE = 2048; // COMMAND_LINE_SIZE of x86, with the NUL
const INITRD_MOST = 0x7fff_ffff;

/** The 32-bit entry point of the note, when the kernel has one. */
function pvhEntry(elf: Elf): Gpa | undefined {
  for (const note of notesOf(elf)) {
    if (note.owner !== "Xen" || note.type !== XEN_ELFNOTE_PHYS32_ENTRY) continue;
    if (note.data.length < 4) continue;
    const entry = viewOf(note.data).getUint32(0, true);
    if (
      !elf.loads.some((load) => entry >= load.physical && entry < load.physical + load.memorySize)
    ) {
      throw new VmError("KERNEL_ENTRY_OUTSIDE", [elf.image.name, hex(entry)]);
    }
    return entry;
  }
  return undefined;
}

export function plan(elf: Elf, input: LinuxInput, guest: GuestLayout): BootPlan {
  const initrd: Initrd | undefined =
    input.initrd && placeInitrd(input.initrd, endOfLoads(elf), INITRD_MOST, guest.low);
  const entry = pvhEntry(elf);
  const [own, start] =
    entry === undefined ? bootProtocol64(elf, initrd, guest) : pvh(entry, initrd, guest);
  const pieces: Piece[] = [
    ...own,
    commandLine(elf.image.name, input.cmdline ?? DEFAULT_CMDLINE, LINUX_CMDLINE - 1),
    ...segmentPieces(elf),
  ];
  if (input.initrd && initrd) pieces.push(initrdPiece(input.initrd, initrd));
  checkPieces(elf.image.name, pieces, guest.low);
  return { pieces, entry: start };
}

type Start = readonly [readonly Piece[], Entry];

function pvh(rip: Gpa, initrd: Initrd | undefined, guest: GuestLayout): Start {
  const pieces = [gdtPiece(GDT.base, "protected"), startInfo(initrd, guest)];
  return [pieces, { mode: "protected", rip, rbx: START_INFO.base, gdt: GDT.base }];
}

// Xen public/arch-x86/hvm/start_info.h: struct hvm_start_info version 1.
const START_INFO_MAGIC = 0x336e_c578;
const START_INFO_SIZE = 56;
const MODULE_SIZE = 32;
const MEMORY_ENTRY_SIZE = 24;
const PVH_TYPE = { ram: 1, reserved: 2 } as const;

function startInfo(initrd: Initrd | undefined, guest: GuestLayout): Piece {
  const map = memoryMap(guest.memory);
  const modules = START_INFO.base + START_INFO_SIZE;
  const memory = modules + MODULE_SIZE;
  const bytes = new Uint8Array(START_INFO.size);
  const view = new DataView(bytes.buffer);
  const put = (at: number, value: number): void => view.setBigUint64(at, BigInt(value), true);
  view.setUint32(0, START_INFO_MAGIC, true);
  view.setUint32(4, 1, true);
  view.setUint32(12, initrd === undefined ? 0 : 1, true);
  put(16, initrd === undefined ? 0 : modules);
  put(24, COMMAND_LINE.base);
  put(32, guest.rsdp ?? 0);
  put(40, memory);
  view.setUint32(48, map.length, true);
  put(START_INFO_SIZE, initrd?.at ?? 0);
  put(START_INFO_SIZE + 8, initrd?.size ?? 0);
  for (const [index, entry] of map.entries()) {
    const at = START_INFO_SIZE + MODULE_SIZE + index * MEMORY_ENTRY_SIZE;
    put(at, entry.base);
    put(at + 8, entry.size);
    view.setUint32(at + 16, PVH_TYPE[entry.type], true);
  }
  return { what: "the PVH start info", at: START_INFO.base, bytes };
}

/** boot.rst, "64-bit Boot Protocol": long mode, memory mapped one to one, RSI on boot_params. */
function bootProtocol64(elf: Elf, initrd: Initrd | undefined, guest: GuestLayout): Start {
  if (elf.bits !== 64 || elf.machine !== EM_X86_64) {
    throw unsupported(elf.image, "the entry", "32-bit without a PVH note", "64-bit or PVH");
  }
  const pieces = [
    gdtPiece(GDT.base, "long"),
    identityPageTables(),
    bootParams({ setupHeader: ownSetupHeader(), initrd, guest }),
  ];
  const rip = physicalEntry(elf);
  const cr3 = PAGE_TABLES.base;
  return [pieces, { mode: "long", rip, rsi: ZERO_PAGE.base, cr3, gdt: GDT.base }];
}

/** A vmlinux has no real-mode header: the fields that the kernel reads (boot.rst, protocol 2.12). */
function ownSetupHeader(): Uint8Array {
  const bytes = new Uint8Array(0x268 - SETUP_HEADER);
  const view = new DataView(bytes.buffer);
  const at = (field: number): number => field - SETUP_HEADER;
  view.setUint16(at(0x1fe), 0xaa55, true);
  view.setUint32(at(0x202), 0x5372_6448, true); // "HdrS"
  view.setUint16(at(0x206), 0x20c, true);
  view.setUint8(at(0x211), 1); // LOADED_HIGH
  view.setUint32(at(0x22c), INITRD_MOST, true);
  view.setUint32(at(0x230), 0x20_0000, true); // kernel_alignment
  view.setUint32(at(0x238), LINUX_CMDLINE - 1, true);
  return bytes;
}

const PRESENT_WRITABLE = 0x3n;
const LARGE = 0x80n;
const LARGE_PAGE = 0x20_0000n;

/** The first 4 GiB by pages of 2 MiB: one PML4, one table of pointers, four directories. */
function identityPageTables(): Piece {
  const bytes = new Uint8Array(PAGE_TABLES.size);
  const view = new DataView(bytes.buffer);
  const table = (index: number): bigint => BigInt(PAGE_TABLES.base + index * PAGE);
  view.setBigUint64(0, table(1) | PRESENT_WRITABLE, true);
  const directories = (4 * GIB) / GIB;
  for (let index = 0; index < directories; index++) {
    view.setBigUint64(PAGE + index * 8, table(2 + index) | PRESENT_WRITABLE, true);
  }
  for (let index = 0; index < directories * 512; index++) {
    const page = BigInt(index) * LARGE_PAGE;
    view.setBigUint64(2 * PAGE + index * 8, page | PRESENT_WRITABLE | LARGE, true);
  }
  return { what: "page tables", at: PAGE_TABLES.base, bytes };
}

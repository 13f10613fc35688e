// The parts of an ELF executable (System V ABI, gABI 4.1, "ELF Header", "Program Header", "Note
// Section") that a loader needs, 32-bit and 64-bit, with every size checked against the file.
import { VmError } from "../../api-schema/errors.js";
import type { Gpa } from "../../native/types.js";
import { MIB } from "../layout.js";
import { type Image, viewOf } from "./image.js";
import { hex, type Piece } from "./plan.js";

export interface ElfSegment {
  readonly index: number;
  readonly offset: number;
  readonly fileSize: number;
  readonly memorySize: number;
  readonly physical: Gpa;
  readonly virtual: bigint;
}

export interface Elf {
  readonly image: Image;
  readonly bits: 32 | 64;
  readonly machine: number;
  readonly entry: bigint;
  readonly loads: readonly ElfSegment[];
  readonly notes: readonly ElfSegment[];
}

export interface ElfNote {
  readonly owner: string;
  readonly type: number;
  readonly data: Uint8Array;
}

const IDENT_SIZE = 16;
const EI_CLASS = 4;
const EI_DATA = 5;
const DATA_LSB = 1;
const ET_EXEC = 2;
const ET_DYN = 3;
const EM_386 = 3;
export const EM_X86_64 = 62;
const PT_LOAD = 1;
const PT_NOTE = 4;
const MOST_HEADERS = 256;
const MOST_NOTE_BYTES = MIB;

// Field offsets by class; "o" is a field of the class's own width.
const HEADER = {
  32: { size: 52, entry: 24, phoff: 28, phentsize: 42, phnum: 44, phsize: 32 },
  64: { size: 64, entry: 24, phoff: 32, phentsize: 54, phnum: 56, phsize: 56 },
} as const;
const SEGMENT = {
  32: { offset: 4, vaddr: 8, paddr: 12, filesz: 16, memsz: 20 },
  64: { offset: 8, vaddr: 16, paddr: 24, filesz: 32, memsz: 40 },
} as const;

export function isElf(image: Image): boolean {
  if (image.size < IDENT_SIZE) return false;
  return viewOf(image.read(0, 4, "the ELF identification")).getUint32(0) === 0x7f45_4c46;
}

const word = (view: DataView, bits: 32 | 64, at: number): bigint =>
  bits === 64 ? view.getBigUint64(at, true) : BigInt(view.getUint32(at, true));

export function parseElf(image: Image): Elf {
  const ident = image.read(0, IDENT_SIZE, "the ELF header");
  const bits = ident[EI_CLASS] === 2 ? 64 : 32;
  const view = viewOf(image.read(0, HEADER[bits].size, "the ELF header"));
  checkHeader(image, view, bits);
  const headers = programHeaders(image, view, bits);
  const ofType = (type: number): ElfSegment[] =>
    headers.filter((one) => one.type === type).map((one) => one.segment);
  const loads = ofType(PT_LOAD).filter((segment) => segment.memorySize > 0);
  if (loads.length === 0) throw unsupported(image, "number of loadable segments", "0", "1 or more");
  return {
    image,
    bits,
    machine: view.getUint16(18, true),
    entry: word(view, bits, HEADER[bits].entry),
    loads,
    notes: ofType(PT_NOTE),
  };
}

export const unsupported = (image: Image, what: string, is: string, wanted: string): VmError =>
  new VmError("KERNEL_ELF_UNSUPPORTED", [image.name, what, is, wanted]);

function checkHeader(image: Image, view: DataView, bits: 32 | 64): void {
  const byteOrder = view.getUint8(EI_DATA);
  if (byteOrder !== DATA_LSB) {
    throw unsupported(image, "the byte order", String(byteOrder), "1 (little-endian)");
  }
  const type = view.getUint16(16, true);
  if (type !== ET_EXEC && type !== ET_DYN) {
    throw unsupported(image, "the file type", String(type), "2 (an executable)");
  }
  const machine = view.getUint16(18, true);
  const known = machine === EM_386 || machine === EM_X86_64;
  if (!known) throw unsupported(image, "the machine", String(machine), "3 or 62 (x86)");
  const entrySize = view.getUint16(HEADER[bits].phentsize, true);
  const wanted = HEADER[bits].phsize;
  if (entrySize !== wanted) {
    throw unsupported(image, "the program header size", String(entrySize), String(wanted));
  }
}

interface Header {
  readonly type: number;
  readonly segment: ElfSegment;
}

function programHeaders(image: Image, view: DataView, bits: 32 | 64): readonly Header[] {
  const number = view.getUint16(HEADER[bits].phnum, true);
  const most = MOST_HEADERS;
  if (number > most) {
    throw unsupported(image, "number of program headers", String(number), `at most ${most}`);
  }
  const offset = inFile(image, word(view, bits, HEADER[bits].phoff), "the program headers");
  const size = HEADER[bits].phsize;
  const table = viewOf(image.read(offset, number * size, "the program headers"));
  return Array.from({ length: number }, (_, index) => {
    const one = new DataView(table.buffer, table.byteOffset + index * size, size);
    return { type: one.getUint32(0, true), segment: segment(image, one, bits, index) };
  });
}

function inFile(image: Image, offset: bigint, what: string): number {
  if (offset <= BigInt(image.size)) return Number(offset);
  throw new VmError("KERNEL_TRUNCATED", [image.name, what, offset.toString(), image.size]);
}

function segment(image: Image, view: DataView, bits: 32 | 64, index: number): ElfSegment {
  const at = SEGMENT[bits];
  const read = (offset: number): bigint => word(view, bits, offset);
  const type = view.getUint32(0, true);
  const needed = type === PT_LOAD || type === PT_NOTE;
  const [offset, fileSize] = [read(at.offset), read(at.filesz)];
  const [memorySize, physical] = [read(at.memsz), read(at.paddr)];
  if (needed) {
    inFile(image, offset + fileSize, `program header ${index}`);
    const wrong =
      (fileSize > memorySize && type === PT_LOAD && "has more bytes in the file than in memory") ||
      (physical + memorySize > 0xffff_ffffn && type === PT_LOAD && "lies above 4 GiB");
    if (wrong) throw new VmError("KERNEL_SEGMENT_INVALID", [image.name, index, wrong]);
  }
  return {
    index,
    offset: Number(offset),
    fileSize: Number(fileSize),
    memorySize: Number(memorySize),
    physical: Number(physical),
    virtual: read(at.vaddr),
  };
}

/** The bytes of a loadable segment and the zeroes after them. */
export function segmentPieces(elf: Elf): readonly Piece[] {
  return elf.loads.flatMap((load) => {
    const what = `segment ${load.index} of ${elf.image.name}`;
    const { physical: at, offset, fileSize: length, memorySize } = load;
    return [
      { what, at, image: elf.image, offset, length },
      { what, at: at + length, zeroes: memorySize - length },
    ];
  });
}

export const endOfLoads = (elf: Elf): Gpa =>
  Math.max(...elf.loads.map((load) => load.physical + load.memorySize));

/** `entry` as a physical address: kernels give either that or a virtual one. */
export function physicalEntry(elf: Elf): Gpa {
  const { entry } = elf;
  const holds = (start: bigint, load: ElfSegment): boolean =>
    entry >= start && entry < start + BigInt(load.memorySize);
  const physical = elf.loads.find((load) => holds(BigInt(load.physical), load));
  if (physical !== undefined) return Number(entry);
  const virtual = elf.loads.find((load) => holds(load.virtual, load));
  if (virtual !== undefined) return virtual.physical + Number(entry - virtual.virtual);
  throw new VmError("KERNEL_ENTRY_OUTSIDE", [elf.image.name, hex(entry)]);
}

const padded = (length: number): number => Math.ceil(length / 4) * 4;

export function* notesOf(elf: Elf): Generator<ElfNote> {
  for (const segment of elf.notes) {
    const length = Math.min(segment.fileSize, MOST_NOTE_BYTES);
    yield* notesIn(elf.image.read(segment.offset, length, "the notes"));
  }
}

function* notesIn(bytes: Uint8Array): Generator<ElfNote> {
  const view = viewOf(bytes);
  for (let at = 0; at + 12 <= bytes.length; ) {
    const ownerSize = view.getUint32(at, true);
    const dataSize = view.getUint32(at + 4, true);
    const data = at + 12 + padded(ownerSize);
    if (data + dataSize > bytes.length) return;
    const owner = Buffer.from(bytes.subarray(at + 12, at + 12 + ownerSize)).toString("latin1");
    yield {
      owner: owner.replace(/\0.*$/s, ""),
      type: view.getUint32(at + 8, true),
      data: bytes.subarray(data, data + dataSize),
    };
    at = data + padded(dataSize);
  }
}

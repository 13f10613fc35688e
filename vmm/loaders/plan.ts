// What a loader hands on: pieces of memory to place, and the state in which the first vCPU starts.
// Parsing and planning read files only; placing is the one step that touches the guest.
import { VmError } from "../../api-schema/errors.js";
import type { Gpa, GuestMemory, SavedComponent } from "../../native/types.js";
import { HIGH_MEMORY, LOW_MEMORY_LIMIT } from "../layout.js";
import type { Image } from "./image.js";

type Content =
  | { readonly bytes: Uint8Array }
  | { readonly image: Image; readonly offset: number; readonly length: number }
  | { readonly zeroes: number };

export type Piece = { readonly what: string; readonly at: Gpa } & Content;

/** 32-bit protected mode without paging, or long mode with the page tables at `cr3`. */
export interface Entry {
  readonly mode: "protected" | "long";
  readonly rip: Gpa;
  readonly rax?: number;
  readonly rbx?: number;
  readonly rsi?: number;
  readonly cr3?: Gpa;
  readonly gdt: Gpa;
}

export interface BootPlan {
  readonly pieces: readonly Piece[];
  readonly entry: Entry;
}

export interface GuestLayout {
  /** Bytes of RAM in all. */
  readonly memory: number;
  readonly low: number;
  /** Where the ACPI tables' root is, when there are any. */
  readonly rsdp?: Gpa;
}

/** What a loader needs of guest memory. */
export type LoaderMemory = Pick<GuestMemory, "write">;

export const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

export const sizeOf = (piece: Piece): number => {
  if ("bytes" in piece) return piece.bytes.length;
  return "image" in piece ? piece.length : piece.zeroes;
};

/** The first two pieces that overlap, by their names. */
export function overlap(pieces: readonly Piece[]): readonly [Piece, Piece] | undefined {
  const sorted = pieces.filter((piece) => sizeOf(piece) > 0).sort((a, b) => a.at - b.at);
  for (const [index, piece] of sorted.entries()) {
    const next = sorted[index + 1];
    if (next !== undefined && piece.at + sizeOf(piece) > next.at) return [piece, next];
  }
  return undefined;
}

/** Every piece in low RAM, none over another. */
export function checkPieces(name: string, pieces: readonly Piece[], low: number): void {
  for (const piece of pieces) {
    const end = piece.at + sizeOf(piece);
    if (end > low) throw new VmError("KERNEL_DOES_NOT_FIT", [name, hex(end), hex(low)]);
  }
  const both = overlap(pieces);
  if (both === undefined) return;
  const [a, b] = both;
  const details = [name, a.what, hex(a.at), hex(a.at + sizeOf(a)), b.what, hex(b.at)];
  throw new VmError("KERNEL_OVERLAP", details);
}

const CHUNK = 64 * 1024;
const zeroChunk = new Uint8Array(CHUNK);

export function place(memory: LoaderMemory, pieces: readonly Piece[]): void {
  // One for all chunks: as garbage they would stay until the guest gives V8 a reason to collect.
  const room = new Uint8Array(CHUNK);
  for (const piece of pieces) {
    for (const [at, bytes] of chunksOf(piece, room)) {
      // The plan was checked against the same memory, so this is our mistake if it happens.
      if (!memory.write(at, bytes)) throw new Error(`${piece.what} at ${hex(at)} is not in RAM`);
    }
  }
}

function* chunksOf(piece: Piece, room: Uint8Array): Generator<readonly [Gpa, Uint8Array]> {
  const size = sizeOf(piece);
  for (let done = 0; done < size; done += CHUNK) {
    const length = Math.min(CHUNK, size - done);
    yield [piece.at + done, chunk(piece, done, length, room)];
  }
}

function chunk(piece: Piece, at: number, length: number, room: Uint8Array): Uint8Array {
  if ("bytes" in piece) return piece.bytes.subarray(at, at + length);
  if ("zeroes" in piece) return zeroChunk.subarray(0, length);
  return piece.image.read(piece.offset + at, length, piece.what, room);
}

// Segment descriptors (SDM Vol. 3 §3.4.5): flat, present, ring 0, accessed bit as the entry needs.
const CODE_32 = 0x00cf_9b00_0000_ffffn;
const CODE_64 = 0x00af_9b00_0000_ffffn;
const DATA = 0x00cf_9300_0000_ffffn;
const GDT_ENTRIES = 4;
const CODE_SELECTOR = 0x10; // boot.rst: __BOOT_CS
const DATA_SELECTOR = 0x18; // __BOOT_DS

export function gdtPiece(at: Gpa, mode: Entry["mode"]): Piece {
  const bytes = new Uint8Array(GDT_ENTRIES * 8);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(CODE_SELECTOR, mode === "long" ? CODE_64 : CODE_32, true);
  view.setBigUint64(DATA_SELECTOR, DATA, true);
  return { what: "the GDT", at, bytes };
}

const flat = (selector: number, access: number) => ({
  base: 0,
  limit: 0xffff_ffff,
  access,
  selector,
});
const CODE_32_ACCESS = 0xc09b; // G, D, P, S, code readable accessed
const CODE_64_ACCESS = 0xa09b; // G, L
const DATA_ACCESS = 0xc093; // G, B, P, S, data writable accessed
const CR0_PE_ET_NE = 0x31;
const CR0_PG = 0x8000_0000;
const CR4_PAE = 0x20;
const EFER_LME_LMA = 0x500;

// IA32_MTRR_DEF_TYPE and IA32_MTRR_PHYSBASE0/PHYSMASK0 (SDM Vol. 3, "Memory Type Range Registers").
const MTRR_ENABLE = 1 << 11; // and no fixed ranges: the first MiB is like the rest
const WRITE_BACK = 6;
const UNCACHEABLE = 0;
const RANGE_VALID = 1 << 11;
const PHYSICAL_END = 2 ** 46; // as CPUID says
const HOLE_SIZE = HIGH_MEMORY - LOW_MEMORY_LIMIT;
const HOLE_MASK = PHYSICAL_END - HOLE_SIZE + RANGE_VALID;
const VARIABLE_RANGES = 8;

if (LOW_MEMORY_LIMIT % HOLE_SIZE !== 0) throw new Error("the PCI hole is not one variable range");

/**
 * CpuState after reset as firmware leaves every CPU, the waiting ones too (INIT keeps MTRRs): all
 * of memory write-back, but the hole for PCI and chips below 4 GiB uncacheable.
 */
export function applyFirmware(reset: SavedComponent): SavedComponent {
  const mtrrVariable: number[] = new Array(2 * VARIABLE_RANGES).fill(0);
  mtrrVariable[0] = LOW_MEMORY_LIMIT + UNCACHEABLE;
  mtrrVariable[1] = HOLE_MASK;
  const changes = { mtrrDefType: MTRR_ENABLE | WRITE_BACK, mtrrVariable };
  return { version: reset.version, state: { ...(reset.state as object), ...changes } };
}

/** CpuState after reset, changed to `entry` (native/core/accel/cpu_state.h has the fields). */
export function applyEntry(reset: SavedComponent, entry: Entry): SavedComponent {
  const long = entry.mode === "long";
  const data = flat(DATA_SELECTOR, DATA_ACCESS);
  const code = flat(CODE_SELECTOR, long ? CODE_64_ACCESS : CODE_32_ACCESS);
  const gpr: number[] = new Array(16).fill(0);
  gpr[0] = entry.rax ?? 0;
  gpr[3] = entry.rbx ?? 0;
  gpr[6] = entry.rsi ?? 0;
  const changes = {
    gpr,
    rip: entry.rip,
    rflags: 2,
    segments: [data, code, data, data, data, data], // ES CS SS DS FS GS
    gdtr: { base: entry.gdt, limit: GDT_ENTRIES * 8 - 1 },
    cr0: long ? CR0_PE_ET_NE + CR0_PG : CR0_PE_ET_NE,
    ...(long ? { cr3: entry.cr3 ?? 0, cr4: CR4_PAE, efer: EFER_LME_LMA } : {}),
  };
  return { version: reset.version, state: { ...(reset.state as object), ...changes } };
}

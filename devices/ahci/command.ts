// One slot of a port's command list: AHCI 1.3.1, "Command List Structure" and "Command Table". What
// the guest wrote is copied once, then checked; addresses that are no RAM are what a bus error is.
import type { GuestMemory } from "../../native/types.js";
import { isRam } from "../virtio/ring-area.js";
import { COMMAND_FIS_LENGTH, type HostFrame, parseHostFrame } from "./fis.js";

export const HEADER_SIZE = 32;
/** The command's own data begin here in its table. */
const PACKET_AT = 0x40;
const PACKET_LENGTH = 16;
const REGIONS_AT = 0x80;
const REGION_SIZE = 16;
const REGIONS_AT_ONCE = 64;
const MAX_REGION = 4 * 2 ** 20;

/** DW0 of a command header */
const HEADER = {
  length: 0x1f,
  clearBusy: 0x400,
} as const;
const MIN_FRAME_DWORDS = 2;
const MAX_FRAME_DWORDS = 16;

/** Why data cannot be moved: the table is too short, or names what is no memory. */
export type DataFault = "overflow" | "bus";

/** The pieces of guest RAM that one command's data go to or come from. */
export class CommandData {
  /** A region asked for an interrupt when its data had been moved. */
  marked = false;
  readonly #memory: GuestMemory;
  readonly #table: number;
  readonly #regions: number;

  constructor(memory: GuestMemory, table: number, regions: number) {
    this.#memory = memory;
    this.#table = table;
    this.#regions = regions;
  }

  /** Address, length, address, length … of the first `length` bytes. */
  pieces(length: number): number[] | DataFault {
    const out: number[] = [];
    let left = length;
    for (let first = 0; left > 0; first += REGIONS_AT_ONCE) {
      const count = Math.min(REGIONS_AT_ONCE, this.#regions - first);
      if (count <= 0) return "overflow";
      const bytes = new Uint8Array(count * REGION_SIZE);
      if (!this.#memory.read(this.#table + REGIONS_AT + first * REGION_SIZE, bytes)) return "bus";
      left = this.#take(new DataView(bytes.buffer), left, out);
      if (left < 0) return "bus";
    }
    return out;
  }

  /** Copies to the guest as far as the table reaches. */
  write(bytes: Uint8Array): number | DataFault {
    const pieces = this.pieces(bytes.length);
    if (typeof pieces === "string") return pieces;
    let done = 0;
    for (let i = 0; i < pieces.length; i += 2) {
      const length = pieces[i + 1] ?? 0;
      this.#memory.write(pieces[i] ?? 0, bytes.subarray(done, done + length));
      done += length;
    }
    return done;
  }

  read(bytes: Uint8Array): number | DataFault {
    const pieces = this.pieces(bytes.length);
    if (typeof pieces === "string") return pieces;
    let done = 0;
    for (let i = 0; i < pieces.length; i += 2) {
      const length = pieces[i + 1] ?? 0;
      this.#memory.read(pieces[i] ?? 0, bytes.subarray(done, done + length));
      done += length;
    }
    return done;
  }

  /** What is left to find; below zero where a region is not in memory. */
  #take(view: DataView, wanted: number, out: number[]): number {
    let left = wanted;
    for (let at = 0; at < view.byteLength && left > 0; at += REGION_SIZE) {
      const flags = view.getUint32(at + 12, true);
      const base = (view.getUint32(at, true) & ~1) >>> 0;
      const address = view.getUint32(at + 4, true) * 2 ** 32 + base;
      // "Data Byte Count": zero-based and odd, so that every region is of whole words.
      const length = Math.min((flags & (MAX_REGION - 1)) | 1, left - 1) + 1;
      if (!isRam(this.#memory, address, length)) return -1;
      if (flags >>> 31) this.marked = true;
      out.push(address, length);
      left -= length;
    }
    return left;
  }
}

export interface SlotCommand {
  readonly slot: number;
  readonly frame: HostFrame;
  readonly packet: Uint8Array;
  readonly data: CommandData;
  /** "Clear Busy upon R_OK": no answer is waited for. */
  readonly clearBusy: boolean;
}

export type FetchFault = "bus" | "frame";

/** `list`: the port's command list base. */
export function fetchCommand(
  memory: GuestMemory,
  list: number,
  slot: number,
): SlotCommand | FetchFault {
  const header = new Uint8Array(HEADER_SIZE);
  if (!memory.read(list + slot * HEADER_SIZE, header)) return "bus";
  const view = new DataView(header.buffer);
  const flags = view.getUint32(0, true);
  const table = view.getUint32(12, true) * 2 ** 32 + ((view.getUint32(8, true) & ~0x7f) >>> 0);
  const bytes = new Uint8Array(REGIONS_AT);
  if (!memory.read(table, bytes)) return "bus";
  const dwords = flags & HEADER.length;
  const frame = parseHostFrame(bytes.subarray(0, COMMAND_FIS_LENGTH));
  if (frame === undefined || dwords < MIN_FRAME_DWORDS || dwords > MAX_FRAME_DWORDS) return "frame";
  return {
    slot,
    frame,
    packet: bytes.slice(PACKET_AT, PACKET_AT + PACKET_LENGTH),
    data: new CommandData(memory, table, flags >>> 16),
    clearBusy: (flags & HEADER.clearBusy) !== 0,
  };
}

/** "PRD Byte Count": what was moved. */
export function reportTransferred(
  memory: GuestMemory,
  list: number,
  slot: number,
  bytes: number,
): boolean {
  const word = new Uint8Array(4);
  new DataView(word.buffer).setUint32(0, bytes, true);
  return memory.write(list + slot * HEADER_SIZE + 4, word);
}

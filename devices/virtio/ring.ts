// What split and packed rings have in common: their contract with the queue, and descriptors.
//
// The guest may change any byte at any time. A descriptor is copied once, then checked, and only
// the copy is used; work is bounded by the ring's size and MAX_CHAIN whatever the bytes say.
import type { GuestMemory } from "../../native/types.js";
import { type RingChain, Segments } from "./chain.js";
import { isRam } from "./ring-area.js";
import { DESCRIPTOR, MAX_CHAIN } from "./specification.js";

export interface RingSpec {
  readonly memory: GuestMemory;
  readonly size: number;
  /** Descriptor area, driver area (available ring) and device area (used ring). */
  readonly descriptors: number;
  readonly driver: number;
  readonly device: number;
  readonly indirect: boolean;
  readonly eventIndex: boolean;
  readonly notifyOnEmpty: boolean;
}

/** Where device and driver are; both plain numbers whose meaning is the ring's. */
export interface RingPosition {
  readonly next: number;
  readonly used: number;
}

export interface Ring {
  /** Why it cannot be used any more. */
  readonly fault: string | undefined;
  /** The next chain; undefined where there is none, or the ring is at fault. */
  take(): RingChain | undefined;
  put(chain: RingChain, written: number): void;
  /** Makes what was put visible; true where the driver wants an interrupt for it. */
  publish(inFlight: number): boolean;
  /** Asks for a notification of what comes next; true where it has come already. */
  arm(): boolean;
  position(): RingPosition;
}

interface Descriptor {
  readonly at: number;
  readonly length: number;
  readonly flags: number;
  /** The next one of a split ring, the buffer id of a packed one. */
  readonly link: number;
}

/** Descriptors that a walk copies from: a ring's own table, or a copy of an indirect one. */
export type ReadWord = (offset: number) => number;

const read = (word: ReadWord, offset: number, low: "flags" | "link"): Descriptor => {
  const [at, high, length] = [word(offset), word(offset + 4), word(offset + 8)];
  const last = word(offset + 12);
  const [first, second] = [last & 0xffff, last >>> 16];
  const rest = low === "flags" ? { flags: first, link: second } : { flags: second, link: first };
  return { at: at + high * 2 ** 32, length, ...rest };
};
/** "The Virtqueue Descriptor Table": address, length, flags, next. */
export const splitDescriptor = (word: ReadWord, offset: number) => read(word, offset, "flags");
/** "Structure of the Virtqueue Descriptor Ring": address, length, buffer id, flags. */
export const packedDescriptor = (word: ReadWord, offset: number) => read(word, offset, "link");

/** Collects one chain; each step returns what is wrong, or nothing. */
export class ChainWalk {
  readonly readable = new Segments();
  readonly writable = new Segments();
  readonly #spec: RingSpec;
  #count = 0;

  constructor(spec: RingSpec) {
    this.#spec = spec;
  }

  add({ at, length, flags }: Descriptor): string | undefined {
    if (++this.#count > MAX_CHAIN) return `a chain of more than ${MAX_CHAIN} descriptors`;
    if (length === 0) return undefined;
    if (!isRam(this.#spec.memory, at, length))
      return `a buffer of ${length} bytes at 0x${at.toString(16)} is not in memory`;
    if (flags & DESCRIPTOR.write) this.writable.push(at, length);
    else if (this.writable.bytes > 0) return "a buffer to read after one to write";
    else this.readable.push(at, length);
    return undefined;
  }

  /** `linked`: entries follow their `next` (split); else they follow one another (packed). */
  addTable({ at, length, flags }: Descriptor, linked: boolean): string | undefined {
    if (!this.#spec.indirect) return "an indirect descriptor, which was not negotiated";
    if (flags & DESCRIPTOR.next) return "an indirect descriptor that has a next one";
    const entries = length / DESCRIPTOR.size;
    if (!Number.isInteger(entries) || entries < 1 || entries > MAX_CHAIN)
      return `an indirect table of ${length} bytes`;
    const table = new Uint8Array(length);
    if (!this.#spec.memory.read(at, table))
      return `an indirect table at 0x${at.toString(16)} is not in memory`;
    const view = new DataView(table.buffer);
    const word = (offset: number): number => view.getUint32(offset, true);
    return linked ? this.#linked(word, entries) : this.#listed(word, entries);
  }

  #linked(word: ReadWord, entries: number): string | undefined {
    for (let index = 0, steps = 0; steps < entries; steps++) {
      const entry = splitDescriptor(word, index * DESCRIPTOR.size);
      const wrong = this.#addEntry(entry);
      if (wrong !== undefined || !(entry.flags & DESCRIPTOR.next)) return wrong;
      index = entry.link;
      if (index >= entries) return `an indirect table goes on at ${index} of ${entries}`;
    }
    return "a loop in an indirect table";
  }

  #listed(word: ReadWord, entries: number): string | undefined {
    for (let index = 0; index < entries; index++) {
      const wrong = this.#addEntry(packedDescriptor(word, index * DESCRIPTOR.size));
      if (wrong !== undefined) return wrong;
    }
    return undefined;
  }

  #addEntry(entry: Descriptor): string | undefined {
    if (entry.flags & DESCRIPTOR.indirect) return "an indirect table in an indirect table";
    return this.add(entry);
  }
}

/** "Used Buffer Notification Suppression": has `event` been passed on the way from old to now? */
export const passed = (event: number, now: number, old: number): boolean =>
  ((now - event - 1) & 0xffff) < ((now - old) & 0xffff);

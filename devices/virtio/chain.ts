// What a driver gave in one piece: buffers that the device reads, then buffers that it writes.
import type { GuestMemory } from "../../native/types.js";

/** Pieces of guest RAM, checked, in order. */
export class Segments {
  /** Address, length, address, length … */
  readonly flat: number[] = [];
  bytes = 0;

  push(at: number, length: number): void {
    this.flat.push(at, length);
    this.bytes += length;
  }

  /** The addresses and lengths of bytes [from, from + length), or of as many as there are. */
  slice(from: number, length: number): number[] {
    const out: number[] = [];
    let skip = from;
    let left = length;
    for (let i = 0; i < this.flat.length && left > 0; i += 2) {
      const size = this.flat[i + 1] ?? 0;
      if (skip < size) {
        const part = Math.min(size - skip, left);
        out.push((this.flat[i] ?? 0) + skip, part);
        left -= part;
      }
      skip = Math.max(0, skip - size);
    }
    return out;
  }
}

/** A chain as a ring knows it. */
export interface RingChain {
  /** What the driver knows it by, and how many slots of a packed ring it takes. */
  readonly id: number;
  readonly slots: number;
  readonly readable: Segments;
  readonly writable: Segments;
}

export class Chain {
  readonly ring: RingChain;
  readonly #memory: GuestMemory;
  readonly #finish: (chain: Chain, written: number) => void;

  constructor(
    ring: RingChain,
    memory: GuestMemory,
    finish: (chain: Chain, written: number) => void,
  ) {
    this.ring = ring;
    this.#memory = memory;
    this.#finish = finish;
  }

  get readable(): Segments {
    return this.ring.readable;
  }
  get writable(): Segments {
    return this.ring.writable;
  }

  /** Copies out of the readable part; the number of bytes that there were. */
  read(from: number, into: Uint8Array): number {
    return this.#copy(this.readable.slice(from, into.length), into, "read");
  }

  /** Copies into the writable part; the number of bytes that there was room for. */
  write(from: number, bytes: Uint8Array): number {
    return this.#copy(this.writable.slice(from, bytes.length), bytes, "write");
  }

  /** Gives it back, with so many bytes of the writable part set. A second time does nothing. */
  done(written: number): void {
    this.#finish(this, written);
  }

  #copy(pieces: readonly number[], bytes: Uint8Array, way: "read" | "write"): number {
    let done = 0;
    for (let i = 0; i < pieces.length; i += 2) {
      const length = pieces[i + 1] ?? 0;
      this.#memory[way](pieces[i] ?? 0, bytes.subarray(done, done + length));
      done += length;
    }
    return done;
  }
}

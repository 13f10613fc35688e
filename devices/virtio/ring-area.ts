// One part of a virtqueue in guest RAM as aligned 16-bit and 32-bit units, each accessed whole and
// in order (Atomics): the guest's CPUs look at the same bytes meanwhile.
import type { GuestMemory } from "../../native/types.js";

/** Views never cross from one window of guest memory into the next (native/types.ts). */
const WINDOW = 2 ** 30;

export class RingArea {
  readonly at: number;
  readonly length: number;
  readonly #memory: GuestMemory;
  /** Bytes in the first window; all of them but for a ring across two. */
  readonly #split: number;
  readonly #first: Units;
  readonly #second: Units;

  private constructor(memory: GuestMemory, at: number, first: Uint8Array, second: Uint8Array) {
    this.#memory = memory;
    this.at = at;
    this.length = first.length + second.length;
    this.#split = first.length;
    this.#first = unitsOf(first);
    this.#second = unitsOf(second);
  }

  /** undefined where it is not all RAM. `at` is aligned to the units that will be used. */
  static map(memory: GuestMemory, at: number, length: number): RingArea | undefined {
    const whole = memory.view(at, length);
    if (whole) return new RingArea(memory, at, whole, new Uint8Array(0));
    const split = WINDOW - (at % WINDOW);
    if (split >= length) return undefined;
    const first = memory.view(at, split);
    const second = memory.view(at + split, length - split);
    return first && second ? new RingArea(memory, at, first, second) : undefined;
  }

  u16(offset: number): number {
    return offset < this.#split
      ? Atomics.load(this.#first.u16, offset >> 1)
      : Atomics.load(this.#second.u16, (offset - this.#split) >> 1);
  }
  u32(offset: number): number {
    return offset < this.#split
      ? Atomics.load(this.#first.u32, offset >> 2)
      : Atomics.load(this.#second.u32, (offset - this.#split) >> 2);
  }
  setU16(offset: number, value: number): void {
    if (offset < this.#split) Atomics.store(this.#first.u16, offset >> 1, value);
    else Atomics.store(this.#second.u16, (offset - this.#split) >> 1, value);
  }
  setU32(offset: number, value: number): void {
    if (offset < this.#split) Atomics.store(this.#first.u32, offset >> 2, value);
    else Atomics.store(this.#second.u32, (offset - this.#split) >> 2, value);
  }

  /** The device wrote to it: before the driver is told. */
  written(): void {
    this.#memory.written(this.at, this.length);
  }
}

interface Units {
  readonly u16: Uint16Array;
  readonly u32: Uint32Array;
}

/** Hosts are little-endian, as virtio 1 and x86 guests are. */
function unitsOf(bytes: Uint8Array): Units {
  const { buffer, byteOffset, length } = bytes;
  const words = byteOffset % 4 === 0 ? length >> 2 : 0;
  return {
    u16: new Uint16Array(buffer, byteOffset, length >> 1),
    u32: new Uint32Array(buffer, words > 0 ? byteOffset : 0, words),
  };
}

const HIGH_RAM = 2 ** 32;

/** All of [at, at + length) is guest RAM, in one piece. */
export function isRam({ size, lowSize }: GuestMemory, at: number, length: number): boolean {
  if (at < lowSize) return length <= lowSize - at;
  const high = at - HIGH_RAM;
  return high >= 0 && length <= size - lowSize - high;
}

// Guest RAM in windows of 1 GiB: Node 20 caps one buffer at 4 GiB.
import type { NativeMachine } from "./addon.js";
import type { GuestMemory } from "./types.js";

const WINDOW = 2 ** 30;
const LOW_LIMIT = 3 * 2 ** 30;
const HIGH_BASE = 4 * 2 ** 30;

const whole = (n: number): boolean => Number.isSafeInteger(n) && n >= 0;

export class WindowedMemory implements GuestMemory {
  readonly size: number;
  readonly lowSize: number;
  readonly #native: NativeMachine;
  readonly #windows: (ArrayBuffer | undefined)[] = [];

  constructor(native: NativeMachine, size: number) {
    this.#native = native;
    this.size = size;
    this.lowSize = Math.min(size, LOW_LIMIT);
  }

  view(at: number, length: number): Uint8Array | undefined {
    const offset = this.#offset(at, length);
    if (offset === undefined) return undefined;
    const start = offset % WINDOW;
    if (start + length > WINDOW) return undefined;
    return new Uint8Array(this.#window(offset), start, length);
  }

  read(at: number, into: Uint8Array): boolean {
    return this.#pieces(at, into.length, (ram, from) => {
      into.set(ram, from);
    });
  }

  write(at: number, bytes: Uint8Array): boolean {
    const done = this.#pieces(at, bytes.length, (ram, from) => {
      ram.set(bytes.subarray(from, from + ram.length));
    });
    if (done) this.written(at, bytes.length);
    return done;
  }

  written(at: number, length: number): void {
    this.#native.written(at, length);
  }

  /** Where `at` lies in the one mapping; undefined unless [at, at + length) is all RAM. */
  #offset(at: number, length: number): number | undefined {
    if (!whole(at) || !whole(length)) return undefined;
    if (at < this.lowSize) return length <= this.lowSize - at ? at : undefined;
    const high = at - HIGH_BASE;
    const highSize = this.size - this.lowSize;
    if (high < 0 || high >= highSize || length > highSize - high) return undefined;
    return this.lowSize + high;
  }

  #window(offset: number): ArrayBuffer {
    const index = Math.floor(offset / WINDOW);
    const known = this.#windows[index];
    if (known !== undefined) return known;
    const made = this.#native.memoryWindow(index);
    this.#windows[index] = made;
    return made;
  }

  #pieces(at: number, length: number, use: (ram: Uint8Array, from: number) => void): boolean {
    const offset = this.#offset(at, length);
    if (offset === undefined) return false;
    for (let done = 0; done < length; ) {
      const start = (offset + done) % WINDOW;
      const part = Math.min(length - done, WINDOW - start);
      use(new Uint8Array(this.#window(offset + done), start, part), done);
      done += part;
    }
    return true;
  }
}

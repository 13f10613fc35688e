// Pieces of memory, as requests name them: address, length, address, length …
import {
  BUFFERS_FROM,
  type GuestMemory,
  type HostBuffer,
  type HostIo,
} from "../../native/types.js";

/** Bytes [from, from + length) of the pieces. */
export function slicePieces(pieces: readonly number[], from: number, length: number): number[] {
  const out: number[] = [];
  let skip = from;
  let left = length;
  for (let i = 0; i < pieces.length && left > 0; i += 2) {
    const size = pieces[i + 1] ?? 0;
    if (skip < size) {
      const part = Math.min(size - skip, left);
      out.push((pieces[i] ?? 0) + skip, part);
      left -= part;
    }
    skip = Math.max(0, skip - size);
  }
  return out;
}

/** Memory of the host for requests, and a way between any piece and an array. */
export class Buffers {
  readonly #io: Pick<HostIo, "buffer">;
  readonly #memory: GuestMemory;
  readonly #buffers = new Map<number, HostBuffer>();
  /** Of one size, as most are: kept for the next who asks. */
  readonly #spare: HostBuffer[] = [];
  readonly #size: number;

  /** `size`: of what take() gives. */
  constructor(io: Pick<HostIo, "buffer">, memory: GuestMemory, size: number) {
    this.#io = io;
    this.#memory = memory;
    this.#size = size;
  }

  /** Zeros; free()d by the caller. */
  make(size: number): HostBuffer {
    const buffer = this.#io.buffer(size);
    this.#buffers.set(buffer.at, buffer);
    const free = (): void => {
      this.#buffers.delete(buffer.at);
      buffer.free();
    };
    return { at: buffer.at, bytes: buffer.bytes, free };
  }

  /** With what was in it before. */
  take(): HostBuffer {
    return this.#spare.pop() ?? this.make(this.#size);
  }
  /** Nothing under way names it any more. */
  give(buffer: HostBuffer): void {
    if (this.#spare.length < MOST_SPARE) this.#spare.push(buffer);
    else buffer.free();
  }

  /** `bytes` are as many as the pieces have. */
  put(pieces: readonly number[], bytes: Uint8Array): void {
    this.#each(pieces, bytes, (at, part, inBuffer) => {
      if (inBuffer === undefined) this.#memory.write(at, part);
      else inBuffer.set(part);
    });
  }
  get(pieces: readonly number[], into: Uint8Array): void {
    this.#each(pieces, into, (at, part, inBuffer) => {
      if (inBuffer === undefined) this.#memory.read(at, part);
      else part.set(inBuffer);
    });
  }

  free(): void {
    for (const buffer of this.#buffers.values()) buffer.free();
    this.#buffers.clear();
    this.#spare.length = 0;
  }

  #each(
    pieces: readonly number[],
    bytes: Uint8Array,
    one: (at: number, part: Uint8Array, inBuffer: Uint8Array | undefined) => void,
  ): void {
    let done = 0;
    for (let i = 0; i < pieces.length; i += 2) {
      const [at = 0, length = 0] = [pieces[i], pieces[i + 1]];
      one(at, bytes.subarray(done, done + length), this.#find(at, length));
      done += length;
    }
  }

  #find(at: number, length: number): Uint8Array | undefined {
    if (at < BUFFERS_FROM) return undefined;
    for (const { at: from, bytes } of this.#buffers.values())
      if (at >= from && at + length <= from + bytes.length)
        return bytes.subarray(at - from, at - from + length);
    throw new RangeError("a piece of no buffer of this disk");
  }
}

const MOST_SPARE = 32;

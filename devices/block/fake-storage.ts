// A file for tests of disk formats: in memory, as HostFile and ImageBytes at once. Requests end in
// a random order. It remembers every write and sync, so that a test can ask what a loss of power at
// any moment may leave.

import { constants } from "node:os";
import type { FileOperation, HostFile } from "../../native/types.js";
import type { FakeIo } from "../fakes.js";
import type { ImageBytes } from "./qcow2/scan.js";

/** A number from 0 up to `below`, the same ones for the same seed. */
export type Random = (below: number) => number;

/** xorshift32. */
export function random(seed: number): Random {
  let state = Math.imul(seed + 1, 0x9e3779b1) >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state % below;
  };
}

type Change =
  | {
      readonly time: number;
      readonly kind: "write";
      readonly at: number;
      readonly bytes: Uint8Array;
    }
  | { readonly time: number; readonly kind: "zero"; readonly at: number; readonly length: number }
  | { readonly time: number; readonly kind: "size"; readonly size: number }
  /** What was done up to the time `covers` is on the medium. */
  | { readonly time: number; readonly kind: "sync"; readonly covers: number };

type Event<T = Change> = T extends Change ? Omit<T, "time"> : never;

const { EBADF } = constants.errno;
const SECTOR = 512;

export class FakeStorage implements ImageBytes {
  bytes: Uint8Array;
  time = 0;
  /** Errors to give instead of doing it. */
  readonly errors = new Map<FileOperation, number>();
  readonly operations: FileOperation[] = [];
  readonly #io: FakeIo;
  readonly #random: Random;
  #start: Uint8Array;
  #changes: Change[] = [];
  #waiting: { readonly owner: object; run(): void }[] = [];
  #pumping = false;

  constructor(io: FakeIo, random: Random, bytes = new Uint8Array(0)) {
    this.#io = io;
    this.#random = random;
    this.bytes = bytes;
    this.#start = bytes.slice();
  }

  /** What is there now is on the medium; losses of power come later. */
  settle(): void {
    this.#start = this.bytes.slice();
    this.#changes = [];
  }

  file(): HostFile {
    const owner = {};
    let closed = false;
    return {
      submit: (operation, offset, length, pieces, done) => {
        if (closed) {
          setImmediate(done, EBADF);
          return;
        }
        const begun = this.time;
        const run = (): void => {
          const errno = this.errors.get(operation) ?? 0;
          this.operations.push(operation);
          if (errno === 0) this.#perform(operation, offset, length, pieces, begun);
          done(errno);
        };
        this.#waiting.push({ owner, run });
        this.#pump();
      },
      twin: () => this.file(),
      cancel: () => {
        this.#waiting = this.#waiting.filter((one) => one.owner !== owner);
      },
      close: () => {
        closed = true;
        this.#waiting = this.#waiting.filter((one) => one.owner !== owner);
      },
    };
  }

  size(): number {
    return this.bytes.length;
  }
  read(offset: number, length: number): Uint8Array {
    return this.bytes.slice(offset, offset + length);
  }
  write(at: number, bytes: Uint8Array): void {
    this.#change({ kind: "write", at, bytes: bytes.slice() });
  }
  truncate(size: number): void {
    this.#change({ kind: "size", size });
  }
  sync(): void {
    this.#change({ kind: "sync", covers: this.time });
  }

  /**
   * The file after a loss of power at `time`: each change that no sync made sure of is there or
   * not; a write may have been torn between sectors.
   */
  lostPowerAt(time: number, random: Random): Uint8Array {
    const before = this.#changes.filter((change) => change.time <= time);
    const sure = Math.max(-1, ...before.map((one) => (one.kind === "sync" ? one.covers : -1)));
    let bytes: Uint8Array = this.#start.slice();
    for (const change of before) {
      const parts = change.kind === "write" ? sectorsOf(change) : [change];
      for (const part of parts)
        if (change.time <= sure || random(2) === 0) bytes = apply(bytes, part);
    }
    return bytes;
  }

  #change(event: Event): void {
    this.time++;
    const change = { ...event, time: this.time } as Change;
    this.#changes.push(change);
    this.bytes = apply(this.bytes, change);
  }

  #pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    setImmediate(() => {
      this.#pumping = false;
      for (let count = 1 + this.#random(4); count > 0 && this.#waiting.length > 0; count--)
        this.#waiting.splice(this.#random(this.#waiting.length), 1)[0]?.run();
      if (this.#waiting.length > 0) this.#pump();
    });
  }

  #perform(
    operation: FileOperation,
    offset: number,
    length: number,
    pieces: readonly number[],
    begun: number,
  ): void {
    if (operation === "sync") this.#change({ kind: "sync", covers: begun });
    if (operation === "zero" || operation === "unmap" || operation === "discard")
      this.#change({ kind: "zero", at: offset, length });
    const moved: Uint8Array[] = [];
    let at = offset;
    for (let i = 0; i < pieces.length; i += 2) {
      const memory = this.#io.piece(pieces[i] ?? 0, pieces[i + 1] ?? 0);
      if (operation === "read" || operation === "clear") memory.fill(0);
      if (operation === "read") memory.set(this.bytes.subarray(at, at + memory.length));
      if (operation === "write") moved.push(memory);
      at += memory.length;
    }
    if (operation === "write") this.write(offset, Buffer.concat(moved));
  }
}

function apply(bytes: Uint8Array, change: Change): Uint8Array {
  switch (change.kind) {
    case "write": {
      const grown = resized(bytes, Math.max(bytes.length, change.at + change.bytes.length));
      grown.set(change.bytes, change.at);
      return grown;
    }
    case "zero":
      bytes.fill(0, change.at, change.at + change.length);
      return bytes;
    case "size":
      return resized(bytes, change.size);
    case "sync":
      return bytes;
  }
}

function resized(bytes: Uint8Array, size: number): Uint8Array {
  if (size <= bytes.length) return size === bytes.length ? bytes : bytes.slice(0, size);
  const larger = new Uint8Array(size);
  larger.set(bytes);
  return larger;
}

function* sectorsOf(change: Extract<Change, { kind: "write" }>): Generator<Change> {
  for (let from = 0; from < change.bytes.length; ) {
    const to = Math.min(change.bytes.length, from + SECTOR - ((change.at + from) % SECTOR));
    yield { ...change, at: change.at + from, bytes: change.bytes.subarray(from, to) };
    from = to;
  }
}

// File I/O between the host's files and guest RAM. Requests are collected until the current turn of
// JavaScript is over, and go to the native pool in one call; completions come back the same way.
import type { NativeMachine } from "./addon.js";
import type { FileOperation, HostBuffer, HostFile, HostIo } from "./types.js";

/** hv::io::Op. */
const OPERATION: Record<FileOperation, number> = {
  read: 0,
  write: 1,
  sync: 2,
  discard: 3,
  zero: 4,
  unmap: 5,
  clear: 6,
};

const HEADER = 6;
const FIRST_ROOM = 4096;
const TAKEN_AT_ONCE = 128;

interface Pending {
  readonly file: number;
  readonly done: (errno: number) => void;
}

export class NativeIo implements HostIo {
  readonly #native: NativeMachine;
  readonly #pending = new Map<number, Pending>();
  readonly #taken = new Int32Array(2 * TAKEN_AT_ONCE);
  #batch = new Float64Array(FIRST_ROOM);
  #length = 0;
  #tag = 0;
  #stopped = false;

  constructor(native: NativeMachine) {
    this.#native = native;
  }

  file(fd: number, alignment = 1): HostFile {
    return this.#file(this.#native.ioAdd(fd, alignment));
  }

  buffer(size: number): HostBuffer {
    const [at, memory] = this.#native.ioBuffer(size);
    const free = (): void => {
      this.#flush();
      if (!this.#stopped) this.#native.ioDrop(at);
    };
    return { at, bytes: new Uint8Array(memory), free };
  }

  #file(file: number): HostFile {
    return {
      submit: (operation, offset, length, pieces, done) => {
        const tag = this.#newTag();
        this.#pending.set(tag, { file, done });
        this.#append([OPERATION[operation], file, tag, offset, length, pieces.length / 2], pieces);
      },
      twin: () => this.#file(this.#native.ioTwin(file)),
      cancel: () => {
        this.#forget(file);
        if (!this.#stopped) this.#native.ioCancel(file);
      },
      close: () => {
        this.#forget(file);
        if (!this.#stopped) this.#native.ioClose(file);
      },
    };
  }

  /** The machine is about to be destroyed. */
  stop(): void {
    this.#stopped = true;
    this.#pending.clear();
  }

  /** The native side says that there is something to take. */
  completed(): void {
    while (!this.#stopped) {
      const count = this.#native.ioTake(this.#taken);
      for (let i = 0; i < count; i++)
        this.#complete(this.#taken[2 * i] ?? 0, this.#taken[2 * i + 1] ?? 0);
      if (count < TAKEN_AT_ONCE) return;
    }
  }

  #newTag(): number {
    do this.#tag = (this.#tag + 1) & 0x3fffffff;
    while (this.#pending.has(this.#tag));
    return this.#tag;
  }

  #complete(tag: number, errno: number): void {
    const pending = this.#pending.get(tag);
    this.#pending.delete(tag);
    pending?.done(errno);
  }

  #append(header: readonly number[], pieces: readonly number[]): void {
    const needed = this.#length + HEADER + pieces.length;
    if (needed > this.#batch.length) this.#grow(needed);
    if (this.#length === 0) queueMicrotask(() => this.#flush());
    this.#batch.set(header, this.#length);
    this.#batch.set(pieces, this.#length + HEADER);
    this.#length = needed;
  }

  #grow(needed: number): void {
    const larger = new Float64Array(Math.max(2 * this.#batch.length, needed));
    larger.set(this.#batch);
    this.#batch = larger;
  }

  #flush(): void {
    const count = this.#length;
    this.#length = 0;
    if (count > 0 && !this.#stopped && this.#native.ioSubmit(this.#batch, count)) this.completed();
  }

  /** Its requests that have not been submitted yet are, so that cancelling finds them. */
  #forget(file: number): void {
    for (const [tag, pending] of this.#pending)
      if (pending.file === file) this.#pending.delete(tag);
    this.#flush();
  }
}

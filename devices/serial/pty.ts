// A pseudo-terminal: people attach with `screen PATH` or `minicom -D PATH`, as often as they like.
import { closeSync, rmSync, symlinkSync, writeSync } from "node:fs";
import { Writable } from "node:stream";
import { ReadStream } from "node:tty";
import type { SerialBackend } from "./backend.js";
import { StreamBackend } from "./stream.js";

/** What native's host part gives: Node has no openpty. */
export interface Pty {
  /** The master, not blocking. */
  readonly fd: number;
  /** The terminal's own end, kept open: a master whose last user hung up would only read errors. */
  readonly slave: number;
  /** What people attach to: /dev/pts/N. */
  readonly path: string;
}

/** Nothing says when a full terminal has room again, so we look: often at first, then seldom. */
const FIRST_LOOK = 10;
const LAST_LOOK = 500;

const isFull = (error: unknown): boolean =>
  error instanceof Error && "code" in error && error.code === "EAGAIN";

/**
 * The master as a stream that never waits in a system call. Node's own tty streams do: libuv makes
 * writes to a terminal blocking, and with nobody attached the VM process would stand still.
 */
class MasterWriter extends Writable {
  readonly #fd: number;
  #timer: NodeJS.Timeout | undefined;

  constructor(fd: number) {
    super();
    this.#fd = fd;
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error) => void): void {
    this.#attempt(chunk, FIRST_LOOK, done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    clearTimeout(this.#timer);
    done(error);
  }

  #attempt(chunk: Buffer, wait: number, done: (error?: Error) => void): void {
    const left = this.#put(chunk);
    if (left instanceof Error) done(left);
    else if (left.length === 0) done();
    else {
      const next = left.length < chunk.length ? FIRST_LOOK : Math.min(2 * wait, LAST_LOOK);
      this.#timer = setTimeout(() => this.#attempt(left, next, done), wait).unref();
    }
  }

  /** What did not fit. */
  #put(chunk: Buffer): Buffer | Error {
    let left = chunk;
    try {
      while (left.length > 0) left = left.subarray(writeSync(this.#fd, left));
      return left;
    } catch (error) {
      if (isFull(error)) return left;
      return error instanceof Error ? error : new Error(String(error));
    }
  }
}

export class PtyBackend implements SerialBackend {
  /** For the VM's status: where to attach. */
  readonly path: string;
  readonly #input: ReadStream;
  readonly #output: MasterWriter;
  readonly #backend: StreamBackend;
  readonly #slave: number;
  readonly #link: string | undefined;

  /** `link` is made to point to the terminal, and removed again at the end. */
  constructor(pty: Pty, link?: string) {
    this.path = pty.path;
    this.#slave = pty.slave;
    this.#link = link;
    if (link !== undefined) {
      rmSync(link, { force: true });
      symlinkSync(pty.path, link);
    }
    this.#input = new ReadStream(pty.fd);
    this.#output = new MasterWriter(pty.fd);
    this.#backend = new StreamBackend(this.#input, this.#output);
  }

  get lost(): number {
    return this.#backend.lost;
  }
  write(bytes: Uint8Array): boolean {
    return this.#backend.write(bytes);
  }
  onData(listener: (bytes: Uint8Array) => void): void {
    this.#backend.onData(listener);
  }
  onDrain(listener: () => void): void {
    this.#backend.onDrain(listener);
  }
  accept(on: boolean): void {
    this.#backend.accept(on);
  }
  close(): void {
    this.#backend.close();
    this.#output.destroy();
    this.#input.destroy(); // closes the master
    closeSync(this.#slave);
    if (this.#link !== undefined) rmSync(this.#link, { force: true });
  }
}

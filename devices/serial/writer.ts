// A terminal's descriptor as a stream that never waits in a system call.
import { writeSync } from "node:fs";
import { Writable } from "node:stream";

/** Nothing says when a full terminal has room again, so we look: often at first, then seldom. */
const FIRST_LOOK = 10;
const LAST_LOOK = 500;

const isFull = (error: unknown): boolean =>
  error instanceof Error && "code" in error && error.code === "EAGAIN";

/**
 * The descriptor does not block and stays its owner's. Node's own tty streams do block: libuv makes
 * writes to a terminal so, and with nobody reading the VM process would stand still.
 */
export class TerminalWriter extends Writable {
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

// A pseudo-terminal: people attach with `screen PATH` or `minicom -D PATH`, as often as they like.
import { closeSync, rmSync, symlinkSync } from "node:fs";
import { ReadStream } from "node:tty";
import type { SerialBackend } from "./backend.js";
import { StreamBackend } from "./stream.js";

/** What native's host part gives: Node has no openpty. */
export interface Pty {
  /** The master. */
  readonly fd: number;
  /** The terminal's own end, kept open: a master whose last user hung up would only read errors. */
  readonly slave: number;
  /** What people attach to: /dev/pts/N. */
  readonly path: string;
}

export class PtyBackend implements SerialBackend {
  /** For the VM's status: where to attach. */
  readonly path: string;
  readonly #stream: ReadStream;
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
    // A tty.WriteStream would wait in write() while nobody reads; a ReadStream's socket does not.
    this.#stream = new ReadStream(pty.fd);
    this.#backend = new StreamBackend(this.#stream, this.#stream);
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
    this.#stream.destroy();
    closeSync(this.#slave);
    if (this.#link !== undefined) rmSync(this.#link, { force: true });
  }
}

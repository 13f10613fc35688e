// A pseudo-terminal: people attach with `screen PATH` or `minicom -D PATH`, as often as they like.
import { closeSync, rmSync, symlinkSync } from "node:fs";
import { ReadStream } from "node:tty";
import { removeName } from "../own-name.js";
import type { SerialBackend } from "./backend.js";
import { StreamBackend } from "./stream.js";
import { TerminalWriter } from "./writer.js";

/** What native's host part gives: Node has no openpty. */
export interface Pty {
  /** The master, not blocking. */
  readonly fd: number;
  /** The terminal's own end, kept open: a master whose last user hung up would only read errors. */
  readonly slave: number;
  /** What people attach to: /dev/pts/N. */
  readonly path: string;
}

export class PtyBackend implements SerialBackend {
  /** For the VM's status: where to attach. */
  readonly path: string;
  readonly #input: ReadStream;
  readonly #output: TerminalWriter;
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
    this.#output = new TerminalWriter(pty.fd);
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
    if (this.#link !== undefined) removeName(this.#link);
  }
}

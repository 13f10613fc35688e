// The process's own standard streams: a terminal in raw mode, or a pipe or file.
import type { Readable, Writable } from "node:stream";
import type { SerialBackend } from "./backend.js";
import { StreamBackend } from "./stream.js";

/** The part of tty.ReadStream that this backend needs. */
interface MaybeTerminal extends Readable {
  readonly isTTY?: boolean;
  setRawMode?(on: boolean): unknown;
  unref?(): unknown;
}

export interface StdioOptions {
  readonly input?: MaybeTerminal;
  readonly output?: Writable;
}

/**
 * A terminal is put into raw mode, so that the guest gets every key, and back when the backend
 * closes or the process exits. Where standard input ends (a file, a closed pipe), output goes on.
 */
export class StdioBackend extends StreamBackend implements SerialBackend {
  readonly #input: MaybeTerminal;
  readonly #restore = () => {
    this.#input.setRawMode?.(false);
  };
  readonly #raw: boolean;

  constructor({ input = process.stdin, output = process.stdout }: StdioOptions = {}) {
    super(input, output);
    this.#input = input;
    this.#raw = input.isTTY === true && input.setRawMode !== undefined;
    if (!this.#raw) return;
    input.setRawMode?.(true);
    process.on("exit", this.#restore);
  }

  override close(): void {
    super.close();
    this.#input.unref?.();
    if (!this.#raw) return;
    process.off("exit", this.#restore);
    this.#restore();
  }
}

// Output only, into a plain file that people give by name: appended to, kept under a limit by
// moving the full file to NAME.1; where that is not ours to do, by beginning anew.
import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  openSync,
  renameSync,
  writeSync,
} from "node:fs";
import type { SerialBackend } from "./backend.js";

/** open(2), which who governs the host's files may do otherwise. */
export const openByName = (path: string, flags: number, mode?: number): number =>
  openSync(path, flags, mode);

const APPEND = constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND;
const DEFAULT_FILE_LIMIT = 16 * 1024 * 1024;

export class FileBackend implements SerialBackend {
  readonly #path: string;
  readonly #open: typeof openByName;
  readonly #half: number;
  #fd: number;
  #size: number;
  #lost = 0;

  /** Throws where the file cannot be opened: the VM is not started then. */
  constructor(path: string, open = openByName, limit = DEFAULT_FILE_LIMIT) {
    this.#path = path;
    this.#open = open;
    this.#half = Math.max(1, Math.floor(limit / 2));
    this.#fd = open(path, APPEND, 0o600);
    this.#size = fstatSync(this.#fd).size;
  }

  get lost(): number {
    return this.#lost;
  }

  /** A full disk costs output, which is counted, and never holds the guest back. */
  write(bytes: Uint8Array): boolean {
    try {
      if (this.#size + bytes.length > this.#half && this.#size > 0) this.#rotate();
      let left = bytes;
      while (left.length > 0) left = left.subarray(writeSync(this.#fd, left));
      this.#size += bytes.length;
    } catch {
      this.#lost += bytes.length;
    }
    return true;
  }

  onData(): void {}
  onDrain(): void {}
  accept(): void {}
  close(): void {
    closeSync(this.#fd);
  }

  /** What is no regular file (a FIFO, /dev/null) only grows. */
  #rotate(): void {
    if (!fstatSync(this.#fd).isFile()) return;
    if (this.#moveAway()) this.#openNext();
    else ftruncateSync(this.#fd, 0); // what came before is gone; the limit holds
    this.#size = 0;
  }

  #openNext(): void {
    const next = this.#open(this.#path, APPEND, 0o600);
    closeSync(this.#fd);
    this.#fd = next;
  }

  #moveAway(): boolean {
    try {
      renameSync(this.#path, `${this.#path}.1`);
      return true;
    } catch {
      return false; // the folder is another user's
    }
  }
}

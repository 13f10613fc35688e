// One client that follows the console. A guest prints byte by byte; what comes within a few
// milliseconds goes in one line, since a byte alone costs eighty on its way and a wake-up there.
import type { ConsoleBackend } from "../../devices/serial/console.js";
import type { Connection } from "./connection.js";

/** Bytes that may wait for a follower before it is dropped. */
export const MAX_CONSOLE_BACKLOG = 1024 * 1024;
const GATHER_MS = 4;
const CHUNK = 64 * 1024;

export class ConsoleFollower {
  readonly #connection: Connection;
  readonly #unfollow: () => void;
  #from = 0;
  #pieces: Uint8Array[] = [];
  #bytes = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(connection: Connection, console: ConsoleBackend) {
    this.#connection = connection;
    this.#unfollow = console.follow((offset, bytes) => this.#gather(offset, bytes));
  }

  /** What is gathered is still sent. */
  end(): void {
    this.#flush();
    this.#unfollow();
  }

  #gather(offset: number, bytes: Uint8Array): void {
    if (this.#bytes === 0) this.#from = offset;
    this.#pieces.push(bytes.slice());
    this.#bytes += bytes.length;
    if (this.#bytes >= CHUNK) this.#flush();
    else this.#timer ??= setTimeout(() => this.#flush(), GATHER_MS);
  }

  #flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const all = Buffer.concat(this.#pieces);
    this.#pieces = [];
    this.#bytes = 0;
    if (all.length > 0) this.#send(all);
  }

  #send(all: Buffer): void {
    if (this.#connection.backlog > MAX_CONSOLE_BACKLOG) {
      this.#unfollow();
      const reason = "the reader is too slow";
      this.#connection.drop("consoleDropped", { offset: this.#from, reason });
      return;
    }
    for (let at = 0; at < all.length; at += CHUNK) {
      const data = all.subarray(at, at + CHUNK).toString("base64");
      this.#connection.notify("consoleData", { offset: this.#from + at, data });
    }
  }
}

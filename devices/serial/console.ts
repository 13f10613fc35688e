// The VM's console: output into the log and to whoever follows it, input by calls.

import type { ConsoleLog } from "../../api-schema/console-log.js";
import { type SerialBackend, SerialListeners, type TerminalSize } from "./backend.js";

/** Input that the guest has not read yet; a caller is told how much of its data fitted. */
const MAX_INPUT = 64 * 1024;

export type ConsoleFollower = (offset: number, bytes: Uint8Array) => void;

export class ConsoleBackend implements SerialBackend {
  readonly log: ConsoleLog;
  readonly #listeners = new SerialListeners();
  readonly #followers = new Set<ConsoleFollower>();
  #accepting = true;
  #held: Uint8Array[] = [];
  #heldBytes = 0;
  #size: TerminalSize | undefined;
  #resized: (size: TerminalSize) => void = () => {};

  constructor(log: ConsoleLog) {
    this.log = log;
  }

  get lost(): number {
    return this.log.lost;
  }

  /** Output goes on, whatever disk and followers do. */
  write(bytes: Uint8Array): boolean {
    const offset = this.log.end;
    this.log.append(bytes);
    for (const follower of this.#followers) follower(offset, bytes);
    return true;
  }

  /** The follower gets what comes from now on; what was before is in the log. Ends when called. */
  follow(follower: ConsoleFollower): () => void {
    this.#followers.add(follower);
    return () => {
      this.#followers.delete(follower);
    };
  }

  /** Types into the guest. Returns how many bytes were taken. */
  send(bytes: Uint8Array): number {
    const taken = bytes.slice(0, Math.max(0, MAX_INPUT - this.#heldBytes));
    if (taken.length === 0) return 0;
    this.#held.push(taken);
    this.#heldBytes += taken.length;
    this.#deliver();
    return taken.length;
  }

  /** Of the terminal of who looks; where several do, of the one who said so last. */
  resize(size: TerminalSize): void {
    this.#size = size;
    this.#resized(size);
  }
  onResize(listener: (size: TerminalSize) => void): void {
    this.#resized = listener;
    if (this.#size !== undefined) listener(this.#size);
  }

  onData(listener: (bytes: Uint8Array) => void): void {
    this.#listeners.data = listener;
  }
  onDrain(): void {}
  accept(on: boolean): void {
    this.#accepting = on;
    this.#deliver();
  }
  close(): void {
    this.#followers.clear();
    this.log.close();
  }

  #deliver(): void {
    while (this.#accepting) {
      const next = this.#held.shift();
      if (next === undefined) return;
      this.#heldBytes -= next.length;
      this.#listeners.data(next);
    }
  }
}

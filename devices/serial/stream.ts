// A backend over Node streams: what stdio, the pseudo-terminal and each socket client share.
import type { Readable, Writable } from "node:stream";
import { type SerialBackend, SerialListeners } from "./backend.js";

/** Output kept for a reader that has stopped reading; over it, output is lost. Our choice. */
export const MAX_BACKLOG = 1024 * 1024;

export class StreamBackend implements SerialBackend {
  readonly #input: Readable | undefined;
  readonly #output: Writable;
  readonly #listeners = new SerialListeners();
  readonly #onData = (bytes: Buffer) => this.#listeners.data(new Uint8Array(bytes));
  readonly #onDrain = () => this.#listeners.drain();
  /** A peer that went away is no error of the guest's: output is then lost and counted. */
  readonly #onError = () => {
    this.#gone = true;
    this.#listeners.drain();
  };
  #gone = false;
  #lost = 0;

  constructor(input: Readable | undefined, output: Writable) {
    this.#input = input;
    this.#output = output;
    input?.on("data", this.#onData).on("error", this.#onError);
    output.on("drain", this.#onDrain).on("error", this.#onError);
  }

  get lost(): number {
    return this.#lost;
  }
  /** Bytes that the peer has not taken yet. */
  get backlog(): number {
    return this.#output.writableLength;
  }

  write(bytes: Uint8Array): boolean {
    if (this.#gone || this.#output.writableEnded || this.#output.destroyed) {
      this.#lost += bytes.length;
      return true;
    }
    if (this.#output.writableLength + bytes.length > MAX_BACKLOG) {
      this.#lost += bytes.length;
      return false;
    }
    return this.#output.write(bytes);
  }

  onData(listener: (bytes: Uint8Array) => void): void {
    this.#listeners.data = listener;
  }
  onDrain(listener: () => void): void {
    this.#listeners.drain = listener;
  }
  accept(on: boolean): void {
    if (on) this.#input?.resume();
    else this.#input?.pause();
  }
  close(): void {
    this.#gone = true;
    this.#input?.off("data", this.#onData).pause();
    this.#output.off("drain", this.#onDrain);
  }
}

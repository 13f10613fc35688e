// A backend whose other end is another program, which may be restarted: tried again, at longer and
// longer intervals, until it is there.
import type { NetPort } from "../../native/types.js";
import { type NetBackend, SOFTWARE_OFFLOADS } from "./backend.js";

const FIRST_MS = 100;
const LONGEST_MS = 5000;

export interface ReconnectingOptions {
  readonly kind: string;
  readonly detail: string;
  /** Opened by who made the options. */
  readonly port: NetPort;
  /** Throws what is wrong. */
  connect(): NetPort;
  log(text: string): void;
  /** The connection is given up. */
  close?(): void;
}

export class ReconnectingNetwork implements NetBackend {
  readonly kind: string;
  readonly detail: string;
  readonly offloads = SOFTWARE_OFFLOADS;
  readonly #options: ReconnectingOptions;
  #port: NetPort | undefined;
  #fault: string | undefined;
  #listener: () => void = () => {};
  #timer: NodeJS.Timeout | undefined;
  #wait = FIRST_MS;
  #closed = false;

  constructor(options: ReconnectingOptions) {
    this.kind = options.kind;
    this.detail = options.detail;
    this.#options = options;
    this.#port = options.port;
  }

  get port(): NetPort | undefined {
    return this.#port;
  }
  get fault(): string | undefined {
    return this.#fault;
  }
  onChange(listener: () => void): void {
    this.#listener = listener;
  }

  lost(why: string): void {
    this.#port?.close();
    this.#port = undefined;
    this.#fault = why;
    this.#options.log(why);
    this.#listener();
    this.#later();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#port?.close();
    this.#port = undefined;
    this.#options.close?.();
  }

  #later(): void {
    if (this.#closed) return;
    this.#timer = setTimeout(() => this.#retry(), this.#wait);
    this.#timer.unref();
    this.#wait = Math.min(2 * this.#wait, LONGEST_MS);
  }

  #retry(): void {
    try {
      this.#port = this.#options.connect();
    } catch (error) {
      this.#fault = error instanceof Error ? error.message : String(error);
      this.#later();
      return;
    }
    this.#fault = undefined;
    this.#wait = FIRST_MS;
    this.#options.log("the other end is there again");
    this.#listener();
  }
}

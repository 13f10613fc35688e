// The requests of one VM, one at a time and in order; those of several VMs run side by side.
import { VmError } from "../../api-schema/index.js";
import type { Request } from "./admission.js";

/** More than any client needs; each waits with a connection open. */
export const MAX_WAITING = 64;

export class RequestQueue {
  readonly #name: () => string;
  readonly #idle: () => void;
  readonly #waiting: Request[] = [];
  #last: Promise<unknown> = Promise.resolve();

  /** `idle` is called whenever nothing waits any more. */
  constructor(name: () => string, idle: () => void) {
    this.#name = name;
    this.#idle = idle;
  }

  /** Accepted and not done yet, the one being carried out first. */
  get waiting(): readonly Request[] {
    return this.#waiting;
  }

  /** Resolves with what `work` does when its turn has come; throws VM_BUSY at once. */
  add<T>(request: Request, work: () => Promise<T>): Promise<T> {
    if (this.#waiting.length >= MAX_WAITING)
      return Promise.reject(new VmError("VM_BUSY", [this.#waiting.length, this.#name()]));
    this.#waiting.push(request);
    const turn = this.#last.then(async () => {
      try {
        return await work();
      } finally {
        this.#waiting.shift();
        if (this.#waiting.length === 0) this.#idle();
      }
    });
    this.#last = turn.catch(() => {});
    return turn;
  }
}

// A guest's request that becomes several of the host's.
import type { BlockDone } from "./backend.js";

/** Ends when as many parts have ended as began; with the first error of any. */
export class Parts {
  readonly #done: BlockDone;
  #left = 1;
  #errno = 0;

  /** Begins with one part, which whoever makes it ends. */
  constructor(done: BlockDone) {
    this.#done = done;
  }

  begin(): void {
    this.#left++;
  }
  readonly end = (errno: number): void => {
    if (this.#errno === 0) this.#errno = errno;
    if (--this.#left === 0) this.#done(this.#errno);
  };
}

/** Requests that are under way elsewhere, and can be told that nothing will come of them. */
export class Pending {
  readonly #all = new Set<BlockDone>();

  get size(): number {
    return this.#all.size;
  }

  /** To be called in place of `done`. */
  track(done: BlockDone): BlockDone {
    const end = (errno: number): void => {
      if (this.#all.delete(end)) done(errno);
    };
    this.#all.add(end);
    return end;
  }

  abort(errno: number): void {
    for (const end of [...this.#all]) end(errno);
  }
}

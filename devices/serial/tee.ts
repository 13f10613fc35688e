// Several backends on one cable: all get the output, any may type.
import { type SerialBackend, SerialListeners, type TerminalSize } from "./backend.js";

export class TeeBackend implements SerialBackend {
  readonly #branches: readonly SerialBackend[];
  readonly #listeners = new SerialListeners();
  readonly #choked = new Set<SerialBackend>();

  constructor(branches: readonly SerialBackend[]) {
    this.#branches = branches;
    for (const branch of branches) {
      branch.onData((bytes) => this.#listeners.data(bytes));
      branch.onDrain(() => this.#drained(branch));
    }
  }

  get lost(): number {
    return this.#branches.reduce((sum, branch) => sum + branch.lost, 0);
  }

  /** The slowest branch sets the pace. */
  write(bytes: Uint8Array): boolean {
    for (const branch of this.#branches) {
      if (branch.write(bytes)) this.#choked.delete(branch);
      else this.#choked.add(branch);
    }
    return this.#choked.size === 0;
  }

  onData(listener: (bytes: Uint8Array) => void): void {
    this.#listeners.data = listener;
  }
  onDrain(listener: () => void): void {
    this.#listeners.drain = listener;
  }
  onResize(listener: (size: TerminalSize) => void): void {
    for (const branch of this.#branches) branch.onResize?.(listener);
  }
  accept(on: boolean): void {
    for (const branch of this.#branches) branch.accept(on);
  }
  close(): void {
    for (const branch of this.#branches) branch.close();
  }

  #drained(branch: SerialBackend): void {
    if (this.#choked.delete(branch) && this.#choked.size === 0) this.#listeners.drain();
  }
}

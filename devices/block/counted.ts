// A disk's backend with what the guest asks of it counted.
import type { BlockBackend, BlockDone, BlockGeometry } from "./backend.js";

export interface BlockCounts {
  readOperations: number;
  readBytes: number;
  writeOperations: number;
  writeBytes: number;
  flushes: number;
  errors: number;
}

export class CountedBackend implements BlockBackend {
  /** Since the machine was made; a reset of the guest does not begin anew. */
  readonly counts: BlockCounts = {
    readOperations: 0,
    readBytes: 0,
    writeOperations: 0,
    writeBytes: 0,
    flushes: 0,
    errors: 0,
  };
  readonly #backend: BlockBackend;

  constructor(backend: BlockBackend) {
    this.#backend = backend;
  }

  get geometry(): BlockGeometry {
    return this.#backend.geometry;
  }
  read(offset: number, length: number, pieces: readonly number[], done: BlockDone): void {
    this.counts.readOperations++;
    this.counts.readBytes += length;
    this.#backend.read(offset, length, pieces, this.#heard(done));
  }
  write(offset: number, length: number, pieces: readonly number[], done: BlockDone): void {
    this.counts.writeOperations++;
    this.counts.writeBytes += length;
    this.#backend.write(offset, length, pieces, this.#heard(done));
  }
  flush(done: BlockDone): void {
    this.counts.flushes++;
    this.#backend.flush(this.#heard(done));
  }
  discard(offset: number, length: number, done: BlockDone): void {
    this.#backend.discard(offset, length, this.#heard(done));
  }
  writeZeroes(offset: number, length: number, unmap: boolean, done: BlockDone): void {
    this.#backend.writeZeroes(offset, length, unmap, this.#heard(done));
  }
  cancel(): void {
    this.#backend.cancel();
  }
  idle(): Promise<void> {
    return this.#backend.idle();
  }
  close(): void {
    this.#backend.close();
  }

  #heard(done: BlockDone): BlockDone {
    return (errno) => {
      if (errno !== 0) this.counts.errors++;
      done(errno);
    };
  }
}

// A raw image: the file's bytes are the disk's.
import type { BlockBackend, BlockDone, BlockGeometry } from "./backend.js";
import { PatientFile, type PatientFileOptions } from "./patient-file.js";

export interface RawOptions extends PatientFileOptions {
  readonly geometry: BlockGeometry;
  /** Lets go of what goes with the file. */
  readonly release?: () => void;
}

export class RawBackend implements BlockBackend {
  readonly geometry: BlockGeometry;
  readonly #file: PatientFile;
  readonly #release: () => void;

  constructor(options: RawOptions) {
    this.geometry = options.geometry;
    this.#file = new PatientFile(options);
    this.#release = options.release ?? (() => {});
  }

  read(offset: number, length: number, pieces: readonly number[], done: BlockDone): void {
    this.#file.submit("read", offset, length, pieces, done);
  }
  write(offset: number, length: number, pieces: readonly number[], done: BlockDone): void {
    this.#file.submit("write", offset, length, pieces, done);
  }
  flush(done: BlockDone): void {
    this.#file.submit("sync", 0, 0, [], done);
  }
  discard(offset: number, length: number, done: BlockDone): void {
    this.#file.submit("discard", offset, length, [], done);
  }
  writeZeroes(offset: number, length: number, unmap: boolean, done: BlockDone): void {
    this.#file.submit(unmap ? "unmap" : "zero", offset, length, [], done);
  }
  cancel(): void {
    this.#file.cancel();
  }
  idle(): Promise<void> {
    return this.#file.idle();
  }
  close(): void {
    this.#file.close();
    this.#release();
  }
}

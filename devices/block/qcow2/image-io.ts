// Tables and clusters of an image on their way: what the format's bookkeeping moves, as promises.
// None of it is a guest's request, and none of it is cancelled with one.
import type { FileOperation, HostBuffer } from "../../../native/types.js";
import type { PatientFile } from "../patient-file.js";
import type { Buffers } from "../pieces.js";

/** The host's errno for what failed. */
export class IoError extends Error {
  readonly errno: number;
  constructor(errno: number) {
    super(`errno ${errno}`);
    this.errno = errno;
  }
}

export class ImageIo {
  readonly #file: PatientFile;
  readonly #buffers: Buffers;
  #syncing: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  constructor(file: PatientFile, buffers: Buffers) {
    this.#file = file;
    this.#buffers = buffers;
  }

  /** Rejects with IoError. */
  run(
    operation: FileOperation,
    offset: number,
    length: number,
    pieces: readonly number[] = [],
  ): Promise<void> {
    return new Promise((resolve, reject) =>
      this.#file.submit(operation, offset, length, pieces, (errno) =>
        errno === 0 ? resolve() : reject(new IoError(errno)),
      ),
    );
  }

  /** Bytes [from, to) of a buffer that stands for the file's at `offset`. */
  writePart(buffer: HostBuffer, offset: number, from: number, to: number): Promise<void> {
    return this.run("write", offset + from, to - from, [buffer.at + from, to - from]);
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    const buffer = this.#buffers.make(bytes.length);
    buffer.bytes.set(bytes);
    try {
      await this.writePart(buffer, offset, 0, bytes.length);
    } finally {
      buffer.free();
    }
  }

  /** What had ended before the call is on the medium. Any number of callers share one sync. */
  barrier(): Promise<void> {
    if (this.#syncing === undefined) return this.#sync();
    this.#next ??= this.#syncing.catch(() => {}).then(() => this.#sync());
    return this.#next;
  }

  #sync(): Promise<void> {
    this.#next = undefined;
    const one = this.run("sync", 0, 0);
    const end = (): void => {
      if (this.#syncing === one) this.#syncing = undefined;
    };
    this.#syncing = one;
    one.then(end, end);
    return one;
  }
}

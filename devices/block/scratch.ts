// A disk that is only read, under a file that takes what the guest writes and is thrown away with
// the VM. Each sector is in one of the two; which, is known for those that were written alone.
import type { HostFile } from "../../native/types.js";
import type { BlockBackend, BlockDone, BlockGeometry } from "./backend.js";
import { PatientFile, type PatientFileOptions } from "./patient-file.js";
import { slicePieces } from "./pieces.js";
import { Parts } from "./request.js";

const SECTOR = 512;
/** Sectors of one page of the map: 16 MiB of disk. */
const PAGE = 32768;

/** One bit for each sector that was ever written, in pages that are made when they are needed. */
class Written {
  readonly #pages = new Map<number, Uint8Array>();

  has(sector: number): boolean {
    const bits = this.#pages.get(Math.floor(sector / PAGE));
    const bit = sector % PAGE;
    return bits !== undefined && ((bits[bit >> 3] ?? 0) & (1 << (bit & 7))) !== 0;
  }

  add(from: number, to: number): void {
    for (let sector = from; sector < to; sector++) {
      const page = Math.floor(sector / PAGE);
      const bits = this.#pages.get(page) ?? new Uint8Array(PAGE / 8);
      this.#pages.set(page, bits);
      const bit = sector % PAGE;
      bits[bit >> 3] = (bits[bit >> 3] ?? 0) | (1 << (bit & 7));
    }
  }

  /** The end of the sectors from `from` on, below `most`, that are as the first is. */
  runEnd(from: number, most: number): number {
    const first = this.has(from);
    let end = from + 1;
    while (end < most && this.has(end) === first) end++;
    return end;
  }
}

export interface ScratchOptions extends PatientFileOptions {
  readonly file: HostFile;
  readonly base: BlockBackend;
}

export class ScratchBackend implements BlockBackend {
  readonly geometry: BlockGeometry;
  readonly #base: BlockBackend;
  readonly #file: PatientFile;
  readonly #written = new Written();

  constructor(options: ScratchOptions) {
    this.geometry = { ...options.base.geometry, readOnly: false };
    this.#base = options.base;
    this.#file = new PatientFile(options);
  }

  read(offset: number, length: number, pieces: readonly number[], done: BlockDone): void {
    const parts = new Parts(done);
    const end = (offset + length) / SECTOR;
    for (let from = offset / SECTOR; from < end; ) {
      const to = this.#written.runEnd(from, end);
      const [at, size] = [from * SECTOR, (to - from) * SECTOR];
      const some = size === length ? pieces : slicePieces(pieces, at - offset, size);
      parts.begin();
      if (this.#written.has(from)) this.#file.submit("read", at, size, some, parts.end);
      else this.#base.read(at, size, some, parts.end);
      from = to;
    }
    parts.end(0);
  }

  write(offset: number, length: number, pieces: readonly number[], done: BlockDone): void {
    this.#file.submit("write", offset, length, pieces, this.#note(offset, length, done));
  }

  /** Nothing of it is to last. */
  flush(done: BlockDone): void {
    this.#file.submit("clear", 0, 0, [], done);
  }

  discard(_offset: number, _length: number, done: BlockDone): void {
    this.flush(done);
  }

  writeZeroes(offset: number, length: number, _unmap: boolean, done: BlockDone): void {
    this.#file.submit("unmap", offset, length, [], this.#note(offset, length, done));
  }

  cancel(): void {
    this.#file.cancel();
    this.#base.cancel();
  }
  async idle(): Promise<void> {
    await Promise.all([this.#file.idle(), this.#base.idle()]);
  }
  close(): void {
    this.#file.close();
    this.#base.close();
  }

  #note(offset: number, length: number, done: BlockDone): BlockDone {
    return (errno) => {
      if (errno === 0) this.#written.add(offset / SECTOR, (offset + length) / SECTOR);
      done(errno);
    };
  }
}

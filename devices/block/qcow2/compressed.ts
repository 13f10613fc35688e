// Clusters that QEMU compressed: read as often as they are asked for, kept for a while once
// inflated, never written.
import { constants } from "node:os";
import * as zlib from "node:zlib";
import { COMPRESSION } from "./header.js";

const { EIO } = constants.errno;
const KEPT_BYTES = 2 ** 22;

type Inflate = (
  bytes: Uint8Array,
  options: { maxOutputLength: number; finishFlush?: number },
  end: (error: Error | null, result: Uint8Array) => void,
) => void;

/** Not in every version of Node. */
const zstd = (zlib as unknown as { zstdDecompress?: Inflate }).zstdDecompress;

export const canInflate = (compression: number): boolean =>
  compression === COMPRESSION.deflate || zstd !== undefined;

export class Inflater {
  readonly #cluster: number;
  readonly #inflate: Inflate;
  /** By the offset of the compressed bytes. */
  readonly #kept = new Map<number, Uint8Array>();

  constructor(cluster: number, compression: number) {
    this.#cluster = cluster;
    this.#inflate = compression === COMPRESSION.zstd && zstd !== undefined ? zstd : inflateRaw;
  }

  kept(offset: number): Uint8Array | undefined {
    return this.#kept.get(offset);
  }

  /** What is behind `offset` may become something else. */
  forget(): void {
    this.#kept.clear();
  }

  /** `bytes`: from the begin of the compressed ones on, and more. A whole cluster, or an errno. */
  inflate(
    offset: number,
    bytes: Uint8Array,
    end: (errno: number, cluster: Uint8Array) => void,
  ): void {
    // What follows the stream, and a stream cut off at the end of the file, are no errors of it.
    const options = { maxOutputLength: this.#cluster, finishFlush: zlib.constants.Z_SYNC_FLUSH };
    this.#inflate(bytes, options, (error, result) => {
      if (error !== null || result.length !== this.#cluster) return end(EIO, new Uint8Array(0));
      this.#keep(offset, result);
      end(0, result);
    });
  }

  #keep(offset: number, cluster: Uint8Array): void {
    for (const first of this.#kept.keys()) {
      if ((this.#kept.size + 1) * this.#cluster <= KEPT_BYTES) break;
      this.#kept.delete(first);
    }
    this.#kept.set(offset, cluster);
  }
}

/** qcow2.txt: raw deflate, with a window of 4 KiB. */
const inflateRaw: Inflate = (bytes, options, end) =>
  zlib.inflateRaw(bytes, { ...options, windowBits: 12 }, end);

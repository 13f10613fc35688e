// A disk in a qcow2 image, versions 2 and 3. Data goes straight between guest pages and clusters;
// a write to a cluster of its own touches no table, and one that makes a table change does so in an
// order of its own (writer.ts). So a killed process loses nothing that it acknowledged, and after a
// loss of power each cluster is as it was or as it became, whichever of the unsynced writes came
// through; a guest's flush is one sync of the file.
import { constants } from "node:os";
import type { Clock, GuestMemory, HostIo } from "../../../native/types.js";
import type { BlockBackend, BlockDone, BlockGeometry } from "../backend.js";
import { PatientFile } from "../patient-file.js";
import { Buffers } from "../pieces.js";
import { Parts } from "../request.js";
import { Clusters } from "./clusters.js";
import { Inflater } from "./compressed.js";
import type { Header } from "./header.js";
import { ImageIo } from "./image-io.js";
import { Mapping } from "./mapping.js";
import { Reader } from "./reader.js";
import type { Contents, ImageBytes } from "./scan.js";
import { ImageSession } from "./session.js";
import { cut } from "./span.js";
import { Tables } from "./tables.js";
import { Wiper } from "./wiper.js";
import { Writer } from "./writer.js";

const { EIO, ECANCELED, EROFS } = constants.errno;

export interface Qcow2Options {
  readonly header: Header;
  readonly l1: Uint8Array;
  /** Of scan(), for an image that is written to. */
  readonly contents: Contents | undefined;
  readonly image: ImageBytes;
  readonly file: ReturnType<HostIo["file"]>;
  readonly io: Pick<HostIo, "buffer">;
  readonly memory: GuestMemory;
  readonly clock: Clock;
  readonly geometry: BlockGeometry;
  /** What the image lies over. */
  readonly below?: BlockBackend | undefined;
  readonly onStall?: (stalled: boolean) => void;
  readonly log: (text: string) => void;
  /** Closes what `image` reads and writes. */
  readonly release?: () => void;
}

export class Qcow2Backend implements BlockBackend {
  readonly geometry: BlockGeometry;
  readonly #map: Mapping;
  readonly #reader: Reader;
  readonly #writer: Writer;
  readonly #wiper: Wiper;
  readonly #meta: PatientFile;
  readonly #session: ImageSession;
  readonly #release: () => void;
  #requests = 0;
  #stalls = 0;
  #idle: (() => void)[] = [];

  constructor(options: Qcow2Options) {
    const { header, clock, file, log, onStall = () => {} } = options;
    this.geometry = options.geometry;
    this.#release = options.release ?? (() => {});
    const stalled = (begins: boolean): void => this.#stalled(begins, onStall);
    const data = new PatientFile({ file, clock, onStall: stalled });
    this.#meta = new PatientFile({ file: file.twin(), clock, onStall: stalled });
    this.#map = mappingOf(options, data, this.#meta);
    this.#reader = new Reader(this.#map);
    this.#writer = new Writer(this.#map, this.#reader);
    this.#wiper = new Wiper(this.#map, this.#writer);
    this.#session = new ImageSession(options.image, header, log);
    if (this.#map.clusters !== undefined) this.#session.begin(this.#map.clusters);
  }

  read(offset: number, length: number, pieces: readonly number[], done: BlockDone): void {
    const parts = this.#request(done);
    const all = { from: offset, to: offset + length, pieces, age: this.#map.age };
    this.#map.eachTable(parts, offset, offset + length, (table, from, to) =>
      this.#reader.readTable(parts, table, cut(all, from, to)),
    );
    parts.end(0);
  }

  write(offset: number, length: number, pieces: readonly number[], done: BlockDone): void {
    const parts = this.#request(done);
    if (this.#map.clusters === undefined) {
      parts.end(EROFS);
      return;
    }
    this.#writer.writeRange(parts, offset, offset + length, pieces);
    parts.end(0);
  }

  flush(done: BlockDone): void {
    const parts = this.#request(done);
    this.#map.watch(this.#map.io.barrier(), parts);
    this.#map.clusters?.reclaim();
  }

  discard(offset: number, length: number, done: BlockDone): void {
    const parts = this.#request(done);
    const { header, below, cluster, age } = this.#map;
    // A cluster of version 2 cannot hide what the image lies over.
    if (header.version === 2 && below !== undefined) {
      parts.end(0);
      return;
    }
    const [from, to] = [Math.ceil(offset / cluster), this.#clusterEnd(offset + length)];
    this.#map.watch(this.#wiper.wipe({ from, to, keep: false, age }), parts);
  }

  writeZeroes(offset: number, length: number, unmap: boolean, done: BlockDone): void {
    const parts = this.#request(done);
    const { header, below, cluster, age } = this.#map;
    const end = offset + length;
    const whole = header.version === 3 || below === undefined;
    const first = Math.ceil((whole ? offset : end) / cluster);
    const last = whole ? this.#clusterEnd(end) : first;
    if (first >= last) {
      this.#map.watch(this.#wiper.writeZeros(offset, end, age), parts);
      return;
    }
    const [from, to] = [first * cluster, Math.min(end, last * cluster)];
    parts.begin();
    parts.begin();
    this.#map.watch(this.#wiper.writeZeros(offset, from, age), parts);
    this.#map.watch(this.#wiper.wipe({ from: first, to: last, keep: !unmap, age }), parts);
    this.#map.watch(this.#wiper.writeZeros(to, end, age), parts);
  }

  cancel(): void {
    this.#map.age++;
    this.#requests = 0;
    this.#map.data.cancel();
    this.#map.below?.cancel();
    this.#map.pending.abort(ECANCELED);
    this.#settle();
  }

  async idle(): Promise<void> {
    while (this.#requests > 0) {
      if (this.#stalls > 0 && (await this.#isQuiet())) return;
      if (this.#stalls === 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
    }
  }

  close(): void {
    const map = this.#map;
    if (map.closed) return;
    this.cancel();
    map.closed = true;
    this.#meta.cancel();
    if (map.clusters !== undefined) {
      for (const offset of map.unnamed) map.clusters.release(offset);
      this.#session.end(map.clusters, map.tables.unwritten());
    }
    map.data.close();
    this.#meta.close();
    map.below?.close();
    map.buffers.free();
    this.#release();
  }

  #request(done: BlockDone): Parts {
    const age = this.#map.age;
    this.#requests++;
    return new Parts((errno) => {
      if (age !== this.#map.age) return;
      this.#requests--;
      done(errno);
      this.#settle();
    });
  }

  #stalled(begins: boolean, onStall: (stalled: boolean) => void): void {
    const before = this.#stalls > 0;
    this.#stalls += begins ? 1 : -1;
    const after = this.#stalls > 0;
    if (before !== after) onStall(after);
    this.#settle();
  }

  /** Only what waits for room on the host is under way, once all else has ended. */
  async #isQuiet(): Promise<boolean> {
    await Promise.all([this.#map.data.idle(), this.#meta.idle(), this.#map.below?.idle()]);
    await new Promise((resolve) => setImmediate(resolve)); // what follows on what has ended
    return this.#map.data.quiet && this.#meta.quiet && this.#reader.inflating === 0;
  }

  #settle(): void {
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  /** The first cluster that the disk's bytes below `end` do not fill; its last one is full. */
  #clusterEnd(end: number): number {
    return end === this.geometry.size
      ? Math.ceil(end / this.#map.cluster)
      : Math.floor(end / this.#map.cluster);
  }
}

function mappingOf(options: Qcow2Options, data: PatientFile, meta: PatientFile): Mapping {
  const { header, l1, contents, below, log } = options;
  const cluster = 2 ** header.clusterBits;
  const buffers = new Buffers(options.io, options.memory, cluster);
  const io = new ImageIo(meta, buffers);
  const clusters = contents && new Clusters({ header, contents, io, log });
  const tables = new Tables({ header, l1, io, buffers, clusters, fault: EIO });
  const inflater = new Inflater(cluster, header.compression);
  return new Mapping({ header, below, data, io, buffers, clusters, tables, inflater });
}

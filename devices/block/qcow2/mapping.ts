// Where the clusters of a disk are: what reading, writing and wiping share. It answers where a cluster
// is, moves bytes there, and gives clusters their names in the L2 tables; who changes an entry locks it.
import { constants } from "node:os";
import type { BlockBackend, BlockDone } from "../backend.js";
import type { PatientFile } from "../patient-file.js";
import type { Buffers } from "../pieces.js";
import { type Parts, Pending } from "../request.js";
import type { Clusters } from "./clusters.js";
import type { Inflater } from "./compressed.js";
import { compressedAt, type EntryKind, hostOf, kindOf, NO_ENTRY } from "./entry.js";
import type { Header } from "./header.js";
import { type ImageIo, IoError } from "./image-io.js";
import type { Table, Tables } from "./tables.js";

const { EIO, ECANCELED, EROFS } = constants.errno;

/** In place of a place: one that must be made, with its neighbours or by itself. */
export const FRESH = -2;
export const ALONE = -1;

/** An entry as it was looked up. */
export interface Entry {
  readonly kind: EntryKind;
  readonly high: number;
  readonly low: number;
}

/** An entry that is to be set; of a new cluster, where it is. */
export interface Name {
  readonly cluster: number;
  readonly entry: { readonly high: number; readonly low: number };
  readonly host?: number;
}

export interface MappingParts {
  readonly header: Header;
  /** What the image lies over. */
  readonly below: BlockBackend | undefined;
  readonly data: PatientFile;
  readonly io: ImageIo;
  readonly buffers: Buffers;
  /** Not of an image that is only read. */
  readonly clusters: Clusters | undefined;
  readonly tables: Tables;
  readonly inflater: Inflater;
}

const errnoOf = (error: unknown): number => (error instanceof IoError ? error.errno : EIO);

export class Mapping implements MappingParts {
  readonly header: Header;
  readonly cluster: number;
  readonly perTable: number;
  readonly below: BlockBackend | undefined;
  readonly data: PatientFile;
  readonly io: ImageIo;
  readonly buffers: Buffers;
  readonly clusters: Clusters | undefined;
  readonly tables: Tables;
  readonly inflater: Inflater;
  /** Clusters of the disk whose entry is being changed, and who waits for that. */
  readonly busy = new Map<number, (() => void)[]>();
  /** Taken, and named by no table yet. */
  readonly unnamed = new Set<number>();
  readonly pending = new Pending();
  /** Grows with every cancel(): older requests end unheard. */
  age = 0;
  closed = false;

  constructor(parts: MappingParts) {
    this.header = parts.header;
    this.cluster = 2 ** parts.header.clusterBits;
    this.perTable = this.cluster / 8;
    this.below = parts.below;
    this.data = parts.data;
    this.io = parts.io;
    this.buffers = parts.buffers;
    this.clusters = parts.clusters;
    this.tables = parts.tables;
    this.inflater = parts.inflater;
  }

  isDead({ age }: { readonly age: number }): boolean {
    return age !== this.age || this.closed;
  }

  /** `one` for the part of [offset, end) that each L2 table maps. */
  eachTable(
    parts: Parts,
    offset: number,
    end: number,
    one: (table: Table | undefined, from: number, to: number) => void,
  ): void {
    const span = this.perTable * this.cluster;
    for (let from = offset; from < end; ) {
      const index = Math.floor(from / span);
      const start = from;
      const to = Math.min(end, (index + 1) * span);
      parts.begin();
      this.tables.load(index, (errno, table) => {
        if (errno === 0) one(table, start, to);
        parts.end(errno);
      });
      from = to;
    }
  }

  table(index: number): Promise<Table | undefined> {
    return new Promise((resolve, reject) =>
      this.tables.load(index, (errno, table) =>
        errno === 0 ? resolve(table) : reject(new IoError(errno)),
      ),
    );
  }

  entry(table: Table | undefined, cluster: number): Entry {
    if (table === undefined) return { kind: "none", ...NO_ENTRY };
    const at = 8 * (cluster % this.perTable);
    const [high, low] = [table.view.getUint32(at), table.view.getUint32(at + 4)];
    return { kind: kindOf(high, low, this.header.version), high, low };
  }

  readsAsZeros({ kind }: Entry, cluster: number): boolean {
    const below = this.below?.geometry.size ?? 0;
    return kind === "zero" || (kind === "none" && cluster * this.cluster >= below);
  }

  /** Where a cluster of the disk can be written to as it is, or how it comes to a place. */
  placeOf(table: Table | undefined, cluster: number): number {
    if (this.busy.has(cluster)) return ALONE;
    const entry = this.entry(table, cluster);
    if (this.readsAsZeros(entry, cluster)) return FRESH;
    const host = entry.kind === "data" ? hostOf(entry.high, entry.low) : ALONE;
    return host >= 0 && this.clusters?.references(host) === 1 ? host : ALONE;
  }

  /** Moves guest data; what is under way keeps its clusters from being used for something else. */
  move(
    operation: "read" | "write",
    host: number,
    length: number,
    pieces: readonly number[],
    done: BlockDone,
  ): void {
    this.clusters?.hold(host, length);
    const end = this.pending.track((errno) => {
      this.clusters?.unhold(host, length);
      done(errno);
    });
    if (this.closed) end(ECANCELED);
    else this.data.submit(operation, host, length, pieces, end);
  }

  moved(
    operation: "read" | "write",
    host: number,
    length: number,
    pieces: readonly number[],
  ): Promise<void> {
    return new Promise((resolve, reject) =>
      this.move(operation, host, length, pieces, (errno) =>
        errno === 0 ? resolve() : reject(new IoError(errno)),
      ),
    );
  }

  /** The part that a promise stands for. */
  watch(work: Promise<void>, parts: Parts): void {
    work.then(
      () => parts.end(0),
      (error) => parts.end(errnoOf(error)),
    );
  }

  writable(): Clusters {
    if (this.clusters === undefined || this.closed) throw new IoError(EROFS);
    return this.clusters;
  }

  /** Nobody else changes this cluster's entry until the answer is called. */
  lock(cluster: number): () => void {
    const waiting: (() => void)[] = [];
    this.busy.set(cluster, waiting);
    return () => {
      this.busy.delete(cluster);
      for (const go of waiting) go();
    };
  }

  /** Step 4, for clusters of one table. */
  async name(tableIndex: number, names: readonly Name[]): Promise<void> {
    const table = await this.tables.own(tableIndex).catch((error) => {
      for (const { host } of names) if (host !== undefined) this.giveBack(host);
      throw error;
    });
    try {
      if (this.closed) return;
      for (const { cluster, entry, host } of names) {
        this.tables.set(table, cluster % this.perTable, entry);
        if (host !== undefined) this.unnamed.delete(host);
      }
      await this.tables.commit(table);
    } finally {
      this.tables.unpin(table);
    }
  }

  /** A cluster that no table came to name. */
  giveBack(host: number): void {
    if (this.unnamed.delete(host) && !this.closed) this.clusters?.release(host);
  }

  /** What an entry named that no table has any more. */
  drop({ kind, high, low }: Entry): void {
    const clusters = this.writable();
    if (kind === "compressed") {
      const { offset, length } = compressedAt(high, low, this.header.clusterBits);
      const first = Math.floor(offset / this.cluster) * this.cluster;
      for (let at = first; at < offset + length; at += this.cluster) clusters.release(at);
      this.inflater.forget();
      return;
    }
    const host = hostOf(high, low);
    if (host !== 0) clusters.release(host);
  }
}

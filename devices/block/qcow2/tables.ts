// The L1 table, and as many L2 tables as are worth keeping in memory. An entry that is set goes to
// the file with the next write of its table; entries set meanwhile go together with the one after.
import type { HostBuffer } from "../../../native/types.js";
import type { Buffers } from "../pieces.js";
import type { Clusters } from "./clusters.js";
import { dataEntry, hostOf } from "./entry.js";
import { type Header, viewOf } from "./header.js";
import { type ImageIo, IoError } from "./image-io.js";

const CACHE_BYTES = 2 ** 25;
const LEAST_TABLES = 8;

export interface Table {
  readonly index: number;
  readonly view: DataView;
  readonly buffer: HostBuffer;
  /** In the file. */
  readonly offset: number;
}

interface Cached extends Table {
  /** Bytes [from, to) that the file does not have; and who waits for them. */
  from: number;
  to: number;
  waiting: { resolve(): void; reject(error: unknown): void }[];
  writing: boolean;
  /** Whoever is about to set entries. */
  pins: number;
  /** Since the cache was last searched for what may go. */
  used: boolean;
}

type Loaded = (errno: number, table: Table | undefined) => void;

export interface TablesOptions {
  readonly header: Header;
  readonly l1: Uint8Array;
  readonly io: ImageIo;
  readonly buffers: Buffers;
  /** Not for an image that is only read. */
  readonly clusters?: Clusters | undefined;
  readonly fault: number;
}

export class Tables {
  readonly #header: Header;
  readonly #cluster: number;
  readonly #io: ImageIo;
  readonly #buffers: Buffers;
  readonly #clusters: Clusters | undefined;
  readonly #fault: number;
  readonly #l1: HostBuffer;
  readonly #l1View: DataView;
  readonly #cache = new Map<number, Cached>();
  readonly #loading = new Map<number, Loaded[]>();
  readonly #owning = new Map<number, Promise<void>>();
  /** Indices of L1 entries that the file does not have, since writing them failed. */
  readonly #l1Unwritten = new Set<number>();
  readonly #most: number;

  constructor({ header, l1, io, buffers, clusters, fault }: TablesOptions) {
    this.#header = header;
    this.#cluster = 2 ** header.clusterBits;
    this.#io = io;
    this.#buffers = buffers;
    this.#clusters = clusters;
    this.#fault = fault;
    this.#l1 = buffers.make(Math.max(8, l1.length));
    this.#l1.bytes.set(l1);
    this.#l1View = viewOf(this.#l1.bytes);
    this.#most = Math.max(LEAST_TABLES, CACHE_BYTES / this.#cluster);
  }

  /** At once where it is in memory; undefined where there is none. `fault`: its place is no place. */
  load(index: number, then: Loaded): void {
    const offset = this.#offset(index);
    if (offset === 0) {
      then(0, undefined);
      return;
    }
    const cached = this.#cache.get(index);
    if (cached !== undefined) {
      cached.used = true;
      then(0, cached);
      return;
    }
    if (offset % this.#cluster !== 0) {
      then(this.#fault, undefined);
      return;
    }
    const waiting = this.#loading.get(index);
    if (waiting !== undefined) return void waiting.push(then);
    this.#loading.set(index, [then]);
    this.#fetch(index, offset);
  }

  /**
   * A table that entries can be set in, pinned until unpin(): made where there is none, a copy
   * where snapshots share it.
   */
  async own(index: number): Promise<Table> {
    for (;;) {
      while (this.#owning.has(index)) await this.#owning.get(index)?.catch(() => {});
      const table = await this.#loaded(index);
      if (table !== this.#cache.get(index)) continue; // gone meanwhile
      if (table !== undefined && this.#isOurs(table) && !this.#l1Unwritten.has(index)) {
        table.pins++;
        return table;
      }
      if (this.#owning.has(index)) continue;
      const making = this.#l1Unwritten.has(index)
        ? this.#writeL1(index)
        : this.#replace(index, table);
      this.#owning.set(index, making);
      try {
        await making;
      } finally {
        this.#owning.delete(index);
      }
    }
  }

  unpin(table: Table): void {
    (table as Cached).pins--;
  }

  /** Of a table that own() gave. */
  set(table: Table, entry: number, { high, low }: { high: number; low: number }): void {
    table.view.setUint32(8 * entry, high);
    table.view.setUint32(8 * entry + 4, low);
    const cached = table as Cached;
    cached.from = Math.min(cached.from, 8 * entry);
    cached.to = Math.max(cached.to, 8 * entry + 8);
  }

  /** Resolves when what was set is in the file (not: on the medium). */
  commit(table: Table): Promise<void> {
    const cached = table as Cached;
    return new Promise((resolve, reject) => {
      cached.waiting.push({ resolve, reject });
      if (cached.writing) return;
      cached.writing = true;
      queueMicrotask(() => this.#write(cached));
    });
  }

  /** What the file does not have yet. */
  unwritten(): { readonly offset: number; readonly bytes: Uint8Array }[] {
    const tables = [...this.#cache.values()].filter(
      ({ from, to, writing }) => to > from || writing,
    );
    const entries = [...this.#l1Unwritten].map((index) => ({
      offset: this.#header.l1Offset + 8 * index,
      bytes: this.#l1.bytes.subarray(8 * index, 8 * index + 8),
    }));
    return [...tables.map(({ offset, buffer }) => ({ offset, bytes: buffer.bytes })), ...entries];
  }

  #offset(index: number): number {
    return hostOf(this.#l1View.getUint32(8 * index), this.#l1View.getUint32(8 * index + 4));
  }

  #isOurs({ offset }: Table): boolean {
    return this.#clusters?.references(offset) === 1;
  }

  #loaded(index: number): Promise<Cached | undefined> {
    return new Promise((resolve, reject) =>
      this.load(index, (errno, table) =>
        errno === 0 ? resolve(table as Cached | undefined) : reject(new IoError(errno)),
      ),
    );
  }

  #fetch(index: number, offset: number): void {
    const buffer = this.#buffers.make(this.#cluster);
    const end = (errno: number, table?: Table): void => {
      const waiting = this.#loading.get(index) ?? [];
      this.#loading.delete(index);
      for (const then of waiting) then(errno, table);
    };
    this.#io.run("read", offset, this.#cluster, [buffer.at, this.#cluster]).then(
      () => end(0, this.#put(index, offset, buffer)),
      (error) => {
        buffer.free();
        end(error instanceof IoError ? error.errno : this.#fault);
      },
    );
  }

  #put(index: number, offset: number, buffer: HostBuffer): Cached {
    const table: Cached = {
      ...{ index, offset, buffer, view: viewOf(buffer.bytes) },
      ...{ from: this.#cluster, to: 0, waiting: [], writing: false, pins: 0, used: true },
    };
    this.#cache.set(index, table);
    this.#shrink(table);
    return table;
  }

  /** The oldest go that nobody needs and nobody has used since the last time. */
  #shrink(newest: Cached): void {
    for (const table of [...this.#cache.values()]) {
      if (this.#cache.size <= this.#most) return;
      const needed = table === newest || table.pins > 0 || table.writing || table.to > table.from;
      if (needed) continue;
      this.#cache.delete(table.index);
      if (table.used) this.#cache.set(table.index, table);
      else table.buffer.free();
      table.used = false;
    }
  }

  /** A new table in the place of none, or of one that is shared. */
  async #replace(index: number, old: Cached | undefined): Promise<void> {
    const clusters = this.#clusters;
    if (clusters === undefined) throw new IoError(this.#fault);
    if (old !== undefined) old.pins++; // for good: it goes with this
    const offset = await clusters.take();
    const buffer = this.#buffers.make(this.#cluster);
    try {
      if (old !== undefined) await this.#copy(old, buffer, offset);
    } catch (error) {
      buffer.free();
      clusters.release(offset);
      if (old !== undefined) old.pins--;
      throw error;
    }
    const { high, low } = dataEntry(offset);
    this.#l1View.setUint32(8 * index, high);
    this.#l1View.setUint32(8 * index + 4, low);
    this.#put(index, offset, buffer);
    await this.#writeL1(index);
    if (old !== undefined) clusters.release(old.offset);
  }

  /** On the medium before the L1 table names it: it has entries that must not be lost. */
  async #copy(old: Cached, buffer: HostBuffer, offset: number): Promise<void> {
    buffer.bytes.set(old.buffer.bytes);
    await this.#io.writePart(buffer, offset, 0, this.#cluster);
    await this.#io.barrier();
    this.#cache.delete(old.index);
    old.buffer.free();
  }

  async #writeL1(index: number): Promise<void> {
    this.#l1Unwritten.add(index);
    await this.#io.writePart(this.#l1, this.#header.l1Offset, 8 * index, 8 * index + 8);
    this.#l1Unwritten.delete(index);
  }

  #write(table: Cached): void {
    const { from, to, waiting, buffer, offset } = table;
    table.waiting = [];
    table.from = this.#cluster;
    table.to = 0;
    const written = to > from ? this.#io.writePart(buffer, offset, from, to) : Promise.resolve();
    written
      .then(
        () => {
          for (const one of waiting) one.resolve();
        },
        (error) => {
          table.from = Math.min(table.from, from);
          table.to = Math.max(table.to, to);
          for (const one of waiting) one.reject(error);
        },
      )
      .finally(() => {
        table.writing = table.waiting.length > 0;
        if (table.writing) this.#write(table);
      });
  }
}

// A disk in a qcow2 image, versions 2 and 3. Data goes straight between guest pages and clusters;
// a write to a cluster of its own touches no table. What makes a table change is done in this order:
//
//   1. a cluster that reads as zeros, with its count on the medium (clusters.ts);
//   2. the data in it, and around the data what was there before;
//   3. where what was there before was more than zeros, a sync;
//   4. the L2 entry in the file, then the guest hears of the end.
//
// So a killed process loses nothing that it acknowledged, and after a loss of power each cluster is
// as it was or as it became, whichever of the unsynced writes came through; a guest's flush is one
// sync of the file.
import { constants } from "node:os";
import type { Clock, GuestMemory, HostBuffer, HostIo } from "../../../native/types.js";
import type { BlockBackend, BlockDone, BlockGeometry } from "../backend.js";
import { PatientFile } from "../patient-file.js";
import { Buffers, slicePieces } from "../pieces.js";
import { Parts, Pending } from "../request.js";
import { Clusters, type Run } from "./clusters.js";
import { Inflater } from "./compressed.js";
import {
  compressedAt,
  dataEntry,
  type EntryKind,
  hostOf,
  kindOf,
  NO_ENTRY,
  ZERO_ENTRY,
} from "./entry.js";
import type { Header } from "./header.js";
import { ImageIo, IoError } from "./image-io.js";
import type { Contents, ImageBytes } from "./scan.js";
import { ImageSession } from "./session.js";
import { type Table, Tables } from "./tables.js";

const { EIO, ECANCELED, EROFS } = constants.errno;

/** In place of a place: one that must be made, with its neighbours or by itself. */
const FRESH = -2;
const ALONE = -1;

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

/** An entry as it was looked up. */
interface Entry {
  readonly kind: EntryKind;
  readonly high: number;
  readonly low: number;
}

export class Qcow2Backend implements BlockBackend {
  readonly geometry: BlockGeometry;
  readonly #header: Header;
  readonly #cluster: number;
  readonly #perTable: number;
  readonly #below: BlockBackend | undefined;
  readonly #data: PatientFile;
  readonly #meta: PatientFile;
  readonly #io: ImageIo;
  readonly #buffers: Buffers;
  readonly #clusters: Clusters | undefined;
  readonly #tables: Tables;
  readonly #inflater: Inflater;
  readonly #session: ImageSession;
  readonly #release: () => void;
  /** Clusters of the disk whose entry is being changed, and who waits for that. */
  readonly #busy = new Map<number, (() => void)[]>();
  /** Taken, and named by no table yet. */
  readonly #unnamed = new Set<number>();
  readonly #pending = new Pending();
  #requests = 0;
  /** Grows with every cancel(): older requests end unheard. */
  #age = 0;
  #closed = false;
  #stalls = 0;
  #inflating = 0;
  #idle: (() => void)[] = [];

  constructor(options: Qcow2Options) {
    const { header, contents, io, memory, clock, file, log, onStall = () => {} } = options;
    this.geometry = options.geometry;
    this.#header = header;
    this.#cluster = 2 ** header.clusterBits;
    this.#perTable = this.#cluster / 8;
    this.#below = options.below;
    this.#release = options.release ?? (() => {});
    const stalled = (begins: boolean): void => this.#stalled(begins, onStall);
    this.#data = new PatientFile({ file, clock, onStall: stalled });
    this.#meta = new PatientFile({ file: file.twin(), clock, onStall: stalled });
    this.#buffers = new Buffers(io, memory, this.#cluster);
    this.#io = new ImageIo(this.#meta, this.#buffers);
    if (contents !== undefined)
      this.#clusters = new Clusters({ header, contents, io: this.#io, log });
    this.#tables = new Tables({
      ...{ header, l1: options.l1, io: this.#io, buffers: this.#buffers },
      ...{ clusters: this.#clusters, fault: EIO },
    });
    this.#inflater = new Inflater(this.#cluster, header.compression);
    this.#session = new ImageSession(options.image, header, log);
    if (this.#clusters !== undefined) this.#session.begin(this.#clusters);
  }

  read(offset: number, length: number, pieces: readonly number[], done: BlockDone): void {
    const parts = this.#request(done);
    const all = { from: offset, to: offset + length, pieces, age: this.#age };
    this.#eachTable(parts, offset, offset + length, (table, from, to) =>
      this.#readTable(parts, table, cut(all, from, to)),
    );
    parts.end(0);
  }

  write(offset: number, length: number, pieces: readonly number[], done: BlockDone): void {
    const parts = this.#request(done);
    if (this.#clusters === undefined) {
      parts.end(EROFS);
      return;
    }
    this.#writeRange(parts, offset, offset + length, pieces);
    parts.end(0);
  }

  flush(done: BlockDone): void {
    const parts = this.#request(done);
    this.#watch(this.#io.barrier(), parts);
    this.#clusters?.reclaim();
  }

  discard(offset: number, length: number, done: BlockDone): void {
    const parts = this.#request(done);
    // A cluster of version 2 cannot hide what the image lies over.
    if (this.#header.version === 2 && this.#below !== undefined) {
      parts.end(0);
      return;
    }
    const from = Math.ceil(offset / this.#cluster);
    this.#watch(
      this.#wipe({ from, to: this.#clusterEnd(offset + length), keep: false, age: this.#age }),
      parts,
    );
  }

  writeZeroes(offset: number, length: number, unmap: boolean, done: BlockDone): void {
    const parts = this.#request(done);
    const end = offset + length;
    const whole = this.#header.version === 3 || this.#below === undefined;
    const first = whole ? Math.ceil(offset / this.#cluster) : Math.ceil(end / this.#cluster);
    const last = whole ? this.#clusterEnd(end) : first;
    if (first >= last) {
      this.#watch(this.#writeZeros(offset, end, this.#age), parts);
      return;
    }
    const [from, to] = [first * this.#cluster, Math.min(end, last * this.#cluster)];
    parts.begin();
    parts.begin();
    this.#watch(this.#writeZeros(offset, from, this.#age), parts);
    this.#watch(this.#wipe({ from: first, to: last, keep: !unmap, age: this.#age }), parts);
    this.#watch(this.#writeZeros(to, end, this.#age), parts);
  }

  cancel(): void {
    this.#age++;
    this.#requests = 0;
    this.#data.cancel();
    this.#below?.cancel();
    this.#pending.abort(ECANCELED);
    this.#settle();
  }

  async idle(): Promise<void> {
    while (this.#requests > 0) {
      if (this.#stalls > 0 && (await this.#isQuiet())) return;
      if (this.#stalls === 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
    }
  }

  close(): void {
    if (this.#closed) return;
    this.cancel();
    this.#closed = true;
    this.#meta.cancel();
    if (this.#clusters !== undefined) {
      for (const offset of this.#unnamed) this.#clusters.release(offset);
      this.#session.end(this.#clusters, this.#tables.unwritten());
    }
    this.#data.close();
    this.#meta.close();
    this.#below?.close();
    this.#buffers.free();
    this.#release();
  }

  // --- requests ---------------------------------------------------------------------------------

  #request(done: BlockDone): Parts {
    const age = this.#age;
    this.#requests++;
    return new Parts((errno) => {
      if (age !== this.#age) return;
      this.#requests--;
      done(errno);
      this.#settle();
    });
  }

  /** The part that a promise stands for. */
  #watch(work: Promise<void>, parts: Parts): void {
    work.then(
      () => parts.end(0),
      (error) => parts.end(errnoOf(error)),
    );
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
    await Promise.all([this.#data.idle(), this.#meta.idle(), this.#below?.idle()]);
    await new Promise((resolve) => setImmediate(resolve)); // what follows on what has ended
    return this.#data.quiet && this.#meta.quiet && this.#inflating === 0;
  }

  #settle(): void {
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  #isDead({ age }: { readonly age: number }): boolean {
    return age !== this.#age || this.#closed;
  }

  /** The first cluster that the disk's bytes below `end` do not fill; its last one is full. */
  #clusterEnd(end: number): number {
    return end === this.geometry.size
      ? Math.ceil(end / this.#cluster)
      : Math.floor(end / this.#cluster);
  }

  /** `one` for the part of [offset, end) that each L2 table maps. */
  #eachTable(
    parts: Parts,
    offset: number,
    end: number,
    one: (table: Table | undefined, from: number, to: number) => void,
  ): void {
    const span = this.#perTable * this.#cluster;
    for (let from = offset; from < end; ) {
      const index = Math.floor(from / span);
      const start = from;
      const to = Math.min(end, (index + 1) * span);
      parts.begin();
      this.#tables.load(index, (errno, table) => {
        if (errno === 0) one(table, start, to);
        parts.end(errno);
      });
      from = to;
    }
  }

  #entry(table: Table | undefined, cluster: number): Entry {
    if (table === undefined) return { kind: "none", ...NO_ENTRY };
    const at = 8 * (cluster % this.#perTable);
    const [high, low] = [table.view.getUint32(at), table.view.getUint32(at + 4)];
    return { kind: kindOf(high, low, this.#header.version), high, low };
  }

  /** Moves guest data; what is under way keeps its clusters from being used for something else. */
  #move(
    operation: "read" | "write",
    host: number,
    length: number,
    pieces: readonly number[],
    done: BlockDone,
  ): void {
    this.#clusters?.hold(host, length);
    const end = this.#pending.track((errno) => {
      this.#clusters?.unhold(host, length);
      done(errno);
    });
    if (this.#closed) end(ECANCELED);
    else this.#data.submit(operation, host, length, pieces, end);
  }

  // --- reading ----------------------------------------------------------------------------------

  #readTable(parts: Parts, table: Table | undefined, span: Span): void {
    if (this.#isDead(span)) return;
    const { from, to } = span;
    let start = from;
    let run = this.#entry(table, Math.floor(from / this.#cluster));
    const flush = (end: number): void => this.#readRun(parts, run, cut(span, start, end));
    let at = (Math.floor(from / this.#cluster) + 1) * this.#cluster;
    for (; at < to; at += this.#cluster) {
      const next = this.#entry(table, at / this.#cluster);
      if (this.#continues(run, start, next, at)) continue;
      flush(at);
      start = at;
      run = next;
    }
    flush(to);
  }

  #continues(run: Entry, start: number, next: Entry, at: number): boolean {
    if (run.kind !== next.kind || run.kind === "compressed") return false;
    if (run.kind !== "data") return true;
    const first = Math.floor(start / this.#cluster) * this.#cluster;
    return hostOf(next.high, next.low) - hostOf(run.high, run.low) === at - first;
  }

  /** Clusters that follow each other, in the file too. */
  #readRun(parts: Parts, entry: Entry, { from, to, pieces }: Span): void {
    parts.begin();
    const inCluster = from % this.#cluster;
    switch (entry.kind) {
      case "data": {
        const host = hostOf(entry.high, entry.low);
        if (host % this.#cluster !== 0) {
          parts.end(EIO);
          return;
        }
        this.#move("read", host + inCluster, to - from, pieces, parts.end);
        return;
      }
      case "zero":
        this.#clear(to - from, pieces, parts.end);
        return;
      case "none":
        this.#readBelow(from, to, pieces, parts.end);
        return;
      case "compressed":
        this.#readCompressed(entry, (errno, cluster) => {
          if (errno === 0)
            this.#buffers.put(pieces, cluster.subarray(inCluster, inCluster + to - from));
          parts.end(errno);
        });
    }
  }

  #clear(length: number, pieces: readonly number[], done: BlockDone): void {
    this.#data.submit("clear", 0, length, pieces, this.#pending.track(done));
  }

  /** What the image lies over, and zeros past its end. */
  #readBelow(from: number, to: number, pieces: readonly number[], done: BlockDone): void {
    const end = Math.max(from, Math.min(to, this.#below?.geometry.size ?? 0));
    const parts = new Parts(done);
    if (end < to) {
      parts.begin();
      this.#clear(to - end, slicePieces(pieces, end - from, to - end), parts.end);
    }
    if (this.#below === undefined || end === from) {
      parts.end(0);
      return;
    }
    const first = slicePieces(pieces, 0, end - from);
    this.#below.read(from, end - from, first, this.#pending.track(parts.end));
  }

  #readCompressed(entry: Entry, then: Inflated): void {
    const { offset, length } = compressedAt(entry.high, entry.low, this.#header.clusterBits);
    if (!(offset < 2 ** 52)) {
      then(EIO, new Uint8Array(0));
      return;
    }
    const kept = this.#inflater.kept(offset);
    if (kept !== undefined) {
      then(0, kept);
      return;
    }
    const buffer = this.#buffers.make(length);
    this.#move("read", offset, length, [buffer.at, length], (errno) => {
      const bytes = buffer.bytes.slice();
      buffer.free();
      if (errno === 0) this.#inflate(offset, bytes, then);
      else then(errno, bytes);
    });
  }

  #inflate(offset: number, bytes: Uint8Array, then: Inflated): void {
    let inflated = bytes;
    const end = this.#pending.track((errno) => then(errno, inflated));
    this.#inflating++;
    this.#inflater.inflate(offset, bytes, (errno, cluster) => {
      this.#inflating--;
      inflated = cluster;
      end(errno);
    });
  }

  // --- writing ----------------------------------------------------------------------------------

  #writeRange(parts: Parts, offset: number, end: number, pieces: readonly number[]): void {
    const all = { from: offset, to: end, pieces, age: this.#age };
    this.#eachTable(parts, offset, end, (table, from, to) =>
      this.#writeTable(parts, table, cut(all, from, to)),
    );
  }

  #writeTable(parts: Parts, table: Table | undefined, span: Span): void {
    if (this.#isDead(span)) return;
    let start = span.from;
    let host = ALONE; // of `start`, with those of the same kind that follow it
    const flush = (end: number): void => {
      if (host === ALONE || end === start) return;
      const run = cut(span, start, end);
      parts.begin();
      if (host === FRESH) this.#watch(this.#allocateFresh(table, run), parts);
      else this.#move("write", host, end - start, run.pieces, parts.end);
    };
    for (let at = span.from; at < span.to; ) {
      const cluster = Math.floor(at / this.#cluster);
      const to = Math.min(span.to, (cluster + 1) * this.#cluster);
      const place = this.#placeOf(table, cluster);
      const here = place < 0 ? place : place + (at % this.#cluster);
      const joins = here === FRESH ? host === FRESH : host >= 0 && here - host === at - start;
      if (!joins) {
        flush(at);
        start = at;
        host = here;
      }
      if (here === ALONE) this.#writeCluster(parts, cluster, cut(span, at, to));
      at = to;
    }
    flush(span.to);
  }

  /** Where a cluster of the disk can be written to as it is, or how it comes to a place. */
  #placeOf(table: Table | undefined, cluster: number): number {
    if (this.#busy.has(cluster)) return ALONE;
    const entry = this.#entry(table, cluster);
    if (this.#readsAsZeros(entry, cluster)) return FRESH;
    const host = entry.kind === "data" ? hostOf(entry.high, entry.low) : ALONE;
    return host >= 0 && this.#clusters?.references(host) === 1 ? host : ALONE;
  }

  /** Clusters that read as zeros and that nobody changes: all that one table maps, in one go. */
  async #allocateFresh(table: Table | undefined, span: Span): Promise<void> {
    const first = Math.floor(span.from / this.#cluster);
    const count = Math.ceil(span.to / this.#cluster) - first;
    const all = Array.from({ length: count }, (_, i) => first + i);
    const old = all.map((cluster) => this.#entry(table, cluster));
    const unlock = all.map((cluster) => this.#lock(cluster));
    try {
      const hosts = await this.#placeFresh(first, count, span);
      const names = hosts.map((host, i) => ({ cluster: first + i, entry: dataEntry(host), host }));
      await this.#name(Math.floor(first / this.#perTable), names);
      for (const entry of old) this.#drop(entry);
    } finally {
      for (const go of unlock) go();
    }
  }

  /** Steps 1 and 2 for clusters that were zeros: where each now is. */
  async #placeFresh(first: number, count: number, span: Span): Promise<number[]> {
    const hosts: number[] = [];
    const runs: Run[] = [];
    try {
      while (hosts.length < count) {
        const run = await this.#writable().takeRun(count - hosts.length);
        runs.push(run);
        for (let i = 0; i < run.count; i++) {
          const host = run.offset + i * this.#cluster;
          hosts.push(host);
          this.#unnamed.add(host);
        }
      }
      if (this.#isDead(span)) throw new IoError(ECANCELED);
      let at = first * this.#cluster;
      const moves = runs.map((run) => {
        const start = at;
        at += run.count * this.#cluster;
        const part = cut(span, Math.max(start, span.from), Math.min(at, span.to));
        const host = run.offset + part.from - start;
        return this.#moved("write", host, part.to - part.from, part.pieces);
      });
      await Promise.all(moves);
      return hosts;
    } catch (error) {
      for (const host of hosts) this.#giveBack(host);
      throw error;
    }
  }

  /** At most one cluster, which needs a new place or is being given one. */
  #writeCluster(parts: Parts, cluster: number, span: Span): void {
    parts.begin();
    const waiting = this.#busy.get(cluster);
    if (waiting === undefined) {
      this.#watch(this.#allocate(cluster, span), parts);
      return;
    }
    waiting.push(() => {
      if (!this.#isDead(span)) this.#writeRange(parts, span.from, span.to, span.pieces);
      parts.end(0);
    });
  }

  async #allocate(cluster: number, span: Span): Promise<void> {
    const unlock = this.#lock(cluster);
    try {
      const tableIndex = Math.floor(cluster / this.#perTable);
      const old = this.#entry(await this.#table(tableIndex), cluster);
      const host = await this.#place(cluster, old, span);
      await this.#name(tableIndex, [{ cluster, entry: dataEntry(host), host }]);
      this.#drop(old);
    } finally {
      unlock();
    }
  }

  /** Steps 1 to 3: where the data now is. */
  async #place(cluster: number, old: Entry, span: Span): Promise<number> {
    const clusters = this.#writable();
    const host = await clusters.take();
    this.#unnamed.add(host);
    try {
      if (this.#isDead(span)) throw new IoError(ECANCELED);
      const blank = this.#readsAsZeros(old, cluster);
      const start = cluster * this.#cluster;
      if (blank || span.to - span.from === this.#cluster)
        await this.#moved("write", host + span.from - start, span.to - span.from, span.pieces);
      else await this.#copyAround(cluster, old, host, span);
      if (!blank) await this.#io.barrier();
      return host;
    } catch (error) {
      this.#giveBack(host);
      throw error;
    }
  }

  /** A cluster that no table came to name. */
  #giveBack(host: number): void {
    if (this.#unnamed.delete(host) && !this.#closed) this.#clusters?.release(host);
  }

  /** The data amid what was there before. */
  async #copyAround(cluster: number, old: Entry, host: number, span: Span): Promise<void> {
    const { from, to, pieces } = span;
    const start = cluster * this.#cluster;
    const end = start + this.#cluster;
    const buffer = this.#buffers.take();
    try {
      await this.#fill(buffer, cluster, old);
      if (this.#isDead(span)) throw new IoError(ECANCELED);
      const before = from > start ? [buffer.at, from - start] : [];
      const after = to < end ? [buffer.at + to - start, end - to] : [];
      await this.#moved("write", host, this.#cluster, [...before, ...pieces, ...after]);
    } finally {
      this.#buffers.give(buffer);
    }
  }

  #fill(buffer: HostBuffer, cluster: number, entry: Entry): Promise<void> {
    const from = cluster * this.#cluster;
    const pieces = [buffer.at, this.#cluster];
    return new Promise((resolve, reject) => {
      const parts = new Parts((errno) => (errno === 0 ? resolve() : reject(new IoError(errno))));
      this.#readRun(parts, entry, { from, to: from + this.#cluster, pieces, age: this.#age });
      parts.end(0);
    });
  }

  #moved(
    operation: "read" | "write",
    host: number,
    length: number,
    pieces: readonly number[],
  ): Promise<void> {
    return new Promise((resolve, reject) =>
      this.#move(operation, host, length, pieces, (errno) =>
        errno === 0 ? resolve() : reject(new IoError(errno)),
      ),
    );
  }

  #readsAsZeros({ kind }: Entry, cluster: number): boolean {
    const below = this.#below?.geometry.size ?? 0;
    return kind === "zero" || (kind === "none" && cluster * this.#cluster >= below);
  }

  // --- tables -----------------------------------------------------------------------------------

  #writable(): Clusters {
    if (this.#clusters === undefined || this.#closed) throw new IoError(EROFS);
    return this.#clusters;
  }

  #table(index: number): Promise<Table | undefined> {
    return new Promise((resolve, reject) =>
      this.#tables.load(index, (errno, table) =>
        errno === 0 ? resolve(table) : reject(new IoError(errno)),
      ),
    );
  }

  /** Nobody else changes this cluster's entry until the answer is called. */
  #lock(cluster: number): () => void {
    const waiting: (() => void)[] = [];
    this.#busy.set(cluster, waiting);
    return () => {
      this.#busy.delete(cluster);
      for (const go of waiting) go();
    };
  }

  /** Step 4, for clusters of one table. */
  async #name(tableIndex: number, names: readonly Name[]): Promise<void> {
    const table = await this.#tables.own(tableIndex).catch((error) => {
      for (const { host } of names) if (host !== undefined) this.#giveBack(host);
      throw error;
    });
    try {
      if (this.#closed) return;
      for (const { cluster, entry, host } of names) {
        this.#tables.set(table, cluster % this.#perTable, entry);
        if (host !== undefined) this.#unnamed.delete(host);
      }
      await this.#tables.commit(table);
    } finally {
      this.#tables.unpin(table);
    }
  }

  /** What an entry named that no table has any more. */
  #drop({ kind, high, low }: Entry): void {
    const clusters = this.#writable();
    if (kind === "compressed") {
      const { offset, length } = compressedAt(high, low, this.#header.clusterBits);
      const first = Math.floor(offset / this.#cluster) * this.#cluster;
      for (let at = first; at < offset + length; at += this.#cluster) clusters.release(at);
      this.#inflater.forget();
      return;
    }
    const host = hostOf(high, low);
    if (host !== 0) clusters.release(host);
  }

  // --- zeros ------------------------------------------------------------------------------------

  /** They read as zeros from now on. */
  async #wipe(span: WipedSpan): Promise<void> {
    this.#writable();
    for (let from = span.from; from < span.to; ) {
      const index = Math.floor(from / this.#perTable);
      const to = Math.min(span.to, (index + 1) * this.#perTable);
      await this.#wipeTable(index, { ...span, from, to });
      from = to;
    }
  }

  async #wipeTable(index: number, span: WipedSpan): Promise<void> {
    const { from, to } = span;
    let table = await this.#table(index);
    for (let at = from; at < to; at++) {
      while (this.#busy.has(at)) {
        await new Promise<void>((go) => this.#busy.get(at)?.push(go));
        table = await this.#table(index);
        at = from;
      }
    }
    if (this.#isDead(span)) throw new IoError(ECANCELED);
    const changed = this.#wipeable(table, span);
    const unlock = [...changed.clusters, ...changed.kept].map(([cluster]) => this.#lock(cluster));
    try {
      await Promise.all(changed.kept.map(([, host]) => this.#zero(host)));
      if (changed.clusters.length === 0) return;
      const blank = this.#header.version === 3 ? ZERO_ENTRY : NO_ENTRY;
      const under = (cluster: number) =>
        this.#readsAsZeros({ kind: "none", ...NO_ENTRY }, cluster) ? NO_ENTRY : blank;
      await this.#name(
        index,
        changed.clusters.map(([cluster]) => ({ cluster, entry: under(cluster) })),
      );
      for (const [, old] of changed.clusters) this.#drop(old);
    } finally {
      for (const go of unlock) go();
    }
  }

  async #zero(host: number): Promise<void> {
    this.#clusters?.hold(host, this.#cluster);
    try {
      await this.#io.run("zero", host, this.#cluster);
    } finally {
      this.#clusters?.unhold(host, this.#cluster);
    }
  }

  /** Which entries must change, and the clusters whose bytes do instead. */
  #wipeable(
    table: Table | undefined,
    { from, to, keep }: WipedSpan,
  ): { readonly clusters: readonly [number, Entry][]; readonly kept: readonly [number, number][] } {
    const clusters: [number, Entry][] = [];
    const kept: [cluster: number, host: number][] = [];
    for (let at = from; at < to; at++) {
      const entry = this.#entry(table, at);
      const place = keep ? this.#placeOf(table, at) : -1;
      if (place >= 0) kept.push([at, place]);
      else if (!this.#readsAsZeros(entry, at)) clusters.push([at, entry]);
      else if (!keep && entry.kind === "zero" && hostOf(entry.high, entry.low) !== 0)
        clusters.push([at, entry]);
    }
    return { clusters, kept };
  }

  /** Zeros written out, a cluster at a time, but where there are zeros already. */
  async #writeZeros(from: number, to: number, age: number): Promise<void> {
    if (from >= to) return;
    const zeros = this.#buffers.make(this.#cluster);
    try {
      for (let at = from; at < to; ) {
        const cluster = Math.floor(at / this.#cluster);
        const end = Math.min(to, (cluster + 1) * this.#cluster);
        const table = await this.#table(Math.floor(cluster / this.#perTable));
        const blank = this.#readsAsZeros(this.#entry(table, cluster), cluster);
        if (this.#isDead({ age })) throw new IoError(ECANCELED);
        if (!blank || this.#busy.has(cluster)) await this.#written(at, end, zeros);
        at = end;
      }
    } finally {
      zeros.free();
    }
  }

  #written(from: number, to: number, buffer: HostBuffer): Promise<void> {
    return new Promise((resolve, reject) => {
      const parts = new Parts((errno) => (errno === 0 ? resolve() : reject(new IoError(errno))));
      this.#writeRange(parts, from, to, [buffer.at, to - from]);
      parts.end(0);
    });
  }
}

type Inflated = (errno: number, cluster: Uint8Array) => void;

/** Bytes [from, to) of the disk, in memory; of a request of this age. */
interface Span {
  readonly from: number;
  readonly to: number;
  readonly pieces: readonly number[];
  readonly age: number;
}

/** Clusters of the disk; with `keep`, those that have room keep it. */
interface WipedSpan {
  readonly from: number;
  readonly to: number;
  readonly keep: boolean;
  readonly age: number;
}

/** An entry that is to be set; of a new cluster, where it is. */
interface Name {
  readonly cluster: number;
  readonly entry: { readonly high: number; readonly low: number };
  readonly host?: number;
}

const cut = (span: Span, from: number, to: number): Span =>
  from === span.from && to === span.to
    ? span
    : { from, to, pieces: slicePieces(span.pieces, from - span.from, to - from), age: span.age };

const errnoOf = (error: unknown): number => (error instanceof IoError ? error.errno : EIO);

// Writing. What makes a table change is done in this order:
//
//   1. a cluster that reads as zeros, with its count on the medium (clusters.ts);
//   2. the data in it, and around the data what was there before;
//   3. where what was there before was more than zeros, a sync;
//   4. the L2 entry in the file, then the guest hears of the end.
import { constants } from "node:os";
import type { Parts } from "../request.js";
import type { Run } from "./clusters.js";
import { dataEntry } from "./entry.js";
import { IoError } from "./image-io.js";
import { ALONE, type Entry, FRESH, type Mapping } from "./mapping.js";
import type { Reader } from "./reader.js";
import { cut, type Span } from "./span.js";
import type { Table } from "./tables.js";

const { ECANCELED } = constants.errno;

export class Writer {
  readonly #map: Mapping;
  readonly #reader: Reader;

  constructor(map: Mapping, reader: Reader) {
    this.#map = map;
    this.#reader = reader;
  }

  writeRange(parts: Parts, offset: number, end: number, pieces: readonly number[]): void {
    const all = { from: offset, to: end, pieces, age: this.#map.age };
    this.#map.eachTable(parts, offset, end, (table, from, to) =>
      this.#writeTable(parts, table, cut(all, from, to)),
    );
  }

  #writeTable(parts: Parts, table: Table | undefined, span: Span): void {
    if (this.#map.isDead(span)) return;
    let start = span.from;
    let host = ALONE; // of `start`, with those of the same kind that follow it
    const flush = (end: number): void => {
      if (host === ALONE || end === start) return;
      const run = cut(span, start, end);
      parts.begin();
      if (host === FRESH) this.#map.watch(this.#allocateFresh(table, run), parts);
      else this.#map.move("write", host, end - start, run.pieces, parts.end);
    };
    for (let at = span.from; at < span.to; ) {
      const cluster = Math.floor(at / this.#map.cluster);
      const to = Math.min(span.to, (cluster + 1) * this.#map.cluster);
      const place = this.#map.placeOf(table, cluster);
      const here = place < 0 ? place : place + (at % this.#map.cluster);
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

  /** At most one cluster, which needs a new place or is being given one. */
  #writeCluster(parts: Parts, cluster: number, span: Span): void {
    parts.begin();
    const waiting = this.#map.busy.get(cluster);
    if (waiting === undefined) {
      this.#map.watch(this.#allocate(cluster, span), parts);
      return;
    }
    waiting.push(() => {
      if (!this.#map.isDead(span)) this.writeRange(parts, span.from, span.to, span.pieces);
      parts.end(0);
    });
  }

  /** Clusters that read as zeros and that nobody changes: all that one table maps, in one go. */
  async #allocateFresh(table: Table | undefined, span: Span): Promise<void> {
    const first = Math.floor(span.from / this.#map.cluster);
    const count = Math.ceil(span.to / this.#map.cluster) - first;
    const all = Array.from({ length: count }, (_, i) => first + i);
    const old = all.map((cluster) => this.#map.entry(table, cluster));
    const unlock = all.map((cluster) => this.#map.lock(cluster));
    try {
      const hosts = await this.#placeFresh(first, count, span);
      const names = hosts.map((host, i) => ({ cluster: first + i, entry: dataEntry(host), host }));
      await this.#map.name(Math.floor(first / this.#map.perTable), names);
      for (const entry of old) this.#map.drop(entry);
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
        const run = await this.#map.writable().takeRun(count - hosts.length);
        runs.push(run);
        for (let i = 0; i < run.count; i++) {
          const host = run.offset + i * this.#map.cluster;
          hosts.push(host);
          this.#map.unnamed.add(host);
        }
      }
      if (this.#map.isDead(span)) throw new IoError(ECANCELED);
      let at = first * this.#map.cluster;
      const moves = runs.map((run) => {
        const start = at;
        at += run.count * this.#map.cluster;
        const part = cut(span, Math.max(start, span.from), Math.min(at, span.to));
        const host = run.offset + part.from - start;
        return this.#map.moved("write", host, part.to - part.from, part.pieces);
      });
      await Promise.all(moves);
      return hosts;
    } catch (error) {
      for (const host of hosts) this.#map.giveBack(host);
      throw error;
    }
  }

  async #allocate(cluster: number, span: Span): Promise<void> {
    const unlock = this.#map.lock(cluster);
    try {
      const tableIndex = Math.floor(cluster / this.#map.perTable);
      const old = this.#map.entry(await this.#map.table(tableIndex), cluster);
      const host = await this.#place(cluster, old, span);
      await this.#map.name(tableIndex, [{ cluster, entry: dataEntry(host), host }]);
      this.#map.drop(old);
    } finally {
      unlock();
    }
  }

  /** Steps 1 to 3: where the data now is. */
  async #place(cluster: number, old: Entry, span: Span): Promise<number> {
    const clusters = this.#map.writable();
    const host = await clusters.take();
    this.#map.unnamed.add(host);
    try {
      if (this.#map.isDead(span)) throw new IoError(ECANCELED);
      const blank = this.#map.readsAsZeros(old, cluster);
      const start = cluster * this.#map.cluster;
      if (blank || span.to - span.from === this.#map.cluster)
        await this.#map.moved("write", host + span.from - start, span.to - span.from, span.pieces);
      else await this.#copyAround(cluster, old, host, span);
      if (!blank) await this.#map.io.barrier();
      return host;
    } catch (error) {
      this.#map.giveBack(host);
      throw error;
    }
  }

  /** The data amid what was there before. */
  async #copyAround(cluster: number, old: Entry, host: number, span: Span): Promise<void> {
    const { from, to, pieces } = span;
    const start = cluster * this.#map.cluster;
    const end = start + this.#map.cluster;
    const buffer = this.#map.buffers.take();
    try {
      await this.#reader.fill(buffer, cluster, old);
      if (this.#map.isDead(span)) throw new IoError(ECANCELED);
      const before = from > start ? [buffer.at, from - start] : [];
      const after = to < end ? [buffer.at + to - start, end - to] : [];
      await this.#map.moved("write", host, this.#map.cluster, [...before, ...pieces, ...after]);
    } finally {
      this.#map.buffers.give(buffer);
    }
  }
}

// Clusters that are to read as zeros: by their entries where whole ones go, by zeros written else.
import { constants } from "node:os";
import type { HostBuffer } from "../../../native/types.js";
import { Parts } from "../request.js";
import { hostOf, NO_ENTRY, ZERO_ENTRY } from "./entry.js";
import { IoError } from "./image-io.js";
import type { Entry, Mapping } from "./mapping.js";
import type { Table } from "./tables.js";
import type { Writer } from "./writer.js";

const { ECANCELED } = constants.errno;

/** Clusters of the disk; with `keep`, those that have room keep it. */
interface WipedSpan {
  readonly from: number;
  readonly to: number;
  readonly keep: boolean;
  readonly age: number;
}

export class Wiper {
  readonly #map: Mapping;
  readonly #writer: Writer;

  constructor(map: Mapping, writer: Writer) {
    this.#map = map;
    this.#writer = writer;
  }

  /** They read as zeros from now on. */
  async wipe(span: WipedSpan): Promise<void> {
    this.#map.writable();
    for (let from = span.from; from < span.to; ) {
      const index = Math.floor(from / this.#map.perTable);
      const to = Math.min(span.to, (index + 1) * this.#map.perTable);
      await this.#wipeTable(index, { ...span, from, to });
      from = to;
    }
  }

  async #wipeTable(index: number, span: WipedSpan): Promise<void> {
    const { from, to } = span;
    let table = await this.#map.table(index);
    for (let at = from; at < to; at++) {
      while (this.#map.busy.has(at)) {
        await new Promise<void>((go) => this.#map.busy.get(at)?.push(go));
        table = await this.#map.table(index);
        at = from;
      }
    }
    if (this.#map.isDead(span)) throw new IoError(ECANCELED);
    const changed = this.#wipeable(table, span);
    const unlock = [...changed.clusters, ...changed.kept].map(([cluster]) =>
      this.#map.lock(cluster),
    );
    try {
      await Promise.all(changed.kept.map(([, host]) => this.#zero(host)));
      if (changed.clusters.length === 0) return;
      const blank = this.#map.header.version === 3 ? ZERO_ENTRY : NO_ENTRY;
      const under = (cluster: number) =>
        this.#map.readsAsZeros({ kind: "none", ...NO_ENTRY }, cluster) ? NO_ENTRY : blank;
      await this.#map.name(
        index,
        changed.clusters.map(([cluster]) => ({ cluster, entry: under(cluster) })),
      );
      for (const [, old] of changed.clusters) this.#map.drop(old);
    } finally {
      for (const go of unlock) go();
    }
  }

  async #zero(host: number): Promise<void> {
    this.#map.clusters?.hold(host, this.#map.cluster);
    try {
      await this.#map.io.run("zero", host, this.#map.cluster);
    } finally {
      this.#map.clusters?.unhold(host, this.#map.cluster);
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
      const entry = this.#map.entry(table, at);
      const place = keep ? this.#map.placeOf(table, at) : -1;
      if (place >= 0) kept.push([at, place]);
      else if (!this.#map.readsAsZeros(entry, at)) clusters.push([at, entry]);
      else if (!keep && entry.kind === "zero" && hostOf(entry.high, entry.low) !== 0)
        clusters.push([at, entry]);
    }
    return { clusters, kept };
  }

  /** Zeros written out, a cluster at a time, but where there are zeros already. */
  async writeZeros(from: number, to: number, age: number): Promise<void> {
    if (from >= to) return;
    const zeros = this.#map.buffers.make(this.#map.cluster);
    try {
      for (let at = from; at < to; ) {
        const cluster = Math.floor(at / this.#map.cluster);
        const end = Math.min(to, (cluster + 1) * this.#map.cluster);
        const table = await this.#map.table(Math.floor(cluster / this.#map.perTable));
        const blank = this.#map.readsAsZeros(this.#map.entry(table, cluster), cluster);
        if (this.#map.isDead({ age })) throw new IoError(ECANCELED);
        if (!blank || this.#map.busy.has(cluster)) await this.#written(at, end, zeros);
        at = end;
      }
    } finally {
      zeros.free();
    }
  }

  #written(from: number, to: number, buffer: HostBuffer): Promise<void> {
    return new Promise((resolve, reject) => {
      const parts = new Parts((errno) => (errno === 0 ? resolve() : reject(new IoError(errno))));
      this.#writer.writeRange(parts, from, to, [buffer.at, to - from]);
      parts.end(0);
    });
  }
}

// Reading: runs of clusters that follow each other in the file too are one request.
import { constants } from "node:os";
import type { HostBuffer } from "../../../native/types.js";
import type { BlockDone } from "../backend.js";
import { slicePieces } from "../pieces.js";
import { Parts } from "../request.js";
import { compressedAt, hostOf } from "./entry.js";
import { IoError } from "./image-io.js";
import type { Entry, Mapping } from "./mapping.js";
import { cut, type Span } from "./span.js";
import type { Table } from "./tables.js";

const { EIO } = constants.errno;

type Inflated = (errno: number, cluster: Uint8Array) => void;

export class Reader {
  readonly #map: Mapping;
  /** Clusters that are being inflated. */
  inflating = 0;

  constructor(map: Mapping) {
    this.#map = map;
  }

  readTable(parts: Parts, table: Table | undefined, span: Span): void {
    if (this.#map.isDead(span)) return;
    const { from, to } = span;
    let start = from;
    let run = this.#map.entry(table, Math.floor(from / this.#map.cluster));
    const flush = (end: number): void => this.#readRun(parts, run, cut(span, start, end));
    let at = (Math.floor(from / this.#map.cluster) + 1) * this.#map.cluster;
    for (; at < to; at += this.#map.cluster) {
      const next = this.#map.entry(table, at / this.#map.cluster);
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
    const first = Math.floor(start / this.#map.cluster) * this.#map.cluster;
    return hostOf(next.high, next.low) - hostOf(run.high, run.low) === at - first;
  }

  /** Clusters that follow each other, in the file too. */
  #readRun(parts: Parts, entry: Entry, { from, to, pieces }: Span): void {
    parts.begin();
    const inCluster = from % this.#map.cluster;
    switch (entry.kind) {
      case "data": {
        const host = hostOf(entry.high, entry.low);
        if (host % this.#map.cluster !== 0) {
          parts.end(EIO);
          return;
        }
        this.#map.move("read", host + inCluster, to - from, pieces, parts.end);
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
            this.#map.buffers.put(pieces, cluster.subarray(inCluster, inCluster + to - from));
          parts.end(errno);
        });
    }
  }

  #clear(length: number, pieces: readonly number[], done: BlockDone): void {
    this.#map.data.submit("clear", 0, length, pieces, this.#map.pending.track(done));
  }

  /** What the image lies over, and zeros past its end. */
  #readBelow(from: number, to: number, pieces: readonly number[], done: BlockDone): void {
    const end = Math.max(from, Math.min(to, this.#map.below?.geometry.size ?? 0));
    const parts = new Parts(done);
    if (end < to) {
      parts.begin();
      this.#clear(to - end, slicePieces(pieces, end - from, to - end), parts.end);
    }
    if (this.#map.below === undefined || end === from) {
      parts.end(0);
      return;
    }
    const first = slicePieces(pieces, 0, end - from);
    this.#map.below.read(from, end - from, first, this.#map.pending.track(parts.end));
  }

  #readCompressed(entry: Entry, then: Inflated): void {
    const { offset, length } = compressedAt(entry.high, entry.low, this.#map.header.clusterBits);
    if (!(offset < 2 ** 52)) {
      then(EIO, new Uint8Array(0));
      return;
    }
    const kept = this.#map.inflater.kept(offset);
    if (kept !== undefined) {
      then(0, kept);
      return;
    }
    const buffer = this.#map.buffers.make(length);
    this.#map.move("read", offset, length, [buffer.at, length], (errno) => {
      const bytes = buffer.bytes.slice();
      buffer.free();
      if (errno === 0) this.#inflate(offset, bytes, then);
      else then(errno, bytes);
    });
  }

  #inflate(offset: number, bytes: Uint8Array, then: Inflated): void {
    let inflated = bytes;
    const end = this.#map.pending.track((errno) => then(errno, inflated));
    this.inflating++;
    this.#map.inflater.inflate(offset, bytes, (errno, cluster) => {
      this.inflating--;
      inflated = cluster;
      end(errno);
    });
  }

  fill(buffer: HostBuffer, cluster: number, entry: Entry): Promise<void> {
    const from = cluster * this.#map.cluster;
    const pieces = [buffer.at, this.#map.cluster];
    return new Promise((resolve, reject) => {
      const parts = new Parts((errno) => (errno === 0 ? resolve() : reject(new IoError(errno))));
      this.#readRun(parts, entry, {
        from,
        to: from + this.#map.cluster,
        pieces,
        age: this.#map.age,
      });
      parts.end(0);
    });
  }
}

// Reads every table of an image before anything is written to it. What comes out is how often each
// cluster is really used: it finds tables that overlap, lead out of the file or lie, and clusters
// that a crash left over.
import { compressedAt, hostOf, kindOf } from "./entry.js";
import { ImageFault } from "./fault.js";
import { type Header, INCOMPATIBLE, LIMIT, u64, viewOf } from "./header.js";
import { getRefcount } from "./refcount-block.js";

/** A file that can be read and changed without waiting for the event loop. */
export interface ImageBytes {
  /** Bytes that it has now. */
  size(): number;
  /** Fewer where the file ends before. */
  read(offset: number, length: number): Uint8Array;
  write(offset: number, bytes: Uint8Array): void;
  truncate(size: number): void;
  sync(): void;
}

/** Memory is 3 bytes for each. */
const MOST_CLUSTERS = 2 ** 27;
/** Entries of L2 tables, those that snapshots share counted for each: some seconds. */
const MOST_ENTRIES = 2 ** 29;
const MOST_REFERENCES = 0xffff;
const SNAPSHOT_HEADER = 40;

export interface Contents {
  /** The active L1 table. */
  readonly l1: Uint8Array;
  /** References of each cluster of the file, counted. */
  readonly references: Uint16Array;
  /** Offsets of refcount blocks; 0 where there is none. */
  readonly blocks: Float64Array;
  /** Indices of blocks on the file that do not say what was counted. */
  readonly wrong: readonly number[];
}

const KIND = { free: 0, data: 1, l2: 2, other: 3 } as const;

class Scan {
  readonly #image: ImageBytes;
  readonly #header: Header;
  readonly #cluster: number;
  readonly #size: number;
  readonly references: Uint16Array;
  readonly #kinds: Uint8Array;
  /** Counts that are too low are mended: whoever wrote them said that they may be. */
  readonly #trusting: boolean;
  #entries = 0;

  constructor(image: ImageBytes, header: Header, strict: boolean) {
    this.#trusting = !strict && (header.incompatible & INCOMPATIBLE.dirty) !== 0;
    this.#image = image;
    this.#header = header;
    this.#cluster = 2 ** header.clusterBits;
    this.#size = image.size();
    const count = Math.ceil(this.#size / this.#cluster);
    if (count > MOST_CLUSTERS) throw new ImageFault(`it has ${count} clusters, too many to check`);
    this.references = new Uint16Array(count);
    this.#kinds = new Uint8Array(count);
  }

  run(): Contents {
    const { l1Offset, l1Entries, refcountTableOffset, refcountTableClusters } = this.#header;
    this.#table("its header", 0, 1);
    this.#table("its refcount table", refcountTableOffset, refcountTableClusters * this.#cluster);
    const blocks = this.#refcountTable();
    const l1 = this.#l1("its L1 table", l1Offset, l1Entries);
    this.#snapshots();
    return { l1, references: this.references, blocks, wrong: this.#compare(blocks) };
  }

  /** Counts what an L1 table leads to; the table itself is what comes back. */
  #l1(name: string, offset: number, entries: number): Uint8Array {
    this.#table(name, offset, 8 * entries);
    const bytes = this.#read(name, offset, 8 * entries);
    const view = viewOf(bytes);
    for (let i = 0; i < entries; i++) {
      const at = hostOf(view.getUint32(8 * i), view.getUint32(8 * i + 4));
      if (at !== 0) this.#l2(`L2 table ${i}`, at);
    }
    return bytes;
  }

  #l2(name: string, offset: number): void {
    this.#claim(name, offset, this.#cluster, KIND.l2);
    const count = this.#cluster / 8;
    this.#entries += count;
    if (this.#entries > MOST_ENTRIES) throw new ImageFault("its tables are too many to check");
    const view = viewOf(this.#read(name, offset, this.#cluster));
    for (let at = 0; at < this.#cluster; at += 8) {
      const [high, low] = [view.getUint32(at), view.getUint32(at + 4)];
      if (high !== 0 || low !== 0) this.#entry(name, high, low);
    }
  }

  #entry(name: string, high: number, low: number): void {
    const { clusterBits, version } = this.#header;
    if (kindOf(high, low, version) !== "compressed") {
      const at = hostOf(high, low);
      if (at !== 0) this.#claim(`a cluster of ${name}`, at, this.#cluster, KIND.data);
      return;
    }
    const { offset, length } = compressedAt(high, low, clusterBits);
    // Its length is rounded up, past the end of the file where it is the last.
    if (!(offset < this.#size)) throw new ImageFault(`a cluster of ${name} is outside the file`);
    const first = Math.floor(offset / this.#cluster);
    const end = Math.ceil(Math.min(offset + length, this.#size) / this.#cluster);
    for (let i = first; i < end; i++) this.#count(`a cluster of ${name}`, i, KIND.data);
  }

  #snapshots(): void {
    const { snapshots, snapshotsOffset } = this.#header;
    const l1s: { at: number; entries: number }[] = [];
    let at = snapshotsOffset;
    for (let i = 0; i < snapshots; i++) {
      const view = viewOf(this.#read("its snapshot table", at, SNAPSHOT_HEADER));
      l1s.push({ at: u64(view, 0), entries: view.getUint32(8) });
      const more = view.getUint32(36) + view.getUint16(12) + view.getUint16(14);
      at += Math.ceil((SNAPSHOT_HEADER + more) / 8) * 8;
      if (at - snapshotsOffset > LIMIT.snapshotTableBytes)
        throw new ImageFault("its snapshot table is too large");
    }
    if (snapshots > 0) this.#table("its snapshot table", snapshotsOffset, at - snapshotsOffset);
    for (const [index, one] of l1s.entries()) {
      const name = `the L1 table of snapshot ${index}`;
      if (8 * one.entries > LIMIT.l1Bytes) throw new ImageFault(`${name} is too large`);
      if (one.entries > 0) this.#l1(name, one.at, one.entries);
    }
  }

  #refcountTable(): Float64Array {
    const { refcountTableOffset: at, refcountTableClusters } = this.#header;
    const length = refcountTableClusters * this.#cluster;
    const view = viewOf(this.#read("its refcount table", at, length));
    const blocks = new Float64Array(length / 8);
    for (let i = 0; i < blocks.length; i++) {
      const block = u64(view, 8 * i);
      if (block !== 0) this.#claim(`refcount block ${i}`, block, this.#cluster, KIND.other);
      blocks[i] = block;
    }
    return blocks;
  }

  /** Blocks that do not say what was counted. A count that is too low is for a dirty image only. */
  #compare(blocks: Float64Array): number[] {
    const perBlock = (8 * this.#cluster) >> this.#header.refcountOrder;
    const wrong: number[] = [];
    const used = Math.ceil(this.references.length / perBlock);
    for (let index = 0; index < Math.max(blocks.length, used); index++) {
      const difference = this.#compareBlock(blocks[index] ?? 0, index * perBlock, perBlock);
      if (difference !== "none") wrong.push(index);
      if (difference === "low" && !this.#trusting)
        throw new ImageFault("its refcounts are too low: `qemu-img check -r all` can mend it");
    }
    return wrong;
  }

  #compareBlock(offset: number, first: number, count: number): "none" | "high" | "low" {
    const counted = this.references.subarray(first, first + count);
    if (offset === 0) return counted.some((one) => one !== 0) ? "low" : "none";
    const bytes = this.#read("a refcount block", offset, this.#cluster);
    let difference: "none" | "high" = "none";
    for (let i = 0; i < count; i++) {
      const said = getRefcount(bytes, i, this.#header.refcountOrder);
      const real = counted[i] ?? 0;
      if (said < real) return "low";
      if (said > real) difference = "high";
    }
    return difference;
  }

  /** A table that nothing else may lie over. */
  #table(name: string, offset: number, length: number): void {
    this.#claim(name, offset, Math.ceil(length / this.#cluster) * this.#cluster, KIND.other);
  }

  #claim(name: string, offset: number, length: number, kind: number): void {
    if (offset % this.#cluster !== 0)
      throw new ImageFault(`${name} is not at the begin of a cluster`);
    const first = offset / this.#cluster;
    for (let i = 0; i < length / this.#cluster; i++) this.#count(name, first + i, kind);
  }

  #count(name: string, cluster: number, kind: number): void {
    if (!(cluster >= 0 && cluster < this.references.length))
      throw new ImageFault(`${name} is outside the file`);
    const before = this.#kinds[cluster];
    if (before !== KIND.free && (before !== kind || kind === KIND.other))
      throw new ImageFault(`${name} lies over something else`);
    const count = (this.references[cluster] ?? 0) + 1;
    if (count > MOST_REFERENCES) throw new ImageFault(`${name} is used too often`);
    this.references[cluster] = count;
    this.#kinds[cluster] = kind;
  }

  /** All of it; what the file does not have are zeros. */
  #read(name: string, offset: number, length: number): Uint8Array {
    if (!(offset >= 0 && offset < this.#size)) throw new ImageFault(`${name} is outside the file`);
    const bytes = this.#image.read(offset, length);
    if (bytes.length === length) return bytes;
    const whole = new Uint8Array(length);
    whole.set(bytes);
    return whole;
  }
}

/** Throws ImageFault; changes nothing. */
export const scan = (image: ImageBytes, header: Header, strict = false): Contents =>
  new Scan(image, header, strict).run();

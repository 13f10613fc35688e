// Which clusters of an image are used, and how often. What was counted when the image was opened is
// kept in memory and is the truth; refcount blocks on the file follow it, in an order in which a
// crash can only leave them too high:
//
//   - Clusters are taken in runs ahead of need. Their counts are on the medium, and they read as
//     zeros, before the first of them is used.
//   - One that is let go keeps its count until the table that named it has lost its name on the
//     medium, and is used again only when nothing that was under way still moves its bytes.
import { type Header, setU64 } from "./header.js";
import type { ImageIo } from "./image-io.js";
import { setRefcount } from "./refcount-block.js";
import type { Contents } from "./scan.js";

const FIRST_RUN = 2 ** 22;
const MOST_RUN = 2 ** 28;
const RECLAIM_FROM = 2 ** 25;
const SECTOR = 512;

export interface Write {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** Clusters side by side in the file. */
export interface Run {
  readonly offset: number;
  readonly count: number;
}

export interface ClustersOptions {
  readonly header: Header;
  readonly contents: Contents;
  readonly io: ImageIo;
  /** Told what failed where nobody waits for it. */
  readonly log: (text: string) => void;
}

export class Clusters {
  readonly #header: Header;
  readonly #io: ImageIo;
  readonly #log: (text: string) => void;
  readonly #cluster: number;
  readonly #perBlock: number;
  #references: Uint16Array;
  /** Clusters of the file. */
  #count: number;
  #blocks: Float64Array;
  #tableOffset: number;
  readonly #dirty = new Set<number>();
  readonly #newBlocks = new Set<number>();
  #tableMoved = false;
  /** Indices of clusters, in the order of their use. */
  #ready: number[] = [];
  #run = FIRST_RUN;
  #refilling: Promise<void> | undefined;
  #cursor = 0;
  readonly #released: number[] = [];
  /** Of refcount tables that the header names for now. */
  readonly #oldTables: number[] = [];
  /** Those that are being made ready, or given back. */
  #taking: number[] = [];
  #freeing: number[] = [];
  #persisting: Promise<void> = Promise.resolve();
  /** What is on its way to the file is to be written once more. */
  #undo: () => void = () => {};
  /** Clusters whose bytes a request moves, and how many do. */
  readonly #moving = new Map<number, number>();

  constructor({ header, contents, io, log }: ClustersOptions) {
    this.#header = header;
    this.#io = io;
    this.#log = log;
    this.#cluster = 2 ** header.clusterBits;
    this.#perBlock = (8 * this.#cluster) >> header.refcountOrder;
    this.#references = contents.references.slice();
    this.#count = contents.references.length;
    this.#blocks = contents.blocks.slice();
    this.#tableOffset = header.refcountTableOffset;
    for (const index of contents.wrong) this.#touchBlock(index);
  }

  /** Of the cluster at this offset. */
  references(offset: number): number {
    return this.#references[offset / this.#cluster] ?? 0;
  }

  /** The offset of a cluster of zeros with one reference. Rejects with IoError. */
  async take(): Promise<number> {
    return (await this.takeRun(1)).offset;
  }

  /** As many such clusters as lie side by side, up to `most`; at least one. */
  async takeRun(most: number): Promise<Run> {
    while (this.#ready.length === 0) await this.#refill();
    const first = this.#ready.pop() ?? 0;
    let count = 1;
    for (; count < most && this.#ready.at(-1) === first + count; count++) this.#ready.pop();
    const low = (this.#run / this.#cluster) >> 3;
    if (this.#ready.length <= low && this.#refilling === undefined)
      this.#refill().catch((error) => this.#log(`no clusters in advance: ${error.message}`));
    return { offset: first * this.#cluster, count };
  }

  /** One reference less: the table that had it has been written without. */
  release(offset: number): void {
    this.#released.push(offset / this.#cluster);
    if (this.#released.length * this.#cluster >= RECLAIM_FROM) this.reclaim();
  }

  /** A request begins to move bytes of these clusters, and ends. */
  hold(offset: number, length: number): void {
    const end = offset + length;
    for (let at = Math.floor(offset / this.#cluster); at * this.#cluster < end; at++)
      this.#moving.set(at, (this.#moving.get(at) ?? 0) + 1);
  }
  unhold(offset: number, length: number): void {
    const end = offset + length;
    for (let at = Math.floor(offset / this.#cluster); at * this.#cluster < end; at++) {
      const left = (this.#moving.get(at) ?? 1) - 1;
      if (left === 0) this.#moving.delete(at);
      else this.#moving.set(at, left);
    }
  }

  /** Gives the host back what was let go; in its own time. */
  reclaim(): void {
    if (this.#freeing.length > 0 || this.#released.length === 0) return;
    this.#reclaim().catch((error) =>
      this.#log(`freed clusters are kept for now: ${error.message}`),
    );
  }

  /**
   * What the file's refcounts lack, in stages: each is to be on the medium before the next begins.
   * Taken as written.
   */
  stages(): Write[][] {
    this.#undo();
    const blocks = [...this.#newBlocks].map((index) => this.#blockWrite(index));
    const moved = this.#tableMoved ? [this.#tableWrite()] : [];
    const pointers = this.#tableMoved ? [this.#headerWrite()] : this.#entryWrites();
    for (const index of this.#newBlocks) this.#dirty.delete(index);
    const others = [...this.#dirty]
      .filter((index) => (this.#blocks[index] ?? 0) !== 0)
      .map((index) => this.#blockWrite(index));
    this.#newBlocks.clear();
    this.#tableMoved = false;
    this.#dirty.clear();
    return [[...others, ...blocks, ...moved], pointers].filter((stage) => stage.length > 0);
  }

  /** What was taken ahead or let go is free; bytes that the file then needs. All requests ended. */
  finish(): number {
    const unused = [this.#ready, this.#taking, this.#released, this.#freeing, this.#oldTables];
    for (const cluster of unused.flat()) this.#set(cluster, (this.#references[cluster] ?? 1) - 1);
    this.#ready = [];
    this.#released.length = 0;
    while (this.#count > 0 && this.#references[this.#count - 1] === 0) this.#count--;
    return this.#count * this.#cluster;
  }

  #set(cluster: number, references: number): void {
    this.#references[cluster] = references;
    this.#dirty.add(Math.floor(cluster / this.#perBlock));
  }

  /** A block is to be written, and where there is none, made. */
  #touchBlock(index: number): void {
    this.#dirty.add(index);
    if (index < this.#blocks.length && this.#blocks[index] !== 0) return;
    if (index >= this.#blocks.length) this.#growTable(index + 1);
    if (this.#blocks[index] !== 0) return; // made for the new table's own clusters
    const cluster = this.#append(1);
    this.#blocks[index] = cluster * this.#cluster;
    this.#newBlocks.add(index);
    this.#count1(cluster);
  }

  #count1(cluster: number): void {
    this.#set(cluster, 1);
    this.#touchBlock(Math.floor(cluster / this.#perBlock));
  }

  /** A larger table at the end of the file; the old one is let go. */
  #growTable(least: number): void {
    const perCluster = this.#cluster / 8;
    const clusters = Math.ceil((1.5 * Math.max(least, this.#blocks.length) + 2) / perCluster);
    const old = { at: this.#tableOffset, clusters: this.#blocks.length / perCluster };
    const blocks = new Float64Array(clusters * perCluster);
    blocks.set(this.#blocks);
    this.#blocks = blocks;
    const first = this.#append(clusters);
    this.#tableOffset = first * this.#cluster;
    this.#tableMoved = true;
    for (let i = 0; i < clusters; i++) this.#count1(first + i);
    for (let i = 0; i < old.clusters; i++) this.#oldTables.push(old.at / this.#cluster + i);
  }

  /** The first of so many new clusters. */
  #append(clusters: number): number {
    const first = this.#count;
    this.#count += clusters;
    if (this.#count > this.#references.length) {
      const larger = new Uint16Array(Math.max(this.#count, 2 * this.#references.length));
      larger.set(this.#references);
      this.#references = larger;
    }
    return first;
  }

  #refill(): Promise<void> {
    this.#refilling ??= this.#refillOnce().finally(() => {
      this.#refilling = undefined;
    });
    return this.#refilling;
  }

  async #refillOnce(): Promise<void> {
    const wanted = Math.max(16, this.#run / this.#cluster);
    this.#run = Math.min(2 * this.#run, MOST_RUN);
    const before = this.#count;
    const reused = this.#findFree(wanted);
    for (const cluster of reused) this.#set(cluster, 1);
    const fresh = this.#appendRun(wanted - reused.length);
    this.#taking = [...reused, ...fresh].reverse();
    try {
      await this.#prepare(reused, this.#count > before);
      this.#ready = [...this.#taking, ...this.#ready];
    } catch (error) {
      this.#released.push(...this.#taking);
      throw error;
    } finally {
      this.#taking = [];
    }
  }

  /**
   * New clusters that one refcount block counts, so many at most. Where there is no such block, it
   * is the first of them: a block that another one counted could be named before that one is.
   */
  #appendRun(most: number): number[] {
    if (most === 0) return [];
    let room = 0;
    while (room <= 0) {
      const index = Math.floor(this.#count / this.#perBlock);
      this.#touchBlock(index);
      room = (index + 1) * this.#perBlock - this.#count;
    }
    const length = Math.min(most, room);
    const first = this.#append(length);
    for (let i = 0; i < length; i++) this.#set(first + i, 1);
    return Array.from({ length }, (_, i) => first + i);
  }

  /** Makes what was chosen read as zeros and its counts lasting. */
  async #prepare(reused: readonly number[], grown: boolean): Promise<void> {
    if (grown) await this.#io.write(this.#count * this.#cluster - SECTOR, new Uint8Array(SECTOR));
    for (const [from, to] of runsOf(reused))
      await this.#io.run("unmap", from * this.#cluster, (to - from) * this.#cluster);
    await this.#persist();
  }

  /** Free clusters within the file, from where the last search ended; ascending. */
  #findFree(most: number): number[] {
    const found: number[] = [];
    for (; this.#cursor < this.#count && found.length < most; this.#cursor++)
      if (this.#references[this.#cursor] === 0) found.push(this.#cursor);
    return found;
  }

  /** Resolves when the file's refcounts are those in memory now, on the medium. */
  #persist(): Promise<void> {
    this.#persisting = this.#persisting.catch(() => {}).then(() => this.#persistOnce());
    return this.#persisting;
  }

  async #persistOnce(): Promise<void> {
    const dirty = [...this.#dirty];
    const fresh = [...this.#newBlocks];
    const moved = this.#tableMoved;
    const retired = this.#oldTables.length;
    this.#undo = () => {
      for (const index of dirty) this.#dirty.add(index);
      for (const index of fresh) this.#newBlocks.add(index);
      this.#tableMoved ||= moved;
    };
    try {
      for (const stage of this.stages()) {
        await Promise.all(stage.map(({ offset, bytes }) => this.#io.write(offset, bytes)));
        await this.#io.barrier();
      }
      if (moved) this.#released.push(...this.#oldTables.splice(0, retired));
    } catch (error) {
      this.#undo();
      throw error;
    } finally {
      this.#undo = () => {};
    }
  }

  async #reclaim(): Promise<void> {
    const all = this.#released.splice(0);
    this.#freeing = all.filter((cluster) => !this.#moving.has(cluster));
    this.#released.push(...all.filter((cluster) => this.#moving.has(cluster)));
    try {
      await this.#io.barrier();
      // Still counted while they are punched, lest they be used meanwhile.
      for (const [from, to] of runsOf(this.#lastReferences(this.#freeing)))
        await this.#io.run("discard", from * this.#cluster, (to - from) * this.#cluster);
      for (const cluster of this.#freeing) this.#letGo(cluster);
    } catch (error) {
      this.#released.push(...this.#freeing);
      throw error;
    } finally {
      this.#freeing = [];
    }
    await this.#persist();
  }

  /** Which of these nobody else refers to; ascending. */
  #lastReferences(clusters: readonly number[]): number[] {
    const counts = new Map<number, number>();
    for (const cluster of clusters) counts.set(cluster, (counts.get(cluster) ?? 0) + 1);
    return [...counts]
      .filter(([cluster, count]) => this.#references[cluster] === count)
      .map(([cluster]) => cluster)
      .sort((a, b) => a - b);
  }

  #letGo(cluster: number): void {
    const left = (this.#references[cluster] ?? 1) - 1;
    this.#set(cluster, left);
    if (left === 0) this.#cursor = Math.min(this.#cursor, cluster);
  }

  #blockWrite(index: number): Write {
    const bytes = new Uint8Array(this.#cluster);
    const first = index * this.#perBlock;
    const end = Math.min(this.#perBlock, this.#references.length - first);
    for (let i = 0; i < end; i++) {
      const count = this.#references[first + i] ?? 0;
      if (count !== 0) setRefcount(bytes, i, this.#header.refcountOrder, count);
    }
    return { offset: this.#blocks[index] ?? 0, bytes };
  }

  #tableWrite(): Write {
    const bytes = new Uint8Array(8 * this.#blocks.length);
    const view = new DataView(bytes.buffer);
    for (const [index, block] of this.#blocks.entries()) setU64(view, 8 * index, block);
    return { offset: this.#tableOffset, bytes };
  }

  #entryWrites(): Write[] {
    return [...this.#newBlocks].map((index) => {
      const bytes = new Uint8Array(8);
      setU64(new DataView(bytes.buffer), 0, this.#blocks[index] ?? 0);
      return { offset: this.#tableOffset + 8 * index, bytes };
    });
  }

  /** qcow2.txt, "Header": refcount_table_offset and refcount_table_clusters are neighbours. */
  #headerWrite(): Write {
    const bytes = new Uint8Array(12);
    const view = new DataView(bytes.buffer);
    setU64(view, 0, this.#tableOffset);
    view.setUint32(8, (8 * this.#blocks.length) / this.#cluster);
    return { offset: 48, bytes };
  }
}

/** Neighbours together, as [from, to); `clusters` ascend. */
function runsOf(clusters: readonly number[]): [from: number, to: number][] {
  const runs: [number, number][] = [];
  for (const cluster of clusters) {
    const last = runs.at(-1);
    if (last !== undefined && last[1] === cluster) last[1]++;
    else runs.push([cluster, cluster + 1]);
  }
  return runs;
}

// For tests: a qcow2 disk on a file in memory, driven by promises, and a model of what it holds.
import { constants } from "node:os";
import { FakeHost } from "../../fakes.js";
import type { BlockBackend } from "../backend.js";
import { FakeStorage, type Random } from "../fake-storage.js";
import { Qcow2Backend } from "./backend.js";
import { createImage, type NewImage } from "./create.js";
import { parseHeader } from "./header.js";
import { openImage } from "./open.js";

const SECTOR = 512;
const MEMORY = 2 ** 22;
const { ECANCELED } = constants.errno;

export class Qcow2Rig {
  readonly host = new FakeHost(MEMORY);
  readonly storage: FakeStorage;
  readonly stalls: boolean[] = [];
  readonly logged: string[] = [];
  readonly #below: BlockBackend | undefined;
  #disk: Qcow2Backend | undefined;
  #nextMemory = 0;

  constructor(random: Random, image: NewImage | Uint8Array, below?: BlockBackend) {
    const bytes = image instanceof Uint8Array ? image.slice() : new Uint8Array(0);
    this.storage = new FakeStorage(this.host.io, random, bytes);
    if (!(image instanceof Uint8Array)) createImage(this.storage, image);
    this.#below = below;
  }

  get disk(): Qcow2Backend {
    this.#disk ??= this.#open(false);
    return this.#disk;
  }
  get size(): number {
    return parseHeader(this.storage.read(0, 65536)).size;
  }

  openReadOnly(): void {
    this.#disk = this.#open(true);
  }

  #open(readOnly: boolean): Qcow2Backend {
    const opened = openImage(this.storage, { readOnly });
    const { size } = opened.header;
    return new Qcow2Backend({
      ...opened,
      image: this.storage,
      file: this.storage.file(),
      io: this.host.io,
      memory: this.host.memory,
      clock: this.host.clock,
      geometry: { size, logicalSector: SECTOR, physicalSector: SECTOR, readOnly },
      below: this.#below,
      onStall: (stalled) => this.stalls.push(stalled),
      log: (text) => this.logged.push(text),
    });
  }

  close(): void {
    this.#disk?.close();
    this.#disk = undefined;
  }

  /** Memory for one request; many may be under way before it comes round. */
  allocate(length: number): number {
    if (this.#nextMemory + length > MEMORY) this.#nextMemory = 0;
    const at = this.#nextMemory;
    this.#nextMemory += length;
    return at;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const at = this.allocate(length);
    await this.#run((done) => this.disk.read(offset, length, pieces(at, length), done));
    return this.host.memory.bytes.slice(at, at + length);
  }
  write(offset: number, bytes: Uint8Array): Promise<void> {
    const at = this.allocate(bytes.length);
    this.host.memory.bytes.set(bytes, at);
    return this.#run((done) =>
      this.disk.write(offset, bytes.length, pieces(at, bytes.length), done),
    );
  }
  flush(): Promise<void> {
    return this.#run((done) => this.disk.flush(done));
  }
  discard(offset: number, length: number): Promise<void> {
    return this.#run((done) => this.disk.discard(offset, length, done));
  }
  zero(offset: number, length: number, unmap: boolean): Promise<void> {
    return this.#run((done) => this.disk.writeZeroes(offset, length, unmap, done));
  }
  async readAll(): Promise<Uint8Array> {
    const parts: Uint8Array[] = [];
    const step = 2 ** 20;
    for (let at = 0; at < this.size; at += step)
      parts.push(await this.read(at, Math.min(step, this.size - at)));
    return Buffer.concat(parts);
  }

  #run(start: (done: (errno: number) => void) => void): Promise<void> {
    return new Promise((resolve, reject) =>
      start((errno) => {
        if (errno === 0) resolve();
        else reject(new Error(errno === ECANCELED ? "cancelled" : `errno ${errno}`));
      }),
    );
  }
}

/** In two pieces where that can be, the later one first in memory. */
const pieces = (at: number, length: number): number[] =>
  length < 2 * SECTOR ? [at, length] : [at, SECTOR, at + SECTOR, length - SECTOR];

/** Sectors full of one 32-bit number. */
export function stamped(length: number, stamp: number): Uint8Array {
  const bytes = new Uint8Array(length);
  new Uint32Array(bytes.buffer).fill(stamp);
  return bytes;
}

/** The number that each sector is full of; undefined where it is not full of one. */
export function stampsOf(bytes: Uint8Array): (number | undefined)[] {
  const words = new Uint32Array(bytes.slice().buffer);
  const per = SECTOR / 4;
  return Array.from({ length: words.length / per }, (_, sector) => {
    const one = words.subarray(sector * per, (sector + 1) * per);
    return one.every((word) => word === one[0]) ? one[0] : undefined;
  });
}

// virtio-blk: every chain is a request of its own, and any number of them may be under way.
import { createHash } from "node:crypto";
import type { BlockBackend } from "../block/backend.js";
import { Parts } from "../block/request.js";
import type { Chain } from "../virtio/chain.js";
import {
  type DriverQueue,
  defineVirtioDevice,
  serveAll,
  type VirtioContext,
  type VirtioModel,
} from "../virtio/device.js";
import {
  BARRIER,
  BLK_FEATURE,
  CONFIG,
  HEADER_LENGTH,
  ID_LENGTH,
  RANGE,
  REQUEST,
  SECTOR,
  STATUS,
} from "./registers.js";

export interface VirtioBlkOptions {
  readonly backend: BlockBackend;
  /** At most 20 characters. */
  readonly serial: string;
  readonly queues: number;
}

/** Room for a request of 1 MiB in pages that do not follow each other. */
const QUEUE_SIZE = 512;
/** Header and status take one descriptor each. */
const SEG_MAX = QUEUE_SIZE - 2;
/** The original's: 1 GiB in one range. */
const MAX_RANGE_SECTORS = 2 ** 21;
/** In one request. */
const MAX_RANGES = 64;

/** The original's serial number: stable for the same option string. */
export function serialOf(option: string): string {
  const hash = createHash("sha256").update(option).digest("hex").slice(0, 12).toUpperCase();
  return `BHYVE-${hash.slice(0, 4)}-${hash.slice(4, 8)}-${hash.slice(8, 12)}`;
}

function configuration({ backend, queues }: VirtioBlkOptions): Uint8Array {
  const { size, logicalSector, physicalSector } = backend.geometry;
  const bytes = new Uint8Array(CONFIG.length);
  const view = new DataView(bytes.buffer);
  const u32 = (at: number, value: number): void => view.setUint32(at, value, true);
  view.setBigUint64(CONFIG.capacity, BigInt(Math.floor(size / SECTOR)), true);
  u32(CONFIG.segMax, SEG_MAX);
  u32(CONFIG.blkSize, logicalSector);
  view.setUint8(CONFIG.physicalBlockExp, Math.log2(physicalSector / logicalSector));
  view.setUint8(CONFIG.writeback, 1);
  view.setUint16(CONFIG.numQueues, queues, true);
  u32(CONFIG.maxDiscardSectors, MAX_RANGE_SECTORS);
  u32(CONFIG.maxDiscardSegments, MAX_RANGES);
  u32(CONFIG.discardAlignment, logicalSector / SECTOR);
  u32(CONFIG.maxZeroesSectors, MAX_RANGE_SECTORS);
  u32(CONFIG.maxZeroesSegments, MAX_RANGES);
  view.setUint8(CONFIG.zeroesMayUnmap, 1);
  return bytes;
}

/** A chain whose header has been read. */
interface BlockRequest {
  readonly chain: Chain;
  readonly type: number;
  /** Bytes. */
  readonly offset: number;
  /** Of data, without header and status. */
  readonly toRead: number;
  readonly toWrite: number;
}

/** One of DISCARD or WRITE_ZEROES; bytes. */
interface GuestRange {
  readonly offset: number;
  readonly length: number;
  readonly flags: number;
}

const rangeAt = (view: DataView): GuestRange => ({
  offset: Number(view.getBigUint64(RANGE.sector, true)) * SECTOR,
  length: view.getUint32(RANGE.count, true) * SECTOR,
  flags: view.getUint32(RANGE.flags, true),
});

class VirtioBlk implements VirtioModel {
  readonly config: Uint8Array;
  readonly #backend: BlockBackend;
  readonly #serial: Uint8Array;
  readonly #context: VirtioContext;

  constructor(options: VirtioBlkOptions, context: VirtioContext) {
    this.config = configuration(options);
    this.#backend = options.backend;
    this.#serial = new Uint8Array(ID_LENGTH);
    this.#serial.set(Buffer.from(options.serial, "latin1").subarray(0, ID_LENGTH));
    this.#context = context;
  }

  notified(queue: DriverQueue): void {
    serveAll(queue, (chain) => this.#serve(chain));
  }
  resumed(_queue: DriverQueue, chain: Chain): void {
    this.#serve(chain);
  }
  reset(): void {
    this.#backend.cancel();
  }
  rest(): Promise<void> {
    return this.#backend.idle();
  }
  dispose(): void {
    this.#backend.close();
  }

  #serve(chain: Chain): void {
    const header = new Uint8Array(HEADER_LENGTH);
    const toWrite = chain.writable.bytes - 1;
    if (chain.read(0, header) < HEADER_LENGTH || toWrite < 0) {
      this.#context.log("a request without header or status");
      chain.done(0);
      return;
    }
    const view = new DataView(header.buffer);
    const type = (view.getUint32(0, true) & ~BARRIER) >>> 0;
    const offset = Number(view.getBigUint64(8, true)) * SECTOR;
    const toRead = chain.readable.bytes - HEADER_LENGTH;
    const request = { chain, type, offset, toRead, toWrite };
    const status = this.#start(request);
    if (status !== undefined) this.#end(request, status);
  }

  /** The status of what is done or refused at once; undefined for what is under way. */
  #start(request: BlockRequest): number | undefined {
    switch (request.type) {
      case REQUEST.read:
        return this.#read(request);
      case REQUEST.write:
        return this.#write(request);
      case REQUEST.flush:
      case REQUEST.flushOut:
        this.#backend.flush((errno) => this.#finish(request, errno));
        return undefined;
      case REQUEST.getId:
        request.chain.write(0, this.#serial.subarray(0, request.toWrite));
        return STATUS.ok;
      case REQUEST.discard:
      case REQUEST.writeZeroes:
        return this.#ranges(request);
      default:
        return STATUS.unsupported;
    }
  }

  #read(request: BlockRequest): number | undefined {
    const { chain, offset, toWrite } = request;
    if (!this.#fits(offset, toWrite)) return STATUS.ioError;
    const pieces = chain.writable.slice(0, toWrite);
    this.#backend.read(offset, toWrite, pieces, (errno) => this.#finish(request, errno));
    return undefined;
  }

  #write(request: BlockRequest): number | undefined {
    const { chain, offset, toRead } = request;
    if (this.#backend.geometry.readOnly || !this.#fits(offset, toRead)) return STATUS.ioError;
    const pieces = chain.readable.slice(HEADER_LENGTH, toRead);
    this.#backend.write(offset, toRead, pieces, (errno) => this.#finish(request, errno));
    return undefined;
  }

  /** DISCARD and WRITE_ZEROES: some ranges; none of them is begun where one is wrong. */
  #ranges(request: BlockRequest): number | undefined {
    const { chain, type, toRead } = request;
    const count = toRead / RANGE.length;
    const whole = Number.isInteger(count) && count >= 1 && count <= MAX_RANGES;
    if (!whole || this.#backend.geometry.readOnly) return STATUS.ioError;
    const bytes = new Uint8Array(HEADER_LENGTH + toRead);
    chain.read(0, bytes);
    const zeroes = type === REQUEST.writeZeroes;
    const ranges: GuestRange[] = [];
    for (let at = HEADER_LENGTH; at < bytes.length; at += RANGE.length) {
      const range = rangeAt(new DataView(bytes.buffer, at));
      if ((range.flags & ~(zeroes ? RANGE.unmap : 0)) !== 0) return STATUS.unsupported;
      const { offset, length } = range;
      const fits = length <= MAX_RANGE_SECTORS * SECTOR && this.#fits(offset, length);
      if (!fits) return STATUS.ioError;
      ranges.push(range);
    }
    const parts = new Parts((errno) => this.#finish(request, errno));
    for (const range of ranges) this.#startRange(zeroes, range, parts);
    parts.end(0);
    return undefined;
  }

  #startRange(zeroes: boolean, { offset, length, flags }: GuestRange, parts: Parts): void {
    if (length === 0) return;
    parts.begin();
    const unmap = (flags & RANGE.unmap) !== 0;
    if (zeroes) this.#backend.writeZeroes(offset, length, unmap, parts.end);
    else this.#backend.discard(offset, length, parts.end);
  }

  #fits(offset: number, length: number): boolean {
    return length % SECTOR === 0 && offset + length <= this.#backend.geometry.size;
  }

  #finish(request: BlockRequest, errno: number): void {
    if (errno !== 0) {
      const { type, offset } = request;
      this.#context.log(`request ${type} at byte ${offset}: the host's error ${errno}`);
    }
    this.#end(request, errno === 0 ? STATUS.ok : STATUS.ioError);
  }

  #end({ chain, toWrite }: BlockRequest, status: number): void {
    chain.write(toWrite, Uint8Array.of(status));
    chain.done(toWrite + 1);
  }
}

export const virtioBlk = defineVirtioDevice({
  name: "virtio-blk",
  type: 2,
  transitional: 0x1001,
  classCode: 0x010000,
  configLength: CONFIG.length,
  queues: ({ queues }: VirtioBlkOptions) =>
    Array.from({ length: queues }, (_, index) => ({
      name: `requests${index}`,
      maxSize: QUEUE_SIZE,
    })),
  features: ({ backend, queues }: VirtioBlkOptions) => [
    BLK_FEATURE.segMax,
    BLK_FEATURE.blkSize,
    BLK_FEATURE.flush,
    BLK_FEATURE.topology,
    ...(queues > 1 ? [BLK_FEATURE.multiQueue] : []),
    ...(backend.geometry.readOnly
      ? [BLK_FEATURE.readOnly]
      : [BLK_FEATURE.discard, BLK_FEATURE.writeZeroes]),
  ],
  create: (options: VirtioBlkOptions, context: VirtioContext) => new VirtioBlk(options, context),
});

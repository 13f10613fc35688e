// A guest's virtio driver for tests: finds the device by configuration space, negotiates, and keeps
// real rings in guest memory. It reaches the device by the bus alone.
import type { FakeHost } from "../fakes.js";
import { DESCRIPTOR, FEATURE, NO_VECTOR, STATUS } from "./specification.js";

const ECAM = 0xe000_0000;
const MSIX_ADDRESS = 0xfee00000;
/** Data of the message of vector 0; vector n sends this plus n. */
export const FIRST_MESSAGE = 0x40;

export interface FakeDriverOptions {
  readonly slot: number;
  readonly interface: "legacy" | "modern";
  /** Feature bits taken where they are offered; VERSION_1 comes with the modern interface. */
  readonly features?: readonly number[];
  readonly interrupts?: "msix" | "msi" | "intx";
  /** Asked for instead of the size that the device offers (modern). */
  readonly queueSize?: number;
  /** Where rings and buffers begin in guest memory. */
  readonly memoryAt?: number;
}

export interface Used {
  readonly id: number;
  readonly length: number;
  /** What the device may have written: every writable buffer, one after the other. */
  readonly bytes: Uint8Array;
}

/** Configuration space and BARs, as firmware and a PCI core leave them. */
export class FakePci {
  readonly #host: FakeHost;
  readonly #base: number;

  constructor(host: FakeHost, slot: number) {
    this.#host = host;
    this.#base = ECAM + (slot << 15);
  }
  config(at: number, size = 4): number {
    return this.#host.bus.load(this.#base + at, size);
  }
  setConfig(at: number, value: number, size = 4): void {
    this.#host.bus.store(this.#base + at, value, size);
  }
  bar(index: number): number {
    const low = this.config(0x10 + 4 * index);
    return low & 1 ? low & 0xfffc : (low & 0xfffffff0) >>> 0;
  }
  /** Offsets of every capability of this kind. */
  capabilities(id: number): number[] {
    const found: number[] = [];
    for (let at = this.config(0x34, 1); at !== 0; at = this.config(at + 1, 1))
      if (this.config(at, 1) === id) found.push(at);
    return found;
  }
  /** The virtio structure of one cfg_type. */
  structure(type: number): number {
    const at = this.capabilities(0x09).find((one) => this.config(one + 3, 1) === type);
    if (at === undefined) throw new Error(`the device has no virtio structure ${type}`);
    return this.bar(this.config(at + 4, 1)) + this.config(at + 8);
  }
  enableMsix(vectors: number): void {
    const [at] = this.capabilities(0x11);
    if (at === undefined) throw new Error("the device has no MSI-X");
    const table = this.bar(this.config(at + 4) & 7);
    for (let vector = 0; vector < vectors; vector++) {
      const entry = table + 16 * vector;
      this.#host.bus.store(entry, MSIX_ADDRESS);
      this.#host.bus.store(entry + 4, 0);
      this.#host.bus.store(entry + 8, FIRST_MESSAGE + vector);
      this.#host.bus.store(entry + 12, 0);
    }
    this.setConfig(at + 2, 0x8000, 2);
  }
  enableMsi(): void {
    const [at] = this.capabilities(0x05);
    if (at === undefined) throw new Error("the device has no MSI");
    this.setConfig(at + 4, MSIX_ADDRESS);
    this.setConfig(at + 0xc, FIRST_MESSAGE, 2);
    this.setConfig(at + 2, 1, 2);
  }
}

/** Memory of the guest that is given out and never taken back. */
class Heap {
  readonly #host: FakeHost;
  #next: number;

  constructor(host: FakeHost, from: number) {
    this.#host = host;
    this.#next = from;
  }
  allocate(size: number, align = 16): number {
    const at = Math.ceil(this.#next / align) * align;
    this.#next = at + size;
    if (this.#next > this.#host.memory.size) throw new Error("the test's guest memory is full");
    return at;
  }
}

export interface Buffer {
  readonly at: number;
  readonly length: number;
  readonly writable: boolean;
}

export interface DriverRing {
  readonly areas: {
    readonly descriptors: number;
    readonly driver: number;
    readonly device: number;
  };
  add(buffers: readonly Buffer[], indirect: boolean): number;
  used(): { id: number; length: number } | undefined;
  /** Interrupt once this many more slots have been used (EVENT_IDX). */
  wantAfter(count: number): void;
  quiet(on: boolean): void;
}

const view = (host: FakeHost): DataView => {
  const { buffer, byteOffset, byteLength } = host.memory.bytes;
  return new DataView(buffer, byteOffset, byteLength);
};

interface Entry {
  readonly at: number;
  readonly length: number;
  readonly flags: number;
  readonly link: number;
}

const flagsOf = ({ writable }: Buffer): number => (writable ? DESCRIPTOR.write : 0);

export class FakeSplitRing implements DriverRing {
  readonly areas: {
    readonly descriptors: number;
    readonly driver: number;
    readonly device: number;
  };
  readonly size: number;
  readonly #memory: DataView;
  readonly #heap: Heap;
  readonly #free: number[];
  readonly #chains = new Map<number, number[]>();
  #available = 0;
  #used = 0;

  constructor(host: FakeHost, heap: Heap, size: number) {
    this.size = size;
    this.#memory = view(host);
    this.#heap = heap;
    this.#free = Array.from({ length: size }, (_, index) => index);
    const descriptors = heap.allocate(16 * size, 4096);
    const driver = heap.allocate(6 + 2 * size, 2);
    const device = heap.allocate(6 + 8 * size, 4096);
    this.areas = { descriptors, driver, device };
  }

  add(buffers: readonly Buffer[], indirect: boolean): number {
    const slots = indirect ? this.#free.splice(0, 1) : this.#free.splice(0, buffers.length);
    const head = slots[0];
    if (head === undefined) throw new Error("the ring is full");
    if (indirect) this.describe(this.areas.descriptors, head, this.#table(buffers));
    else this.#link(this.areas.descriptors, slots, buffers);
    this.#chains.set(head, slots);
    this.publish(head);
    return head;
  }

  /** Makes any number available, right or wrong. */
  publish(head: number): void {
    const { driver } = this.areas;
    this.#memory.setUint16(driver + 4 + 2 * (this.#available % this.size), head, true);
    this.#available = (this.#available + 1) & 0xffff;
    this.#memory.setUint16(driver + 2, this.#available, true);
  }

  describe(table: number, index: number, { at, length, flags, link }: Entry): void {
    const entry = table + 16 * index;
    this.#memory.setBigUint64(entry, BigInt(at), true);
    this.#memory.setUint32(entry + 8, length, true);
    this.#memory.setUint16(entry + 12, flags, true);
    this.#memory.setUint16(entry + 14, link, true);
  }

  used(): { id: number; length: number } | undefined {
    const { device } = this.areas;
    if (this.#memory.getUint16(device + 2, true) === this.#used) return undefined;
    const at = device + 4 + 8 * (this.#used % this.size);
    this.#used = (this.#used + 1) & 0xffff;
    const id = this.#memory.getUint32(at, true);
    this.#free.push(...(this.#chains.get(id) ?? []));
    this.#chains.delete(id);
    return { id, length: this.#memory.getUint32(at + 4, true) };
  }

  wantAfter(count: number): void {
    const at = this.areas.driver + 4 + 2 * this.size;
    this.#memory.setUint16(at, (this.#used + count - 1) & 0xffff, true);
  }
  quiet(on: boolean): void {
    this.#memory.setUint16(this.areas.driver, on ? 1 : 0, true);
  }
  /** Where the device wants to be told next (EVENT_IDX). */
  get availableEvent(): number {
    return this.#memory.getUint16(this.areas.device + 4 + 8 * this.size, true);
  }

  #table(buffers: readonly Buffer[]): Entry {
    const at = this.#heap.allocate(16 * buffers.length);
    this.#link(at, [...buffers.keys()], buffers);
    return { at, length: 16 * buffers.length, flags: DESCRIPTOR.indirect, link: 0 };
  }

  #link(table: number, slots: readonly number[], buffers: readonly Buffer[]): void {
    for (const [index, buffer] of buffers.entries()) {
      const next = slots[index + 1];
      const { at, length } = buffer;
      const flags = flagsOf(buffer) | (next === undefined ? 0 : DESCRIPTOR.next);
      this.describe(table, slots[index] ?? 0, { at, length, flags, link: next ?? 0 });
    }
  }
}

export class FakePackedRing implements DriverRing {
  readonly areas: {
    readonly descriptors: number;
    readonly driver: number;
    readonly device: number;
  };
  readonly size: number;
  readonly #memory: DataView;
  readonly #heap: Heap;
  readonly #slots = new Map<number, number>();
  #next = 0;
  #used = 0;
  #id = 0;

  constructor(host: FakeHost, heap: Heap, size: number) {
    this.size = size;
    this.#memory = view(host);
    this.#heap = heap;
    this.areas = {
      descriptors: heap.allocate(16 * size, 16),
      driver: heap.allocate(4, 4),
      device: heap.allocate(4, 4),
    };
  }

  add(buffers: readonly Buffer[], indirect: boolean): number {
    const id = this.#id;
    this.#id = (this.#id + 1) % this.size;
    const entries = indirect ? [this.#table(buffers)] : buffers.map(entryOf);
    const first = this.#next;
    for (const [index, entry] of entries.entries()) {
      const more = index + 1 < entries.length ? DESCRIPTOR.next : 0;
      if (index > 0) this.#put((first + index) % (2 * this.size), entry, id, more);
    }
    const [head] = entries;
    if (head) this.#put(first, head, id, entries.length > 1 ? DESCRIPTOR.next : 0);
    this.#next = (first + entries.length) % (2 * this.size);
    this.#slots.set(id, entries.length);
    return id;
  }

  used(): { id: number; length: number } | undefined {
    const at = this.areas.descriptors + 16 * (this.#used % this.size);
    const flags = this.#memory.getUint16(at + 14, true);
    const wrap = this.#used < this.size;
    if (((flags & 0x8000) !== 0) !== wrap || ((flags & 0x80) !== 0) !== wrap) return undefined;
    const id = this.#memory.getUint16(at + 12, true);
    const length = this.#memory.getUint32(at + 8, true);
    this.#used = (this.#used + (this.#slots.get(id) ?? 1)) % (2 * this.size);
    return { id, length };
  }

  wantAfter(count: number): void {
    const position = (this.#used + count - 1) % (2 * this.size);
    const wrap = position < this.size ? 0x8000 : 0;
    this.#memory.setUint16(this.areas.driver, (position % this.size) | wrap, true);
    this.#memory.setUint16(this.areas.driver + 2, 2, true);
  }
  quiet(on: boolean): void {
    this.#memory.setUint16(this.areas.driver + 2, on ? 1 : 0, true);
  }

  #table(buffers: readonly Buffer[]): Entry {
    const at = this.#heap.allocate(16 * buffers.length);
    for (const [index, buffer] of buffers.entries())
      this.#write(at + 16 * index, entryOf(buffer), 0, flagsOf(buffer));
    return { at, length: 16 * buffers.length, flags: DESCRIPTOR.indirect, link: 0 };
  }
  #put(position: number, entry: Entry, id: number, more: number): void {
    const wrap = position < this.size ? 0x0080 : 0x8000;
    const at = this.areas.descriptors + 16 * (position % this.size);
    this.#write(at, entry, id, entry.flags | more | wrap);
  }
  #write(at: number, entry: Entry, id: number, flags: number): void {
    this.#memory.setBigUint64(at, BigInt(entry.at), true);
    this.#memory.setUint32(at + 8, entry.length, true);
    this.#memory.setUint16(at + 12, id, true);
    this.#memory.setUint16(at + 14, flags, true);
  }
}

const entryOf = (buffer: Buffer): Entry => ({
  at: buffer.at,
  length: buffer.length,
  flags: flagsOf(buffer),
  link: 0,
});

export class FakeQueue {
  readonly ring: DriverRing;
  readonly #driver: FakeDriver;
  readonly #index: number;
  readonly #buffers = new Map<number, readonly Buffer[]>();

  constructor(driver: FakeDriver, index: number, ring: DriverRing) {
    this.#driver = driver;
    this.#index = index;
    this.ring = ring;
  }

  /** Buffers for the device to read, then sizes of those that it may write. */
  add(readable: readonly Uint8Array[], writable: readonly number[]): number {
    const { host, heap } = this.#driver;
    const buffers: Buffer[] = readable.map((bytes) => {
      const at = heap.allocate(bytes.length);
      host.memory.bytes.set(bytes, at);
      return { at, length: bytes.length, writable: false };
    });
    for (const length of writable)
      buffers.push({ at: heap.allocate(length), length, writable: true });
    return this.addBuffers(buffers);
  }
  addBuffers(buffers: readonly Buffer[]): number {
    const indirect = this.#driver.has(FEATURE.indirect) && buffers.length > 1;
    const id = this.ring.add(buffers, indirect);
    this.#buffers.set(id, buffers);
    return id;
  }
  kick(): void {
    this.#driver.kick(this.#index);
  }
  send(readable: readonly Uint8Array[], writable: readonly number[]): number {
    const id = this.add(readable, writable);
    this.kick();
    return id;
  }
  used(): Used | undefined {
    const found = this.ring.used();
    if (found === undefined) return undefined;
    const parts = (this.#buffers.get(found.id) ?? []).filter(({ writable }) => writable);
    const bytes = parts.flatMap(({ at, length }) => [
      ...this.#driver.host.memory.bytes.subarray(at, at + length),
    ]);
    return { ...found, bytes: Uint8Array.from(bytes) };
  }
  allUsed(): Used[] {
    const all: Used[] = [];
    for (let one = this.used(); one; one = this.used()) all.push(one);
    return all;
  }
}

const COMMON = { common: 1, notify: 2, isr: 3, device: 4 } as const;

export class FakeDriver {
  readonly host: FakeHost;
  readonly pci: FakePci;
  readonly heap: Heap;
  readonly queues: FakeQueue[] = [];
  features = 0n;
  readonly #options: FakeDriverOptions;

  constructor(host: FakeHost, options: FakeDriverOptions) {
    this.host = host;
    this.#options = options;
    this.pci = new FakePci(host, options.slot);
    this.heap = new Heap(host, options.memoryAt ?? 0x10000);
  }

  /** From reset to DRIVER_OK, with every queue set up. */
  start(): this {
    this.status = 0;
    this.#enableInterrupts();
    this.status = STATUS.acknowledge;
    this.status |= STATUS.driver;
    this.#negotiate();
    for (let index = 0; this.#select(index) > 0; index++) this.#setUp(index);
    this.status |= STATUS.driverOk;
    return this;
  }

  queue(index: number): FakeQueue {
    const found = this.queues[index];
    if (found === undefined) throw new Error(`the device has no queue ${index}`);
    return found;
  }
  has(feature: number): boolean {
    return ((this.features >> BigInt(feature)) & 1n) !== 0n;
  }
  kick(queue: number): void {
    if (this.#legacy) this.#out(0x10, queue, 2);
    else this.host.bus.store(this.pci.structure(COMMON.notify) + 4 * queue, queue, 2);
  }
  get status(): number {
    return this.#legacy ? this.#in(0x12, 1) : this.common(0x14, 1);
  }
  set status(value: number) {
    if (this.#legacy) this.#out(0x12, value, 1);
    else this.setCommon(0x14, value, 1);
  }
  /** Read to clear. */
  isr(): number {
    return this.#legacy ? this.#in(0x13, 1) : this.host.bus.load(this.pci.structure(COMMON.isr), 1);
  }
  config(offset: number, size: number): number {
    if (!this.#legacy) return this.host.bus.load(this.pci.structure(COMMON.device) + offset, size);
    return this.#in((this.#msix ? 0x18 : 0x14) + offset, size);
  }
  setConfig(offset: number, value: number, size: number): void {
    if (this.#legacy) this.#out((this.#msix ? 0x18 : 0x14) + offset, value, size);
    else this.host.bus.store(this.pci.structure(COMMON.device) + offset, value, size);
  }
  common(offset: number, size: number): number {
    return this.host.bus.load(this.pci.structure(COMMON.common) + offset, size);
  }
  setCommon(offset: number, value: number, size: number): void {
    this.host.bus.store(this.pci.structure(COMMON.common) + offset, value, size);
  }
  /** Messages received so far, as vectors. */
  get vectors(): number[] {
    return this.host.interrupts.messages.map(({ data }) => data - FIRST_MESSAGE);
  }

  get #legacy(): boolean {
    return this.#options.interface === "legacy";
  }
  get #msix(): boolean {
    return this.#options.interrupts === "msix";
  }
  #in(offset: number, size: number): number {
    return this.host.bus.in(this.pci.bar(0) + offset, size);
  }
  #out(offset: number, value: number, size: number): void {
    this.host.bus.out(this.pci.bar(0) + offset, value, size);
  }

  #enableInterrupts(): void {
    if (this.#msix) this.pci.enableMsix(8);
    if (this.#options.interrupts === "msi") this.pci.enableMsi();
  }

  #negotiate(): void {
    const wanted = [...(this.#options.features ?? []), ...(this.#legacy ? [] : [FEATURE.version1])];
    const offered = this.offered();
    for (const bit of wanted) this.features |= offered & (1n << BigInt(bit));
    if (this.#legacy) {
      this.#out(0x04, Number(this.features & 0xffffffffn), 4);
      return;
    }
    this.acceptFeatures(this.features);
    this.status |= STATUS.featuresOk;
    if (!(this.status & STATUS.featuresOk)) throw new Error("the device refused the features");
  }
  offered(): bigint {
    if (this.#legacy) return BigInt(this.#in(0x00, 4));
    const words = [0, 1].map((word) => {
      this.setCommon(0x00, word, 4);
      return BigInt(this.common(0x04, 4));
    });
    return (words[0] ?? 0n) | ((words[1] ?? 0n) << 32n);
  }
  acceptFeatures(features: bigint): void {
    for (const word of [0, 1]) {
      this.setCommon(0x08, word, 4);
      this.setCommon(0x0c, Number((features >> BigInt(32 * word)) & 0xffffffffn), 4);
    }
  }

  /** The size of the queue; 0 where there is none. */
  #select(index: number): number {
    if (this.#legacy) {
      this.#out(0x0e, index, 2);
      return this.#in(0x0c, 2);
    }
    this.setCommon(0x16, index, 2);
    return this.common(0x18, 2);
  }

  #setUp(index: number): void {
    const size = this.#select(index);
    const vector = this.#msix ? index + 1 : NO_VECTOR;
    if (this.#legacy) this.#setUpLegacy(index, size, vector);
    else this.#setUpModern(index, this.#options.queueSize ?? size, vector);
  }

  #setUpLegacy(index: number, size: number, vector: number): void {
    const ring = new FakeSplitRing(this.host, this.heap, size);
    this.queues[index] = new FakeQueue(this, index, ring);
    this.#out(0x08, ring.areas.descriptors / 4096, 4);
    if (!this.#msix) return;
    this.#out(0x14, 0, 2);
    this.#out(0x16, vector, 2);
  }

  #setUpModern(index: number, size: number, vector: number): void {
    this.setCommon(0x18, size, 2);
    const Ring = this.has(FEATURE.packed) ? FakePackedRing : FakeSplitRing;
    const ring = new Ring(this.host, this.heap, size);
    this.queues[index] = new FakeQueue(this, index, ring);
    const { descriptors, driver, device } = ring.areas;
    for (const [at, value] of [descriptors, driver, device].entries()) {
      this.setCommon(0x20 + 8 * at, value, 4);
      this.setCommon(0x24 + 8 * at, 0, 4);
    }
    if (this.#msix) {
      this.setCommon(0x10, 0, 2);
      this.setCommon(0x1a, vector, 2);
    }
    this.setCommon(0x1c, 1, 2);
  }
}

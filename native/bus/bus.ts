// The JavaScript side of the bus: serves what vCPU threads posted, rang and asked, in the order of
// their tickets (native/core/bus/wire.h says why that is all the order there is).
import type { NativeMachine } from "../addon.js";
import type {
  Bus,
  InterruptLine,
  Range,
  RangeHandler,
  RangeSpec,
  ReadWay,
  RegisterWays,
  WriteWay,
} from "../types.js";
import * as wire from "./wire.js";

const SPACE = { pio: 0, mmio: 1 } as const;
const READ: Record<ReadWay, number> = {
  direct: 0,
  shadow: 1,
  stable: 2,
  latch: 3,
  configuration: 4,
  ones: 5,
};
const WRITE: Record<WriteWay, number> = { direct: 0, posted: 1, doorbell: 2, ignored: 3, latch: 4 };

/** One call serves no more than this, so that the event loop gets its turn. */
const MOST_AT_ONCE = 512;
const ALL_ONES: Record<number, number> = { 1: 0xff, 2: 0xffff, 4: 0xffffffff };

const allOnes = (size: number): number => ALL_ONES[size] ?? 0xffffffff;

/** A handler's mistake: the VM process hears of it, the guest does not wait for it. */
const report = (error: unknown): void => {
  setImmediate(() => {
    throw error;
  });
};

class MappedRange implements Range {
  readonly spec: RangeSpec;
  readonly shadow: DataView;
  readonly handler: RangeHandler;
  readonly words: Uint32Array;
  readonly #native: NativeMachine;
  readonly #id: number;

  constructor(
    native: NativeMachine,
    id: number,
    block: ArrayBuffer,
    spec: RangeSpec,
    handler: RangeHandler,
  ) {
    this.#native = native;
    this.#id = id;
    this.spec = spec;
    this.handler = handler;
    this.words = new Uint32Array(block, 0, wire.SHADOW_OFFSET / 4);
    this.shadow = new DataView(block, wire.SHADOW_OFFSET, spec.length);
  }

  move(base: number): void {
    this.#native.moveRange(this.#id, base);
  }

  enable(on: boolean): void {
    this.#native.enableRange(this.#id, on);
  }

  remove(): void {
    this.#native.removeRange(this.#id);
  }
}

export class SharedBus implements Bus {
  readonly #native: NativeMachine;
  readonly #lineId: (line: InterruptLine) => number;
  readonly #words: Uint32Array;
  readonly #vcpus: readonly wire.VcpuWords[];
  readonly #ranges: (MappedRange | undefined)[] = [];
  /** The vCPU that was served last: most often the next one too. */
  #last = 0;

  constructor(native: NativeMachine, lineId: (line: InterruptLine) => number) {
    this.#native = native;
    this.#lineId = lineId;
    this.#words = new Uint32Array(native.shared());
    this.#vcpus = Array.from({ length: wire.vcpuCount(this.#words.length) }, (_, index) =>
      wire.vcpuWords(index),
    );
  }

  map(spec: RangeSpec, handler: RangeHandler): Range {
    const rows = (spec.ways ?? []).toSorted((a, b) => a.at - b.at);
    const ways = rows.flatMap((entry) => this.#row(entry));
    const { name, space, base, length } = spec;
    const [id, block] = this.#native.mapRange(name, SPACE[space], base, length, ways);
    const range = new MappedRange(this.#native, id, block, spec, handler);
    this.#ranges[id] = range;
    return range;
  }

  #row({ at, length, read = "direct", write = "direct", ...more }: RegisterWays): number[] {
    const { clears, mask = 0, ecam = 0, rings = -1 } = more;
    const line = clears === undefined ? -1 : this.#lineId(clears.line);
    const clear = (clears?.mask ?? 0) >>> 0;
    return [at, length, READ[read], WRITE[write], clear, line, mask, ecam, rings];
  }

  /** Serves until the next ticket is not there yet, or its bound is reached. */
  serve(): void {
    for (let left = MOST_AT_ONCE; left > 0; left--) if (!this.#serveNext()) return;
  }

  #serveNext(): boolean {
    const words = this.#words;
    const ticket = Atomics.load(words, wire.SERVED);
    if (Atomics.load(words, wire.ISSUED) === ticket) return false;
    const count = this.#vcpus.length;
    for (let i = 0; i < count; i++) {
      const index = (this.#last + i) % count;
      if (!this.#serveVcpu(index, ticket)) continue;
      this.#last = index;
      return true;
    }
    return false;
  }

  #serveVcpu(index: number, ticket: number): boolean {
    const vcpu = this.#vcpus[index];
    if (vcpu === undefined) return false;
    const words = this.#words;
    const tail = words[vcpu.tail] ?? 0;
    const entry = vcpu.ring + 4 * (tail % wire.RING_ENTRIES);
    if (Atomics.load(words, vcpu.head) !== tail && words[entry] === ticket) {
      this.#servePosted(index, vcpu, entry, ticket, tail);
      return true;
    }
    if (Atomics.load(words, vcpu.mail) === wire.MAIL_ASKED && words[vcpu.mail + 1] === ticket) {
      const value = this.#ask(vcpu.mail + 2);
      Atomics.store(words, wire.SERVED, (ticket + 1) >>> 0);
      this.#native.answer(index, value);
      return true;
    }
    return false;
  }

  #servePosted(
    index: number,
    vcpu: wire.VcpuWords,
    entry: number,
    ticket: number,
    tail: number,
  ): void {
    const words = this.#words;
    const header = words[entry + 1] ?? 0;
    const range = this.#ranges[wire.rangeOf(header)];
    if (range !== undefined) {
      this.#deliver(range, header, words[entry + 2] ?? 0, words[entry + 3] ?? 0, ticket);
      Atomics.sub(range.words, wire.RANGE_PENDING, 1);
    }
    const now = (tail + 1) >>> 0;
    Atomics.store(words, vcpu.tail, now);
    Atomics.store(words, wire.SERVED, (ticket + 1) >>> 0);
    // Pairs with the vCPU's wish, then its look at the tail.
    const wish = Atomics.load(words, vcpu.blocked);
    if (wish === 0) return;
    const left = (Atomics.load(words, vcpu.head) - now) >>> 0;
    const most = wish === wire.WISH_ROOM ? wire.RING_ENTRIES / 2 : 0;
    if (left <= most) this.#native.unblock(index);
  }

  #deliver(
    range: MappedRange,
    header: number,
    offset: number,
    value: number,
    ticket: number,
  ): void {
    try {
      if (wire.kindOf(header) === wire.KIND_WRITE) {
        range.handler.write(offset, wire.sizeOf(header), value);
        return;
      }
      const slot = wire.slotOf(header);
      // Emptied before the handler looks at the guest's rings: what is rung from now on is new.
      if (slot !== wire.NO_SLOT)
        Atomics.compareExchange(range.words, wire.doorbellTicket(slot), ticket, 0);
      if (range.handler.doorbell !== undefined) range.handler.doorbell(offset, value);
      else range.handler.write(offset, wire.sizeOf(header), value);
    } catch (error) {
      report(error);
    }
  }

  /** `at`: header, offset, value. Never throws: a vCPU waits. */
  #ask(at: number): number {
    const header = this.#words[at] ?? 0;
    const offset = this.#words[at + 1] ?? 0;
    const size = wire.sizeOf(header);
    const range = this.#ranges[wire.rangeOf(header)];
    if (range === undefined) return allOnes(size);
    try {
      if (wire.kindOf(header) === wire.KIND_READ)
        return (range.handler.read(offset, size) & allOnes(size)) >>> 0;
      range.handler.write(offset, size, this.#words[at + 2] ?? 0);
      return 0;
    } catch (error) {
      report(error);
      return allOnes(size);
    }
  }
}

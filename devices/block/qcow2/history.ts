// For tests: random histories of a guest on a disk, and what it may expect to find afterwards, also
// when the power was lost amid them.
import type { Random } from "../fake-storage.js";
import { type Qcow2Rig, stamped, stampsOf } from "./rig.js";

const SECTOR = 512;

interface Write {
  readonly stamp: number;
  /** A hint: what was there before is as good. */
  readonly hint: boolean;
  /** The storage's time when it was asked for, and when the guest heard of its end. */
  readonly from: number;
  to: number;
}

export interface HistoryOptions {
  readonly operations: number;
  /** At most, at once. */
  readonly together: number;
  readonly cancels?: boolean;
}

/** What each sector may hold, by all that was done to it. */
export class History {
  readonly #rig: Qcow2Rig;
  readonly #random: Random;
  readonly #sectors: Write[][];
  readonly #flushes: { readonly from: number; to: number }[] = [];
  #stamp = 1_000_000;

  /** `first`: the disk's contents before, sectors full of one number. */
  constructor(rig: Qcow2Rig, random: Random, first: Uint8Array) {
    this.#rig = rig;
    this.#random = random;
    this.#sectors = stampsOf(first).map((stamp) => [
      { stamp: stamp ?? 0, hint: false, from: -1, to: -1 },
    ]);
  }

  /** Operations that do not overlap, so that their order does not matter, then the next such. */
  async run({ operations, together, cancels = false }: HistoryOptions): Promise<void> {
    for (let left = operations; left > 0; ) {
      const taken = new Set<number>();
      const batch: Promise<void>[] = [];
      for (let count = 1 + this.#random(together); count > 0 && left > 0; count--, left--)
        batch.push(this.#one(taken));
      if (cancels && this.#random(8) === 0) {
        await new Promise((resolve) => setImmediate(resolve));
        this.#rig.disk.cancel();
        continue; // what was under way may have happened or not
      }
      await Promise.all(batch);
    }
  }

  async #one(taken: Set<number>): Promise<void> {
    const sectors = this.#sectors.length;
    const from = this.#random(sectors);
    const most = [1, 8, 64, 256][this.#random(4)] ?? 1;
    const to = Math.min(sectors, from + 1 + this.#random(most));
    for (let i = from; i < to; i++) if (taken.has(i)) return;
    for (let i = from; i < to; i++) taken.add(i);
    const [offset, length] = [from * SECTOR, (to - from) * SECTOR];
    switch (this.#random(10)) {
      case 0:
        return this.#flush();
      case 1:
        return this.#noted(from, to, 0, true, () => this.#rig.discard(offset, length));
      case 2: {
        const unmap = this.#random(2) === 0;
        return this.#noted(from, to, 0, false, () => this.#rig.zero(offset, length, unmap));
      }
      case 3:
        return this.#check(await this.#rig.read(offset, length), from);
      default: {
        const stamp = ++this.#stamp;
        const bytes = stamped(length, stamp);
        return this.#noted(from, to, stamp, false, () => this.#rig.write(offset, bytes));
      }
    }
  }

  async #flush(): Promise<void> {
    const flush = { from: this.#rig.storage.time, to: Number.POSITIVE_INFINITY };
    this.#flushes.push(flush);
    await this.#rig.flush();
    flush.to = this.#rig.storage.time;
  }

  async #noted(
    from: number,
    to: number,
    stamp: number,
    hint: boolean,
    run: () => Promise<void>,
  ): Promise<void> {
    const time = this.#rig.storage.time;
    const one: Write = { stamp, hint, from: time, to: Number.POSITIVE_INFINITY };
    for (const writes of this.#sectors.slice(from, to)) writes.push(one);
    await run();
    one.to = this.#rig.storage.time;
  }

  /** Throws where a sector holds what it cannot, everything asked for having ended. */
  check(bytes: Uint8Array): void {
    this.#check(bytes, 0);
  }

  #check(bytes: Uint8Array, first: number): void {
    for (const [index, stamp] of stampsOf(bytes).entries()) {
      const writes = this.#sectors[first + index] ?? [];
      const allowed = possible(writes, (one) => one.to !== Number.POSITIVE_INFINITY);
      if (stamp === undefined || !allowed.has(stamp))
        throw new Error(`sector ${first + index}: ${stamp}, not one of ${[...allowed]}`);
    }
  }

  /** As check(), after a loss of power: what was flushed is there, what came later may be. */
  checkAfterLoss(bytes: Uint8Array, time: number): void {
    const flush = this.#flushes.findLast((one) => one.to <= time);
    for (const [index, stamp] of stampsOf(bytes).entries()) {
      const writes = (this.#sectors[index] ?? []).filter((one) => one.from <= time);
      const allowed = possible(writes, (one) => one.to <= (flush?.from ?? -1));
      if (stamp === undefined || !allowed.has(stamp))
        throw new Error(`sector ${index} at ${time}: ${stamp}, not one of ${[...allowed]}`);
    }
  }
}

/** From the last write on that is certain and no hint, which leaves what was before it possible. */
function possible(writes: readonly Write[], certain: (one: Write) => boolean): Set<number> {
  const from = writes.findLastIndex((one) => !one.hint && certain(one));
  return new Set(writes.slice(Math.max(0, from)).map(({ stamp }) => stamp));
}

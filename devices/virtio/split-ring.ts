// VIRTIO 1.2, "Split Virtqueues".
import type { RingChain } from "./chain.js";
import {
  ChainWalk,
  passed,
  type Ring,
  type RingPosition,
  type RingSpec,
  splitDescriptor,
} from "./ring.js";
import { RingArea } from "./ring-area.js";
import { AVAILABLE, DESCRIPTOR, USED } from "./specification.js";

export const splitAreas = (size: number) => ({
  descriptors: { align: 16, length: DESCRIPTOR.size * size },
  driver: { align: 2, length: AVAILABLE.ring + AVAILABLE.entry * size + 2 },
  device: { align: 4, length: USED.ring + USED.entry * size + 2 },
});

export class SplitRing implements Ring {
  fault: string | undefined;
  readonly #spec: RingSpec;
  readonly #descriptors: RingArea;
  readonly #available: RingArea;
  readonly #used: RingArea;
  /** Free-running, as the ring's own. */
  #next: number;
  #usedIndex: number;
  /** What the driver has been shown. */
  #published: number;

  private constructor(
    spec: RingSpec,
    [descriptors, available, used]: readonly [RingArea, RingArea, RingArea],
    { next, used: usedIndex }: RingPosition,
  ) {
    this.#spec = spec;
    this.#descriptors = descriptors;
    this.#available = available;
    this.#used = used;
    this.#next = next;
    this.#usedIndex = usedIndex;
    this.#published = usedIndex;
  }

  /** undefined where a part of it is not in memory. */
  static open(spec: RingSpec, position: RingPosition = { next: 0, used: 0 }) {
    const areas = splitAreas(spec.size);
    const map = (name: keyof typeof areas) =>
      RingArea.map(spec.memory, spec[name], areas[name].length);
    const [descriptors, available, used] = [map("descriptors"), map("driver"), map("device")];
    if (!descriptors || !available || !used) return undefined;
    return new SplitRing(spec, [descriptors, available, used], position);
  }

  take(): RingChain | undefined {
    if (this.fault !== undefined) return undefined;
    const { size } = this.#spec;
    const waiting = (this.#available.u16(AVAILABLE.index) - this.#next) & 0xffff;
    if (waiting === 0) return undefined;
    if (waiting > size) return this.#fail(`${waiting} buffers available in a ring of ${size}`);
    const slot = this.#next % size;
    const head = this.#available.u16(AVAILABLE.ring + AVAILABLE.entry * slot);
    this.#next = (this.#next + 1) & 0xffff;
    const walk = new ChainWalk(this.#spec);
    const wrong = this.#walk(walk, head);
    if (wrong !== undefined) return this.#fail(wrong);
    const { readable, writable } = walk;
    return { id: head, slots: 1, readable, writable };
  }

  put({ id }: RingChain, written: number): void {
    const at = USED.ring + USED.entry * (this.#usedIndex % this.#spec.size);
    this.#used.setU32(at, id);
    this.#used.setU32(at + 4, written);
    this.#usedIndex = (this.#usedIndex + 1) & 0xffff;
  }

  publish(inFlight: number): boolean {
    const old = this.#published;
    const now = this.#usedIndex;
    if (now === old) return false;
    this.#published = now;
    // Ordered: entries, index, then the driver's wish (Atomics are sequentially consistent).
    this.#used.setU16(USED.index, now);
    this.#used.written();
    if (this.#spec.notifyOnEmpty && inFlight === 0 && this.#empty()) return true;
    if (this.#spec.eventIndex) return passed(this.#usedEvent(), now, old);
    return !(this.#available.u16(AVAILABLE.flags) & AVAILABLE.noInterrupt);
  }

  arm(): boolean {
    if (this.fault !== undefined) return false;
    if (this.#spec.eventIndex) {
      this.#used.setU16(USED.ring + USED.entry * this.#spec.size, this.#next);
      this.#used.written();
    }
    return !this.#empty();
  }

  position(): RingPosition {
    return { next: this.#next, used: this.#usedIndex };
  }

  #empty(): boolean {
    return this.#available.u16(AVAILABLE.index) === this.#next;
  }
  #usedEvent(): number {
    return this.#available.u16(AVAILABLE.ring + AVAILABLE.entry * this.#spec.size);
  }

  #walk(walk: ChainWalk, head: number): string | undefined {
    const { size } = this.#spec;
    const word = (offset: number): number => this.#descriptors.u32(offset);
    for (let index = head, steps = 0; steps < size; steps++) {
      if (index >= size) return `descriptor ${index} of ${size}`;
      const one = splitDescriptor(word, index * DESCRIPTOR.size);
      if (one.flags & DESCRIPTOR.indirect) return walk.addTable(one, true);
      const wrong = walk.add(one);
      if (wrong !== undefined || !(one.flags & DESCRIPTOR.next)) return wrong;
      index = one.link;
    }
    return "a loop of descriptors";
  }

  #fail(why: string): undefined {
    this.fault = why;
    return undefined;
  }
}

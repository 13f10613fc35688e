// VIRTIO 1.2, "Packed Virtqueues". A position is a slot and the wrap counter's value there, as one
// number from 0 to 2 * size - 1: the first round, whose counter is 1, comes first.
import type { RingChain } from "./chain.js";
import {
  ChainWalk,
  packedDescriptor,
  type Ring,
  type RingPosition,
  type RingSpec,
} from "./ring.js";
import { RingArea } from "./ring-area.js";
import { DESCRIPTOR, EVENT } from "./specification.js";

export const packedAreas = (size: number) => ({
  descriptors: { align: 16, length: DESCRIPTOR.size * size },
  driver: { align: 4, length: EVENT.size },
  device: { align: 4, length: EVENT.size },
});

const OFFSET_MASK = 0x7fff;
const FLAGS = 14;

export class PackedRing implements Ring {
  fault: string | undefined;
  readonly #spec: RingSpec;
  readonly #descriptors: RingArea;
  readonly #driver: RingArea;
  #next: number;
  #used: number;
  #published: number;

  private constructor(
    spec: RingSpec,
    descriptors: RingArea,
    driver: RingArea,
    { next, used }: RingPosition,
  ) {
    this.#spec = spec;
    this.#descriptors = descriptors;
    this.#driver = driver;
    this.#next = next;
    this.#used = used;
    this.#published = used;
  }

  static open(spec: RingSpec, position: RingPosition = { next: 0, used: 0 }) {
    const areas = packedAreas(spec.size);
    const map = (name: keyof typeof areas) =>
      RingArea.map(spec.memory, spec[name], areas[name].length);
    const [descriptors, driver, device] = [map("descriptors"), map("driver"), map("device")];
    if (!descriptors || !driver || !device) return undefined;
    // We are told of every buffer: a doorbell costs the driver little.
    device.setU32(EVENT.offset, EVENT.enable);
    device.written();
    return new PackedRing(spec, descriptors, driver, position);
  }

  take(): RingChain | undefined {
    if (this.fault !== undefined || !this.#isAvailable(this.#next)) return undefined;
    const { size } = this.#spec;
    const walk = new ChainWalk(this.#spec);
    const word = (offset: number): number => this.#descriptors.u32(offset);
    for (let slots = 1; slots <= size; slots++) {
      const slot = this.#advance(this.#next, slots - 1) % size;
      const one = packedDescriptor(word, slot * DESCRIPTOR.size);
      const isTable = (one.flags & DESCRIPTOR.indirect) !== 0;
      const wrong = isTable ? walk.addTable(one, false) : walk.add(one);
      if (wrong !== undefined) return this.#fail(wrong);
      if (isTable || !(one.flags & DESCRIPTOR.next)) return this.#taken(walk, one.link, slots);
    }
    return this.#fail("a chain longer than its ring");
  }

  put({ id, slots }: RingChain, written: number): void {
    const { size } = this.#spec;
    const at = (this.#used % size) * DESCRIPTOR.size;
    const wrap = this.#wrapOf(this.#used) ? DESCRIPTOR.available | DESCRIPTOR.used : 0;
    const wrote = written > 0 ? DESCRIPTOR.write : 0;
    this.#descriptors.setU32(at + 8, written);
    this.#descriptors.setU16(at + 12, id);
    // The flags come last: with them the driver may take the descriptor.
    this.#descriptors.setU16(at + FLAGS, wrap | wrote);
    this.#used = this.#advance(this.#used, slots);
  }

  publish(): boolean {
    const { size } = this.#spec;
    const old = this.#published;
    const moved = this.#distance(old, this.#used);
    this.#published = this.#used;
    if (moved === 0) return false;
    this.#descriptors.written();
    const flags = this.#driver.u16(EVENT.flags) & 3;
    if (flags !== EVENT.descriptor || !this.#spec.eventIndex) return flags !== EVENT.disable;
    const event = this.#driver.u16(EVENT.offset);
    const offset = event & OFFSET_MASK;
    if (offset >= size) return true; // nonsense: rather once too often
    return this.#distance(old, event & ~OFFSET_MASK ? offset : offset + size) < moved;
  }

  /** The device area asks for every notification, always. */
  arm(): boolean {
    return this.fault === undefined && this.#isAvailable(this.#next);
  }

  position(): RingPosition {
    return { next: this.#next, used: this.#used };
  }

  /** The wrap counter at a position. */
  #wrapOf(position: number): boolean {
    return position < this.#spec.size;
  }
  #advance(position: number, slots: number): number {
    return (position + slots) % (2 * this.#spec.size);
  }
  #distance(from: number, to: number): number {
    const around = 2 * this.#spec.size;
    return (to - from + around) % around;
  }

  #isAvailable(position: number): boolean {
    const slot = position % this.#spec.size;
    const flags = this.#descriptors.u16(slot * DESCRIPTOR.size + FLAGS);
    const available = (flags & DESCRIPTOR.available) !== 0;
    const used = (flags & DESCRIPTOR.used) !== 0;
    return available === this.#wrapOf(position) && used !== available;
  }

  #taken({ readable, writable }: ChainWalk, id: number, slots: number): RingChain {
    this.#next = this.#advance(this.#next, slots);
    return { id, slots, readable, writable };
  }

  #fail(why: string): undefined {
    this.fault = why;
    return undefined;
  }
}

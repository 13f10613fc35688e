// One virtqueue: what the driver sets up, the ring behind it, and the chains that are under way.
import type { GuestMemory } from "../../native/types.js";
import { flag, int, list, record, StateError, type StateOf, u16 } from "../state.js";
import { Chain, type RingChain, Segments } from "./chain.js";
import type { DriverQueue, QueueSpec } from "./device.js";
import { PackedRing, packedAreas } from "./packed-ring.js";
import type { Ring, RingPosition, RingSpec } from "./ring.js";
import { isRam } from "./ring-area.js";
import { LEGACY_ALIGN, MAX_CHAIN, NO_VECTOR } from "./specification.js";
import { SplitRing, splitAreas } from "./split-ring.js";

const address = int(0, Number.MAX_SAFE_INTEGER);
const pieces = list(address, 2 * MAX_CHAIN);
const heldChain = record({ id: u16, slots: u16, readable: pieces, writable: pieces });
export const queueState = record({
  size: u16,
  vector: u16,
  enabled: flag,
  descriptors: address,
  driver: address,
  device: address,
  next: u16,
  used: u16,
  /** Taken and not given back. */
  held: list(heldChain, 0x8000),
});
export type QueueState = StateOf<typeof queueState>;

/** What negotiation has decided about rings. */
export interface RingOptions {
  readonly packed: boolean;
  readonly indirect: boolean;
  readonly eventIndex: boolean;
  readonly notifyOnEmpty: boolean;
}

/** What a queue needs of its device. */
export interface QueueHost {
  readonly memory: GuestMemory;
  ringOptions(): RingOptions;
  /** Chains may be taken now. */
  serving(): boolean;
  interrupt(queue: VirtQueue): void;
  /** publish() is wanted at the end of this turn. */
  publishSoon(queue: VirtQueue): void;
  notifySoon(queue: VirtQueue): void;
  fault(queue: VirtQueue, why: string): void;
}

export type QueueArea = "descriptors" | "driver" | "device";

export class VirtQueue implements DriverQueue {
  readonly name: string;
  readonly index: number;
  readonly maxSize: number;
  /** As the driver wrote them. */
  size: number;
  vector = NO_VECTOR;
  readonly #host: QueueHost;
  readonly #areas: Record<QueueArea, number> = { descriptors: 0, driver: 0, device: 0 };
  readonly #underway = new Set<Chain>();
  #ring: Ring | undefined;

  constructor({ name, maxSize }: QueueSpec, index: number, host: QueueHost) {
    this.name = name;
    this.index = index;
    this.maxSize = maxSize;
    this.size = maxSize;
    this.#host = host;
  }

  get enabled(): boolean {
    return this.#ring !== undefined;
  }
  get inFlight(): number {
    return this.#underway.size;
  }

  area(name: QueueArea): number {
    return this.#areas[name];
  }
  /** Ignored once the queue is enabled. */
  setArea(name: QueueArea, at: number): void {
    if (!this.enabled) this.#areas[name] = at;
  }

  /** "Legacy Interfaces: A Note on Virtqueue Layout"; 0 takes the queue away. */
  setLegacyPage(page: number): void {
    this.reset(this.vector);
    if (page === 0) return;
    const { descriptors, driver } = splitAreas(this.size);
    const at = page * LEGACY_ALIGN;
    this.#areas.descriptors = at;
    this.#areas.driver = at + descriptors.length;
    const end = this.#areas.driver + driver.length;
    this.#areas.device = Math.ceil(end / LEGACY_ALIGN) * LEGACY_ALIGN;
    this.enable();
  }
  get legacyPage(): number {
    return this.enabled ? Math.floor(this.#areas.descriptors / LEGACY_ALIGN) : 0;
  }

  enable(): void {
    if (this.enabled) return;
    const wrong = this.#open({ next: 0, used: 0 });
    if (wrong !== undefined) this.#host.fault(this, wrong);
  }

  take(): Chain | undefined {
    const ring = this.#ring;
    while (ring !== undefined && this.#host.serving()) {
      const found = ring.take();
      if (found) return this.#begin(found);
      if (ring.fault !== undefined) return this.#fault(ring.fault);
      if (!ring.arm()) return undefined;
    }
    return undefined;
  }

  later(): void {
    this.#host.notifySoon(this);
  }

  /** Shows the driver what was given back since the last time. */
  publish(): void {
    if (this.#ring?.publish(this.#underway.size)) this.#host.interrupt(this);
  }

  /** Chains under way are forgotten: the model gives them back to nobody. */
  reset(vector = NO_VECTOR): void {
    this.#ring = undefined;
    this.#underway.clear();
    this.size = this.maxSize;
    this.vector = vector;
    for (const name of ["descriptors", "driver", "device"] as const) this.#areas[name] = 0;
  }

  save(): QueueState {
    const { next, used } = this.#ring?.position() ?? { next: 0, used: 0 };
    const held = [...this.#underway].map(({ ring: { id, slots, readable, writable } }) => ({
      id,
      slots,
      readable: readable.flat,
      writable: writable.flat,
    }));
    const { size, vector, enabled } = this;
    return { size, vector, enabled, ...this.#areas, next, used, held };
  }

  /** Throws StateError where it cannot be this queue's. */
  check({ size, held }: QueueState, path: string): void {
    if (size < 1 || size > this.maxSize) throw new StateError(`${path}.size: another queue's`);
    for (const { readable, writable } of held)
      for (const flat of [readable, writable])
        for (let i = 0; i < flat.length; i += 2)
          if (!isRam(this.#host.memory, flat[i] ?? 0, flat[i + 1] ?? Number.POSITIVE_INFINITY))
            throw new StateError(`${path}.held: not in memory`);
  }

  /** The chains that were under way; a ring that is not in memory any more is a fault. */
  restore(state: QueueState): Chain[] {
    this.reset(state.vector);
    this.size = state.size;
    const { descriptors, driver, device } = state;
    Object.assign(this.#areas, { descriptors, driver, device });
    const wrong = state.enabled ? this.#open(state) : undefined;
    if (wrong !== undefined) this.#host.fault(this, wrong);
    return state.held.flatMap(({ id, slots, readable, writable }) => {
      const chain = { id, slots, readable: segments(readable), writable: segments(writable) };
      return this.#begin(chain) ?? [];
    });
  }

  #open(position: RingPosition): string | undefined {
    const { packed, ...options } = this.#host.ringOptions();
    const { memory } = this.#host;
    const areas = (packed ? packedAreas : splitAreas)(this.size);
    for (const name of ["descriptors", "driver", "device"] as const) {
      const { align, length } = areas[name];
      const at = this.#areas[name];
      if (at % align !== 0) return `its ${name} area at 0x${at.toString(16)} is not aligned`;
      if (!isRam(memory, at, length))
        return `its ${name} area at 0x${at.toString(16)} is not in memory`;
    }
    const spec: RingSpec = { memory, size: this.size, ...this.#areas, ...options };
    this.#ring = (packed ? PackedRing : SplitRing).open(spec, position);
    return this.#ring ? undefined : "it is not in memory";
  }

  #begin(found: RingChain): Chain | undefined {
    if (this.#underway.size >= this.size) return this.#fault("more buffers under way than it has");
    const chain = new Chain(found, this.#host.memory, (one, written) => this.#finish(one, written));
    this.#underway.add(chain);
    return chain;
  }

  #finish(chain: Chain, written: number): void {
    if (!this.#underway.delete(chain) || this.#ring === undefined) return;
    this.#ring.put(chain.ring, written);
    this.#host.publishSoon(this);
  }

  #fault(why: string): undefined {
    this.#host.fault(this, why);
    return undefined;
  }
}

function segments(flat: readonly number[]): Segments {
  const out = new Segments();
  for (let i = 0; i < flat.length; i += 2) out.push(flat[i] ?? 0, flat[i + 1] ?? 0);
  return out;
}

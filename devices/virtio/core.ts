// The device side of the virtio protocol, whatever carries it: feature negotiation, the status
// machine, queues and their service. A transport shows it as registers and sends its interrupts.
//
//   reset ── features ──▶ FEATURES_OK (virtio 1) ── queues ──▶ DRIVER_OK ──▶ serving
//   a driver that breaks the rules: NEEDS_RESET, one line in the log, and nothing until it resets
import type { Clock, GuestMemory } from "../../native/types.js";
import { int, list, record, StateError, u16, u32 } from "../state.js";
import type { Chain } from "./chain.js";
import type { VirtioDevice, VirtioModel } from "./device.js";
import { queueState, type RingOptions, VirtQueue } from "./queue.js";
import { FEATURE, LEGACY_ONLY_FEATURES, maskOf, NO_VECTOR, STATUS } from "./specification.js";

export interface VirtioWires {
  readonly memory: GuestMemory;
  readonly clock: Clock;
  interruptQueue(vector: number): void;
  interruptConfig(vector: number): void;
  log(text: string): void;
}

const RING_FEATURES = [
  ...LEGACY_ONLY_FEATURES,
  FEATURE.indirect,
  FEATURE.eventIndex,
  FEATURE.version1,
  FEATURE.packed,
];

export const coreState = record({
  status: int(0, 0xff),
  features: list(u32, 2, 2),
  configVector: u16,
  generation: int(0, 0xff),
  queues: list(queueState, 1024),
});

export class VirtioCore<Options> {
  readonly name: string;
  readonly queues: readonly VirtQueue[];
  readonly model: VirtioModel;
  readonly offered: bigint;
  configVector = NO_VECTOR;
  readonly #device: VirtioDevice<Options>;
  readonly #wires: VirtioWires;
  readonly #toPublish = new Set<VirtQueue>();
  readonly #toNotify = new Set<VirtQueue>();
  /** Given back to the model at the next wake(). */
  #held: [VirtQueue, Chain][] = [];
  #features = 0n;
  #status = 0;
  #generation = 0;
  #turns = 0;
  #resting = false;
  #disposed = false;

  constructor(name: string, device: VirtioDevice<Options>, options: Options, wires: VirtioWires) {
    this.name = name;
    this.#device = device;
    this.#wires = wires;
    this.offered = maskOf([...device.features(options), ...RING_FEATURES]);
    this.queues = this.#makeQueues(device.queues(options));
    this.model = device.create(options, {
      memory: wires.memory,
      clock: wires.clock,
      queues: this.queues,
      has: (feature) => this.has(feature),
      configChanged: () => this.#configChanged(),
      log: (text) => wires.log(`${name}: ${text}`),
    });
  }

  get status(): number {
    return this.#status;
  }
  get generation(): number {
    return this.#generation;
  }
  get configLength(): number {
    return this.#device.configLength;
  }
  has(feature: number): boolean {
    return ((this.#features >> BigInt(feature)) & 1n) !== 0n;
  }

  /** 32 bits each: 0 for the low ones. */
  offeredWord(word: number, legacy: boolean): number {
    const hidden = legacy ? 0n : maskOf(LEGACY_ONLY_FEATURES);
    return wordOf(this.offered & ~hidden, word);
  }
  acceptedWord(word: number): number {
    return wordOf(this.#features, word);
  }
  /** Ignored once negotiation is over. A legacy driver's wishes are cut to what is offered. */
  accept(word: number, value: number, legacy: boolean): void {
    if (this.#status & (STATUS.featuresOk | STATUS.driverOk) || word > 1) return;
    const shift = BigInt(32 * word);
    const kept = this.#features & ~(0xffffffffn << shift);
    const wanted = kept | (BigInt(value >>> 0) << shift);
    this.#features = legacy ? wanted & this.offered & 0xffffffffn : wanted;
  }

  /** "Device Status Field": 0 resets; bits are set one after the other and never cleared. */
  setStatus(value: number, legacy: boolean): void {
    if (value === 0) {
      this.reset();
      return;
    }
    const before = this.#status;
    let wanted = (value | before) & 0xff & ~STATUS.needsReset;
    if (!legacy && wanted & STATUS.featuresOk && !(before & STATUS.featuresOk) && !this.#agrees())
      wanted &= ~STATUS.featuresOk;
    if (!legacy && !(wanted & STATUS.featuresOk)) wanted &= ~STATUS.driverOk;
    this.#status = wanted | (before & STATUS.needsReset);
    if (wanted & STATUS.driverOk && !(before & STATUS.driverOk)) this.#start();
  }

  /** A doorbell rang. Nonsense is ignored. */
  notify(index: number): void {
    const queue = this.queues[index];
    if (queue !== undefined && this.serving()) this.turn(() => this.model.notified(queue));
  }

  /** Work on behalf of the driver: what it finishes is shown, and interrupts sent, at its end. */
  turn(work: () => void): void {
    this.#turns++;
    try {
      work();
    } finally {
      this.#turns--;
      if (this.#turns === 0) this.#publish();
    }
  }

  acceptsQueueSize({ maxSize }: VirtQueue, size: number): boolean {
    const fits = size >= 1 && size <= maxSize;
    return fits && (this.has(FEATURE.packed) || (size & (size - 1)) === 0);
  }

  readConfig(offset: number, size: number): number {
    let value = 0;
    for (let lane = 0; lane < size; lane++)
      value += (this.model.config?.[offset + lane] ?? 0) * 2 ** (8 * lane);
    return value;
  }
  writeConfig(offset: number, size: number, value: number): void {
    if (offset + size > this.configLength) return;
    const bytes = Uint8Array.from({ length: size }, (_, lane) => (value >>> (8 * lane)) & 0xff);
    this.turn(() => this.model.writeConfig?.(offset, bytes));
  }

  /** Nothing touches guest memory on behalf of the driver afterwards. */
  reset(): void {
    this.#status = 0;
    this.#features = 0n;
    this.configVector = NO_VECTOR;
    for (const queue of this.queues) queue.reset();
    this.#toPublish.clear();
    this.#toNotify.clear();
    this.#held = [];
    this.model.reset?.();
  }

  async rest(): Promise<void> {
    this.#resting = true;
    await this.model.rest?.();
    this.#publish();
  }

  wake(): void {
    this.#resting = false;
    this.model.wake?.();
    const held = this.#held;
    this.#held = [];
    this.turn(() => {
      for (const [queue, chain] of held) this.model.resumed?.(queue, chain);
    });
    for (const { index } of this.queues) this.notify(index);
  }

  dispose(): void {
    this.#disposed = true;
    this.model.dispose?.();
  }

  save(): unknown {
    const { configVector } = this;
    return {
      status: this.#status,
      features: [this.acceptedWord(0), this.acceptedWord(1)],
      configVector,
      generation: this.#generation,
      queues: this.queues.map((queue) => queue.save()),
    };
  }

  /** In two steps, so that what refuses has changed nothing. */
  prepareRestore(state: unknown): () => void {
    const saved = coreState(state, this.name);
    if (saved.queues.length !== this.queues.length)
      throw new StateError(`${this.name}.queues: ${this.queues.length} expected`);
    for (const [index, queue] of this.queues.entries()) {
      const one = saved.queues[index];
      if (one) queue.check(one, `${this.name}.queues[${index}]`);
    }
    return () => {
      this.reset();
      const [low = 0, high = 0] = saved.features;
      this.#features = BigInt(low) | (BigInt(high) << 32n);
      this.#status = saved.status;
      this.#generation = saved.generation;
      this.configVector = saved.configVector;
      for (const [index, queue] of this.queues.entries()) {
        const one = saved.queues[index];
        if (one) this.#held.push(...queue.restore(one).map(pairWith(queue)));
      }
    };
  }

  serving(): boolean {
    const ready = (this.#status & STATUS.driverOk) !== 0 || !this.has(FEATURE.version1);
    return ready && !(this.#status & STATUS.needsReset) && !this.#resting && !this.#disposed;
  }

  #makeQueues(specs: ReturnType<VirtioDevice<Options>["queues"]>): VirtQueue[] {
    const host = {
      memory: this.#wires.memory,
      ringOptions: () => this.#ringOptions(),
      serving: () => this.serving(),
      interrupt: ({ vector }: VirtQueue) => this.#wires.interruptQueue(vector),
      publishSoon: (queue: VirtQueue) => this.#publishSoon(queue),
      notifySoon: (queue: VirtQueue) => this.#notifySoon(queue),
      fault: (queue: VirtQueue, why: string) => this.#fault(`queue ${queue.name}: ${why}`),
    };
    return specs.map((spec, index) => new VirtQueue(spec, index, host));
  }

  #ringOptions(): RingOptions {
    return {
      packed: this.has(FEATURE.packed),
      indirect: this.has(FEATURE.indirect),
      eventIndex: this.has(FEATURE.eventIndex),
      notifyOnEmpty: this.has(FEATURE.notifyOnEmpty) && !this.has(FEATURE.version1),
    };
  }

  /** A driver of virtio 1 says so, and takes only what it was offered. */
  #agrees(): boolean {
    const allowed = this.offered & ~maskOf(LEGACY_ONLY_FEATURES);
    return this.has(FEATURE.version1) && (this.#features & ~allowed) === 0n;
  }

  /** Buffers may have been made available before the driver was ready. */
  #start(): void {
    this.turn(() => this.model.started?.());
    for (const { index, enabled } of this.queues) if (enabled) this.notify(index);
  }

  #configChanged(): void {
    this.#generation = (this.#generation + 1) & 0xff;
    if (this.#status & STATUS.driverOk) this.#wires.interruptConfig(this.configVector);
  }

  /** "DEVICE_NEEDS_RESET": told by a configuration interrupt where the driver is ready. */
  #fault(why: string): void {
    if (this.#status & STATUS.needsReset) return;
    this.#status |= STATUS.needsReset;
    this.#wires.log(`${this.name}: the guest's driver broke ${why}; it must reset the device`);
    if (this.#status & STATUS.driverOk) this.#wires.interruptConfig(this.configVector);
  }

  #publishSoon(queue: VirtQueue): void {
    if (this.#toPublish.size === 0 && this.#turns === 0)
      queueMicrotask(() => {
        if (this.#turns === 0) this.#publish();
      });
    this.#toPublish.add(queue);
  }
  #publish(): void {
    if (this.#toPublish.size === 0) return;
    const queues = [...this.#toPublish];
    this.#toPublish.clear();
    if (!this.#disposed) for (const queue of queues) queue.publish();
  }

  #notifySoon(queue: VirtQueue): void {
    if (this.#toNotify.size === 0)
      setImmediate(() => {
        const queues = [...this.#toNotify];
        this.#toNotify.clear();
        for (const { index } of queues) this.notify(index);
      });
    this.#toNotify.add(queue);
  }
}

const wordOf = (features: bigint, word: number): number =>
  word > 1 ? 0 : Number((features >> BigInt(32 * word)) & 0xffffffffn);

const pairWith =
  (queue: VirtQueue) =>
  (chain: Chain): [VirtQueue, Chain] => [queue, chain];

// VIRTIO 1.2, "Common configuration structure layout": drivers use each field's own width; 64-bit
// fields may be accessed as two halves.
import type { RangeHandler } from "../../native/types.js";
import { allOnes } from "../bits.js";
import { int, record, u16, u32 } from "../state.js";
import type { VirtioCore } from "./core.js";
import type { RegisterHost } from "./legacy-registers.js";
import type { QueueArea, VirtQueue } from "./queue.js";

export const COMMON_LENGTH = 0x38;

interface CommonRegister {
  readonly at: number;
  readonly width: 1 | 2 | 4;
  read(): number;
  write?(value: number): void;
}

export const selectorState = record({
  deviceFeature: u32,
  driverFeature: u32,
  queue: int(0, 0xffff),
  legacyQueue: u16,
});

const WORD = 2 ** 32;

export class CommonRegisters<Options> implements RangeHandler {
  readonly #core: () => VirtioCore<Options>;
  readonly #host: RegisterHost;
  readonly #registers: ReadonlyMap<number, CommonRegister>;
  selectors = { deviceFeature: 0, driverFeature: 0, queue: 0 };

  constructor(core: () => VirtioCore<Options>, host: RegisterHost) {
    this.#core = core;
    this.#host = host;
    const table = [...this.#deviceRegisters(), ...this.#queueRegisters()];
    this.#registers = new Map(table.map((register) => [register.at, register]));
  }

  read(offset: number, size: number): number {
    const register = this.#registers.get(offset);
    return register?.width === size ? register.read() >>> 0 : allOnes(size);
  }

  write(offset: number, size: number, value: number): void {
    const register = this.#registers.get(offset);
    if (register?.width === size) register.write?.(value);
  }

  #queue(): VirtQueue | undefined {
    return this.#core().queues[this.selectors.queue];
  }

  #deviceRegisters(): CommonRegister[] {
    const core = this.#core;
    const { selectors, hostVector } = { selectors: () => this.selectors, hostVector: this.#host };
    return [
      {
        at: 0x00,
        width: 4,
        read: () => selectors().deviceFeature,
        write: (v) => this.#select("deviceFeature", v),
      },
      { at: 0x04, width: 4, read: () => core().offeredWord(selectors().deviceFeature, false) },
      {
        at: 0x08,
        width: 4,
        read: () => selectors().driverFeature,
        write: (v) => this.#select("driverFeature", v),
      },
      {
        at: 0x0c,
        width: 4,
        read: () => core().acceptedWord(selectors().driverFeature),
        write: (v) => core().accept(selectors().driverFeature, v, false),
      },
      {
        at: 0x10,
        width: 2,
        read: () => core().configVector,
        write: (v) => {
          core().configVector = hostVector.vector(v);
        },
      },
      { at: 0x12, width: 2, read: () => core().queues.length },
      { at: 0x14, width: 1, read: () => core().status, write: (v) => core().setStatus(v, false) },
      { at: 0x15, width: 1, read: () => core().generation },
      { at: 0x16, width: 2, read: () => selectors().queue, write: (v) => this.#select("queue", v) },
    ];
  }

  #queueRegisters(): CommonRegister[] {
    return [
      { at: 0x18, width: 2, read: () => this.#queue()?.size ?? 0, write: (v) => this.#resize(v) },
      {
        at: 0x1a,
        width: 2,
        read: () => this.#queue()?.vector ?? 0xffff,
        write: (v) => {
          const queue = this.#queue();
          if (queue) queue.vector = this.#host.vector(v);
        },
      },
      {
        at: 0x1c,
        width: 2,
        read: () => (this.#queue()?.enabled ? 1 : 0),
        write: (v) => {
          if (v === 1) this.#queue()?.enable();
        },
      },
      { at: 0x1e, width: 2, read: () => (this.#queue() ? this.selectors.queue : 0) },
      ...this.#address(0x20, "descriptors"),
      ...this.#address(0x28, "driver"),
      ...this.#address(0x30, "device"),
    ];
  }

  #address(at: number, area: QueueArea): CommonRegister[] {
    const now = (): number => this.#queue()?.area(area) ?? 0;
    const set = (value: number): void => this.#queue()?.setArea(area, value);
    return [
      { at, width: 4, read: () => now() % WORD, write: (v) => set(now() - (now() % WORD) + v) },
      {
        at: at + 4,
        width: 4,
        read: () => Math.floor(now() / WORD),
        // What no guest address reaches cannot be memory either.
        write: (v) => set(Math.min(v, 0xfffff) * WORD + (now() % WORD)),
      },
    ];
  }

  #select(name: keyof typeof this.selectors, value: number): void {
    this.selectors = { ...this.selectors, [name]: value };
  }

  /** "queue_size": a power of two for split rings, and never more than was offered. */
  #resize(size: number): void {
    const queue = this.#queue();
    if (queue === undefined || queue.enabled) return;
    if (this.#core().acceptsQueueSize(queue, size)) queue.size = size;
  }
}

// BAR 0 of a transitional device: VIRTIO 1.2, "Legacy Interfaces: A Note on PCI Device Layout".
import type { RangeHandler, RegisterWays } from "../../native/types.js";
import { allOnes } from "../bits.js";
import type { VirtioCore } from "./core.js";

/** What the registers show beside the core: they differ with MSI-X. */
export interface RegisterHost {
  readonly msixEnabled: boolean;
  /** A vector that the function has, else NO_VECTOR. */
  vector(wanted: number): number;
  /** Read to clear: the pin goes down. */
  takeIsr(): number;
}

const NOTIFY_AT = 0x10;
const HEADER = 0x14;
const HEADER_MSIX = 0x18;

interface LegacyRegister {
  readonly width: number;
  read?(): number;
  write?(value: number): void;
}

/** The original's size: header with vectors, then the device's own, as a power of two. */
export const legacyBarSize = (configLength: number): number =>
  2 ** Math.ceil(Math.log2(HEADER_MSIX + configLength));

export const LEGACY_WAYS: readonly RegisterWays[] = [
  { at: NOTIFY_AT, length: 2, write: "doorbell" },
];

export class LegacyRegisters<Options> implements RangeHandler {
  readonly #core: () => VirtioCore<Options>;
  readonly #host: RegisterHost;
  readonly #registers: ReadonlyMap<number, LegacyRegister>;
  #selected = 0;

  constructor(core: () => VirtioCore<Options>, host: RegisterHost) {
    this.#core = core;
    this.#host = host;
    this.#registers = new Map(this.#table());
  }

  get selected(): number {
    return this.#selected;
  }
  set selected(queue: number) {
    this.#selected = queue;
  }

  read(offset: number, size: number): number {
    const config = this.#configAt();
    if (offset >= config) return this.#core().readConfig(offset - config, size);
    const register = this.#find(offset, size);
    return register?.read ? register.read() : allOnes(size);
  }

  write(offset: number, size: number, value: number): void {
    const config = this.#configAt();
    if (offset >= config) this.#core().writeConfig(offset - config, size, value);
    else this.#find(offset, size)?.write?.(value);
  }

  doorbell(_offset: number, value: number): void {
    this.#core().notify(value & 0xffff);
  }

  #configAt(): number {
    return this.#host.msixEnabled ? HEADER_MSIX : HEADER;
  }
  #find(offset: number, size: number): LegacyRegister | undefined {
    const register = this.#registers.get(offset);
    return register?.width === size ? register : undefined;
  }
  #queue() {
    return this.#core().queues[this.#selected];
  }

  #table(): [number, LegacyRegister][] {
    const core = this.#core;
    const host = this.#host;
    return [
      [0x00, { width: 4, read: () => core().offeredWord(0, true) }],
      [
        0x04,
        { width: 4, read: () => core().acceptedWord(0), write: (v) => core().accept(0, v, true) },
      ],
      [
        0x08,
        {
          width: 4,
          read: () => this.#queue()?.legacyPage ?? 0,
          write: (v) => this.#queue()?.setLegacyPage(v),
        },
      ],
      [0x0c, { width: 2, read: () => this.#queue()?.maxSize ?? 0 }],
      [0x0e, { width: 2, read: () => this.#selected, write: (v) => this.#select(v) }],
      [NOTIFY_AT, { width: 2, read: () => 0, write: (v) => core().notify(v) }],
      [0x12, { width: 1, read: () => core().status, write: (v) => core().setStatus(v, true) }],
      [0x13, { width: 1, read: () => host.takeIsr() }],
      [0x14, { width: 2, read: () => core().configVector, write: (v) => this.#setConfigVector(v) }],
      [
        0x16,
        { width: 2, read: () => this.#queue()?.vector ?? 0xffff, write: (v) => this.#setVector(v) },
      ],
    ];
  }

  #select(queue: number): void {
    this.#selected = queue;
  }
  #setConfigVector(value: number): void {
    this.#core().configVector = this.#host.vector(value);
  }
  #setVector(value: number): void {
    const queue = this.#queue();
    if (queue) queue.vector = this.#host.vector(value);
  }
}

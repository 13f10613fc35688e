// Base address registers: where they are put at first, what they decode as the guest moves them.
import type { DeviceHost, Range, RangeHandler, RegisterWays } from "../../native/types.js";
import { IO_WINDOW, MEM32_WINDOW, MEM64_WINDOW, SMALL_BAR } from "./address-map.js";
import type { ConfigSpace } from "./config-space.js";
import { BAR_COUNT, barOffset, COMMAND } from "./registers.js";

export interface BarSpec {
  readonly index: number;
  /** A mem64 BAR takes the index after its own too. */
  readonly kind: "io" | "mem32" | "mem64";
  /** Bytes, a power of two. */
  readonly size: number;
  readonly prefetchable?: boolean;
  readonly handler: RangeHandler;
  readonly ways?: readonly RegisterWays[];
}

const LOW_BITS = { io: 0x1, mem32: 0x0, mem64: 0x4, prefetchable: 0x8 } as const;
const MIN_SIZE = { io: 4, mem32: 16, mem64: 16 } as const;
const FOUR_GIB = 2 ** 32;

interface Window {
  next: number;
  readonly end: number;
}

/** Hands out addresses in the order of asking, naturally aligned; nothing is ever given back. */
export class BarAllocator {
  readonly #io: Window;
  readonly #low: Window = { next: MEM32_WINDOW.base, end: MEM32_WINDOW.end };
  readonly #high: Window = { next: MEM64_WINDOW.base, end: MEM64_WINDOW.end };

  constructor(ioFrom: number = IO_WINDOW.base) {
    this.#io = { next: ioFrom, end: IO_WINDOW.end };
  }

  allocate({ kind, size }: Pick<BarSpec, "kind" | "size">): number {
    const memory = kind === "mem64" && size > SMALL_BAR ? this.#high : this.#low;
    const window = kind === "io" ? this.#io : memory;
    const base = Math.ceil(window.next / size) * size;
    if (base + size > window.end) throw new Error(`no room for a ${kind} BAR of ${size} bytes`);
    window.next = base + size;
    return base;
  }
}

/** Throws on what no configuration space can say: our mistake. */
function checkBar({ index, kind, size }: BarSpec): void {
  const last = kind === "mem64" ? index + 1 : index;
  const power = Number.isInteger(Math.log2(size)) && size >= MIN_SIZE[kind];
  const small = kind === "io" ? size <= 256 : kind === "mem64" || size < FOUR_GIB;
  if (index < 0 || last >= BAR_COUNT || !power || !small)
    throw new Error(`BAR ${index}: ${kind} of ${size} bytes`);
}

/** One BAR of one function: its bits in configuration space and its range on the bus. */
export class BarDecoder {
  readonly spec: BarSpec;
  readonly range: Range;
  /** Decoding is wanted at an address where something else already decodes. */
  blocked = false;
  readonly #config: ConfigSpace;
  readonly #memory: DeviceHost["memory"];
  #base: number;
  #on = true;

  constructor(
    host: DeviceHost,
    config: ConfigSpace,
    name: string,
    spec: BarSpec,
    allocator: BarAllocator,
  ) {
    checkBar(spec);
    this.spec = spec;
    this.#config = config;
    this.#memory = host.memory;
    this.#base = allocator.allocate(spec);
    this.#layout();
    this.range = host.bus.map(
      {
        name: `${name}-bar${spec.index}`,
        space: spec.kind === "io" ? "pio" : "mmio",
        base: this.#base,
        length: spec.size,
        ...(spec.ways && { ways: spec.ways }),
      },
      spec.handler,
    );
  }

  /** Follows the configuration space. Where decoding collides, the BAR waits, disabled. */
  apply(): void {
    const base = this.#address();
    const on = this.#enabled() && this.#plausible(base);
    this.blocked = false;
    if (on === this.#on && (!on || base === this.#base)) return;
    this.range.enable(false);
    this.#on = false;
    if (on) this.#turnOn(base);
  }

  #turnOn(base: number): void {
    try {
      if (base !== this.#base) this.range.move(base);
      this.#base = base;
      this.range.enable(true);
      this.#on = true;
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      this.blocked = true;
    }
  }

  #layout(): void {
    const { index, kind, size, prefetchable } = this.spec;
    const low = LOW_BITS[kind] | (prefetchable ? LOW_BITS.prefetchable : 0);
    const mask = size >= FOUR_GIB ? 0 : (-size & (kind === "io" ? 0xfffc : 0xfffffff0)) >>> 0;
    const bar = { width: 4, access: "rw", cite: 'PCI 3.0, "Base Addresses"' } as const;
    const lower = (this.#base % FOUR_GIB) + low;
    this.#config.define(barOffset(index), { ...bar, at: 0, reset: lower, writable: mask });
    if (kind !== "mem64") return;
    const upper = Math.floor(this.#base / FOUR_GIB);
    const upperMask = size >= FOUR_GIB ? -(size / FOUR_GIB) >>> 0 : 0xffffffff;
    this.#config.define(barOffset(index + 1), { ...bar, at: 0, reset: upper, writable: upperMask });
  }

  #address(): number {
    const { index, kind } = this.spec;
    const low = this.#config.read(barOffset(index), 4);
    if (kind === "io") return low & 0xfffc;
    const upper = kind === "mem64" ? this.#config.read(barOffset(index + 1), 4) : 0;
    return upper * FOUR_GIB + ((low & 0xfffffff0) >>> 0);
  }

  #enabled(): boolean {
    const bit = this.spec.kind === "io" ? COMMAND.io : COMMAND.memory;
    return (this.#config.get("command") & bit) !== 0;
  }

  /** Never over RAM, ECAM or the interrupt controllers, nor where sizing leaves a BAR. */
  #plausible(base: number): boolean {
    const end = base + this.spec.size;
    if (this.spec.kind === "io") return base > 0 && end <= IO_WINDOW.end;
    const { size, lowSize } = this.#memory;
    if (base >= lowSize && end <= MEM32_WINDOW.end) return base >= 2 ** 20;
    return base >= FOUR_GIB + (size - lowSize) && end <= Number.MAX_SAFE_INTEGER;
  }
}

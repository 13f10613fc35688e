// virtio-rnd: VIRTIO 1.2, "Entropy Device".
import { randomFillSync } from "node:crypto";
import type { Timer } from "../../native/types.js";
import type { Chain } from "../virtio/chain.js";
import {
  type DriverQueue,
  defineVirtioDevice,
  serveAll,
  type VirtioContext,
  type VirtioModel,
} from "../virtio/device.js";

export interface VirtioRndOptions {
  /** Bytes a second of guest time; without end where absent. */
  readonly rate?: number | undefined;
  /** Tests want to know what comes. */
  readonly fill?: (bytes: Uint8Array) => void;
}

/**
 * A chain may name one guest page many times, so its length says nothing about memory that the guest
 * really has. One request costs the host no more than this; fewer bytes than asked for are allowed.
 */
const MAX_REQUEST = 64 * 1024;
/** What may be taken at once after a pause; also the shortest step in which bytes are earned. */
const BURST_DIVISOR = 10;
const SECOND = 1_000_000_000n;

class VirtioRnd implements VirtioModel {
  readonly #context: VirtioContext;
  readonly #fill: (bytes: Uint8Array) => void;
  readonly #rate: number | undefined;
  readonly #timer: Timer;
  #waiting: Chain[] = [];
  #tokens = 0;
  #earned = 0n;

  constructor({ rate, fill = randomFillSync }: VirtioRndOptions, context: VirtioContext) {
    this.#context = context;
    this.#fill = fill;
    this.#rate = rate;
    this.#timer = context.clock.timer(() => this.#continue());
  }

  notified(queue: DriverQueue): void {
    serveAll(queue, (chain) => this.#serve(chain));
  }
  resumed(_queue: DriverQueue, chain: Chain): void {
    this.#serve(chain);
  }
  reset(): void {
    this.#waiting = [];
    this.#timer.cancel();
  }

  #serve(chain: Chain): void {
    const allowed = this.#allowance();
    if (allowed < 1 || this.#waiting.length > 0) {
      this.#waiting.push(chain);
      this.#wakeLater();
      return;
    }
    this.#give(chain, allowed);
  }

  #give(chain: Chain, allowed: number): void {
    const bytes = new Uint8Array(Math.min(chain.writable.bytes, MAX_REQUEST, allowed));
    this.#fill(bytes);
    this.#tokens -= bytes.length;
    chain.done(chain.write(0, bytes));
  }

  /** Bytes that may be given now. */
  #allowance(): number {
    const rate = this.#rate;
    if (rate === undefined) return MAX_REQUEST;
    const now = this.#context.clock.now();
    const elapsed = Number(now - this.#earned) / 1e9;
    const most = Math.max(1, Math.ceil(rate / BURST_DIVISOR));
    this.#tokens = Math.min(most, Math.max(0, this.#tokens) + elapsed * rate);
    this.#earned = now;
    return Math.floor(this.#tokens);
  }

  #wakeLater(): void {
    const step = Number(SECOND) * Math.max(1 / BURST_DIVISOR, 1 / (this.#rate ?? 1));
    this.#timer.arm(this.#context.clock.now() + BigInt(Math.ceil(step)));
  }

  #continue(): void {
    for (let allowed = this.#allowance(); allowed >= 1; allowed = this.#allowance()) {
      const chain = this.#waiting.shift();
      if (chain === undefined) return;
      this.#give(chain, allowed);
    }
    if (this.#waiting.length > 0) this.#wakeLater();
  }
}

export const virtioRnd = defineVirtioDevice({
  name: "virtio-rnd",
  type: 4,
  transitional: 0x1005,
  classCode: 0x100000, // the original's: encryption controller
  configLength: 0,
  queues: () => [{ name: "requests", maxSize: 64 }],
  features: () => [],
  create: (options: VirtioRndOptions, context: VirtioContext) => new VirtioRnd(options, context),
});

// What a virtio device is, apart from its transport. PCI, interrupts, feature negotiation, the
// status machine and the walking of rings live in the transport and are tested once, there.
import type { Clock, GuestMemory } from "../../native/types.js";
import type { Chain } from "./chain.js";

export interface QueueSpec {
  readonly name: string;
  /** A power of two. */
  readonly maxSize: number;
}

/** The driver's end of one queue, as the model sees it. */
export interface DriverQueue {
  readonly name: string;
  readonly index: number;
  /** Of its ring, as the driver has set it up. */
  readonly size: number;
  /** The next buffers; undefined where there are none: then notified() tells when there are. */
  take(): Chain | undefined;
  /** Calls notified() again soon, after others had their turn. */
  later(): void;
}

/** What the transport gives a model. */
export interface VirtioContext {
  readonly memory: GuestMemory;
  readonly clock: Clock;
  readonly queues: readonly DriverQueue[];
  /** Negotiated. */
  has(feature: number): boolean;
  /** The device's configuration changed: the driver should look. */
  configChanged(): void;
  /** Goes to the operator, at a limited rate. */
  log(text: string): void;
}

export interface VirtioModel {
  /** The device-specific configuration as the driver sees it: as long as was declared. */
  readonly config?: Uint8Array;
  /** There are buffers in this queue (or there seemed to be). */
  notified(queue: DriverQueue): void;
  /** The driver wrote to the configuration; bytes outside of the declared length never arrive. */
  writeConfig?(offset: number, bytes: Uint8Array): void;
  /** The driver is ready. */
  started?(): void;
  /** Back to power-on: afterwards nothing touches guest memory. The transport's queues are empty. */
  reset?(): void;
  /** Start no work; resolve when none is under way but what waits for the host. */
  rest?(): Promise<void>;
  wake?(): void;
  /** Chains that a saved device still had; they are served as if they had just been taken. */
  resumed?(queue: DriverQueue, chain: Chain): void;
  save?(): unknown;
  /** Throws StateError where it is no state of this model; else gives back what takes it over. */
  restore?(state: unknown): () => void;
  dispose?(): void;
}

export interface VirtioDevice<Options> {
  readonly name: string;
  /** "Device Types" */
  readonly type: number;
  /** The PCI device id of the transitional device; none: virtio 1 only. */
  readonly transitional?: number;
  readonly classCode: number;
  queues(options: Options): readonly QueueSpec[];
  /** Bits of the device type; the transport adds its own. */
  features(options: Options): readonly number[];
  /** Bytes of device-specific configuration. */
  readonly configLength: number;
  create(options: Options, context: VirtioContext): VirtioModel;
}

export const defineVirtioDevice = <Options>(device: VirtioDevice<Options>): VirtioDevice<Options> =>
  Object.freeze(device);

/** A queue is served so far in one go, then others have their turn. */
const MOST_AT_ONCE = 256;

/** For queues whose every chain is a request. */
export function serveAll(queue: DriverQueue, serve: (chain: Chain) => void): void {
  for (let left = MOST_AT_ONCE; left > 0; left--) {
    const chain = queue.take();
    if (chain === undefined) return;
    serve(chain);
  }
  queue.later();
}

// virtio-console with one port: VIRTIO 1.2, "Console Device". The other end is a serial backend.
import type { SerialBackend } from "../serial/backend.js";
import { base64, fromBase64, record, toBase64 } from "../state.js";
import type { Chain } from "../virtio/chain.js";
import {
  type DriverQueue,
  defineVirtioDevice,
  serveAll,
  type VirtioContext,
  type VirtioModel,
} from "../virtio/device.js";

export interface VirtioConsoleOptions {
  readonly backend: SerialBackend;
}

/** VIRTIO_CONSOLE_F_EMERG_WRITE; struct virtio_console_config: cols, rows, max_nr_ports, emerg_wr. */
const EMERGENCY_WRITE = 2;
const CONFIG_LENGTH = 12;
const EMERGENCY_AT = 8;
const RECEIVE = 0;

/** Input kept for a guest that gives no buffers; then the backend is told to hold back. */
const MAX_INPUT = 64 * 1024;
/** Of one output chain at a time. */
const MAX_OUTPUT = 256 * 1024;

const STATE = record({ input: base64(2 * MAX_INPUT, false) });

class VirtioConsole implements VirtioModel {
  readonly config = new Uint8Array(CONFIG_LENGTH);
  readonly #backend: SerialBackend;
  readonly #context: VirtioContext;
  #input = new Uint8Array(0);
  /** Output that waits for the backend to drain. */
  #held: Chain[] = [];
  #draining = false;

  constructor({ backend }: VirtioConsoleOptions, context: VirtioContext) {
    this.#backend = backend;
    this.#context = context;
    backend.onData((bytes) => this.#receive(bytes));
    backend.onDrain(() => this.#drained());
  }

  notified(queue: DriverQueue): void {
    if (queue.index === RECEIVE) this.#deliver();
    else serveAll(queue, (chain) => this.#transmit(chain));
  }
  resumed(queue: DriverQueue, chain: Chain): void {
    if (queue.index !== RECEIVE) this.#transmit(chain);
  }
  /** "Emergency write": a character before the driver is up. */
  writeConfig(offset: number, bytes: Uint8Array): void {
    if (offset === EMERGENCY_AT) this.#backend.write(bytes.slice(0, 1));
  }
  reset(): void {
    this.#held = [];
    this.#draining = false;
    this.#input = new Uint8Array(0);
    this.#backend.accept(true);
  }
  save(): unknown {
    return { input: toBase64(this.#input.subarray(0, 2 * MAX_INPUT)) };
  }
  restore(state: unknown): () => void {
    const { input } = STATE(state, "virtio-console");
    return () => {
      this.#input = fromBase64(input) as Uint8Array<ArrayBuffer>;
    };
  }
  dispose(): void {
    this.#backend.close();
  }

  #transmit(chain: Chain): void {
    if (this.#draining) {
      this.#held.push(chain);
      return;
    }
    const bytes = new Uint8Array(Math.min(chain.readable.bytes, MAX_OUTPUT));
    chain.read(0, bytes);
    if (bytes.length > 0) this.#draining = !this.#backend.write(bytes);
    chain.done(0);
  }

  #drained(): void {
    this.#draining = false;
    const held = this.#held;
    this.#held = [];
    for (const chain of held) this.#transmit(chain);
  }

  #receive(bytes: Uint8Array): void {
    const room = 2 * MAX_INPUT - this.#input.length;
    const joined = new Uint8Array(this.#input.length + Math.min(room, bytes.length));
    joined.set(this.#input);
    joined.set(bytes.subarray(0, room), this.#input.length);
    this.#input = joined;
    this.#deliver();
    if (this.#input.length >= MAX_INPUT) this.#backend.accept(false);
  }

  #deliver(): void {
    const queue = this.#context.queues[RECEIVE];
    while (this.#input.length > 0) {
      const chain = queue?.take();
      if (chain === undefined) return;
      const written = chain.write(0, this.#input);
      this.#input = this.#input.slice(written);
      chain.done(written);
    }
    this.#backend.accept(true);
  }
}

export const virtioConsole = defineVirtioDevice({
  name: "virtio-console",
  type: 3,
  transitional: 0x1003,
  classCode: 0x078000,
  configLength: CONFIG_LENGTH,
  queues: () => [
    { name: "receive", maxSize: 64 },
    { name: "transmit", maxSize: 64 },
  ],
  features: () => [EMERGENCY_WRITE],
  create: (options: VirtioConsoleOptions, context: VirtioContext) =>
    new VirtioConsole(options, context),
});

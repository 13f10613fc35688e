// virtio-console with one port: VIRTIO 1.2, "Console Device". The other end is a serial backend; where
// that is a terminal, the guest is told its size.
import type { SerialBackend, TerminalSize } from "../serial/backend.js";
import { base64, fromBase64, record, toBase64, u16 } from "../state.js";
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

/** VIRTIO 1.2 §5.3.3: VIRTIO_CONSOLE_F_SIZE, VIRTIO_CONSOLE_F_EMERG_WRITE. */
const SIZE = 0;
const EMERGENCY_WRITE = 2;
/** §5.3.4, struct virtio_console_config: cols and rows (16 bits each), max_nr_ports, emerg_wr. */
const CONFIG_LENGTH = 12;
const COLUMNS_AT = 0;
const ROWS_AT = 2;
const EMERGENCY_AT = 8;
const RECEIVE = 0;

/**
 * Linux looks at the size at a configuration interrupt alone, and only once its port stands, which is
 * some time after it is ready (drivers/char/virtio_console.c). So it is told again while it uses the
 * device, some times, and not too fast (nanoseconds); the same size again changes nothing there.
 */
const MOST_TELLINGS = 10;
const BETWEEN_TELLINGS = 200_000_000n;

/** Input kept for a guest that gives no buffers; then the backend is told to hold back. */
const MAX_INPUT = 64 * 1024;
/** Of one output chain at a time. */
const MAX_OUTPUT = 256 * 1024;

const STATE = record({ input: base64(2 * MAX_INPUT, false), columns: u16, rows: u16 });
/** Version 1 had no size. */
const FIRST_STATE = record({ input: base64(2 * MAX_INPUT, false) });

class VirtioConsole implements VirtioModel {
  readonly config = new Uint8Array(CONFIG_LENGTH);
  readonly #layout = new DataView(this.config.buffer);
  readonly #backend: SerialBackend;
  readonly #context: VirtioContext;
  #input = new Uint8Array(0);
  /** Output that waits for the backend to drain. */
  #held: Chain[] = [];
  #draining = false;
  /** Of the size, since the driver is ready or it changed; and when the last was. */
  #tellings = 0;
  #told = 0n;

  constructor({ backend }: VirtioConsoleOptions, context: VirtioContext) {
    this.#backend = backend;
    this.#context = context;
    backend.onData((bytes) => this.#receive(bytes));
    backend.onDrain(() => this.#drained());
    backend.onResize?.((size) => this.#resize(size));
  }

  started(): void {
    this.#tellings = 0;
  }
  notified(queue: DriverQueue): void {
    this.#tellAgain();
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
    const input = toBase64(this.#input.subarray(0, 2 * MAX_INPUT));
    return { input, columns: this.#size.columns, rows: this.#size.rows };
  }
  restore(state: unknown): () => void {
    const whole = typeof state === "object" && state !== null && "columns" in state;
    const unsized = { columns: 0, rows: 0 };
    const { input, columns, rows } = whole
      ? STATE(state, "virtio-console")
      : { ...FIRST_STATE(state, "virtio-console"), ...unsized };
    return () => {
      this.#input = fromBase64(input) as Uint8Array<ArrayBuffer>;
      this.#size = { columns, rows };
    };
  }
  dispose(): void {
    this.#backend.close();
  }

  get #size(): TerminalSize {
    const [columns, rows] = [COLUMNS_AT, ROWS_AT].map((at) => this.#layout.getUint16(at, true));
    return { columns: columns ?? 0, rows: rows ?? 0 };
  }
  set #size({ columns, rows }: TerminalSize) {
    this.#layout.setUint16(COLUMNS_AT, columns, true);
    this.#layout.setUint16(ROWS_AT, rows, true);
  }

  #resize(size: TerminalSize): void {
    const before = this.#size;
    if (before.columns === size.columns && before.rows === size.rows) return;
    this.#size = size;
    this.#tellings = 0;
    this.#tell();
  }

  #tell(): void {
    if (!this.#context.has(SIZE)) return;
    this.#tellings++;
    this.#told = this.#context.clock.now();
    this.#context.configChanged();
  }

  #tellAgain(): void {
    if (this.#size.columns === 0 || this.#tellings === MOST_TELLINGS) return;
    if (this.#context.clock.now() - this.#told >= BETWEEN_TELLINGS) this.#tell();
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
  features: ({ backend }: VirtioConsoleOptions) =>
    backend.onResize === undefined ? [EMERGENCY_WRITE] : [SIZE, EMERGENCY_WRITE],
  create: (options: VirtioConsoleOptions, context: VirtioContext) =>
    new VirtioConsole(options, context),
});

// COM1 and COM2: a 16550A on the I/O ports, an ISA interrupt and a serial backend.
//
// Which way each register goes. THR, IER, LCR and SCR are posted, so that console output costs the
// guest no wait. LSR is stable: no posted write changes what it says, since THRE and TEMT are set
// whenever the host keeps up and data-ready changes only by direct accesses and by the host. MCR
// and FCR are direct because they break that rule (loop-back, clearing the receiver), and in
// loop-back or with error bits in LSR, which a read clears, a second range that is direct
// throughout takes the first one's place.
import type { DeviceHost, InterruptLine, Range, RegisterWays, Timer } from "../../native/types.js";
import { readBytes, writeBytes } from "../bits.js";
import type { Device, Flushes } from "../device.js";
import type { SerialBackend } from "../serial/backend.js";
import { fromBase64, toBase64 } from "../state.js";
import { Uart16550 } from "./model.js";
import { BASE_BAUD, LENGTH, OFFSET, PORT_STATE } from "./registers.js";

export const COM1 = { name: "com1", base: 0x3f8, irq: 4 } as const;
export const COM2 = { name: "com2", base: 0x2f8, irq: 3 } as const;

export interface UartOptions {
  readonly name: string;
  readonly base: number;
  readonly irq: number;
  readonly backend: SerialBackend;
  /** Runs `task` once when the batch of register accesses being served is through. */
  readonly later?: (task: () => void) => void;
}

const FAST_WAYS: readonly RegisterWays[] = [
  { at: OFFSET.data, length: 1, read: "direct", write: "posted" },
  { at: OFFSET.ier, length: 1, read: "shadow", write: "posted" },
  { at: OFFSET.lcr, length: 1, read: "shadow", write: "posted" },
  { at: OFFSET.mcr, length: 1, read: "shadow", write: "direct" },
  { at: OFFSET.lsr, length: 1, read: "stable", write: "ignored" },
  { at: OFFSET.scr, length: 1, read: "shadow", write: "posted" },
];
const PUBLISHED = [OFFSET.ier, OFFSET.lcr, OFFSET.mcr, OFFSET.lsr, OFFSET.scr] as const;

/** Output is handed over early when a batch brings more. */
const OUTPUT_CHUNK = 4096;
/** Input kept for a guest that does not read; at the lower mark the backend is told to hold back. */
const MAX_WAITING = 64 * 1024;
const HOLD_BACK_AT = 4096;
/** A reader that takes nothing for so long no longer holds the guest back. Our choice. */
const STUCK_AFTER = 10_000_000_000n;

export class Uart implements Device, Flushes {
  readonly name: string;
  readonly stateVersion = 1;
  readonly #chip: Uart16550;
  readonly #clock: DeviceHost["clock"];
  readonly #line: InterruptLine;
  readonly #backend: SerialBackend;
  readonly #later: (task: () => void) => void;
  readonly #exact: Range;
  readonly #fast: Range;
  readonly #timeout: Timer;
  readonly #stuck: Timer;
  #fastOn = true;
  #level = false;
  #timeoutAt: bigint | undefined;
  #output = new Uint8Array(OUTPUT_CHUNK);
  #outputLength = 0;
  #flushing = false;
  /** The backend asked to hold back; given up on after STUCK_AFTER. */
  #choked = false;
  #waiting: number[] = [];
  #disposed = false;

  constructor(host: DeviceHost, options: UartOptions) {
    this.name = options.name;
    this.#backend = options.backend;
    this.#later = options.later ?? setImmediate;
    this.#clock = host.clock;
    this.#line = host.interrupts.isa(options.irq);
    this.#timeout = host.clock.timer(() => this.#timedOut());
    this.#stuck = host.clock.timer(() => this.#stopWaiting());
    this.#chip = new Uart16550({
      transmit: (byte) => this.#collect(byte),
      interrupt: (level) => this.#drive(level),
      timeout: (run) => this.#runTimeout(run),
    });
    [this.#exact, this.#fast] = this.#map(host, options);
    this.#backend.onData((bytes) => this.#arrived(bytes));
    this.#backend.onDrain(() => this.#drained());
    this.#publish();
  }

  /** A break on the line, as Linux's magic SysRq wants it. */
  sendBreak(): void {
    this.#chip.receiveBreak();
    this.#publish();
  }

  flush(): void {
    this.#flushing = false;
    if (this.#outputLength === 0 || this.#disposed) return;
    const bytes = this.#output.slice(0, this.#outputLength);
    this.#outputLength = 0;
    if (!this.#backend.write(bytes)) this.#choke();
    this.#chip.transmitted();
    this.#publish();
  }

  reset(): void {
    this.flush();
    this.#chip.reset();
    this.#chip.setTransmitterReady(!this.#choked);
    this.#publish();
    this.#feed();
  }

  save(): unknown {
    this.flush();
    return {
      chip: this.#chip.save(),
      timeoutAt: this.#timeoutAt?.toString() ?? null,
      waiting: toBase64(Uint8Array.from(this.#waiting)),
    };
  }

  restore(state: unknown): void {
    const { chip, timeoutAt, waiting } = PORT_STATE(state, this.name);
    this.flush();
    this.#waiting = [...fromBase64(waiting)];
    this.#chip.restore(chip);
    this.#chip.setTransmitterReady(!this.#choked);
    this.#armTimeout(timeoutAt === null ? undefined : BigInt(timeoutAt));
    this.#publish();
  }

  dispose(): void {
    this.flush();
    this.#disposed = true;
    this.#timeout.cancel();
    this.#stuck.cancel();
    this.#exact.remove();
    this.#fast.remove();
    this.#backend.close();
  }

  #map(host: DeviceHost, { name, base }: UartOptions): [Range, Range] {
    const handler = {
      read: (offset: number, size: number) =>
        readBytes(size, (lane) => this.#read((offset + lane) % LENGTH)),
      write: (offset: number, size: number, value: number) =>
        writeBytes(size, value, (lane, byte) => this.#write((offset + lane) % LENGTH, byte)),
    };
    const spec = { space: "pio", base, length: LENGTH } as const;
    const exact = host.bus.map({ ...spec, name: `${name}-exact` }, handler);
    exact.enable(false);
    return [exact, host.bus.map({ ...spec, name, ways: FAST_WAYS }, handler)];
  }

  #read(offset: number): number {
    const value = this.#chip.read(offset);
    this.#feed();
    this.#publish();
    return value;
  }

  #write(offset: number, value: number): void {
    this.#chip.write(offset, value);
    if (offset === OFFSET.iirFcr || offset === OFFSET.mcr) this.#feed();
    // The hot path: output changes nothing that is published.
    if (offset !== OFFSET.data || this.#chip.loopback) this.#publish();
  }

  #publish(): void {
    const fast = !this.#chip.loopback && !this.#chip.hasLineErrors;
    for (const offset of PUBLISHED) this.#fast.shadow.setUint8(offset, this.#chip.peek(offset));
    if (fast === this.#fastOn) return;
    this.#fastOn = fast;
    (fast ? this.#exact : this.#fast).enable(false);
    (fast ? this.#fast : this.#exact).enable(true);
  }

  #drive(level: boolean): void {
    if (level === this.#level) return;
    this.#level = level;
    this.#line.set(level);
  }

  #collect(byte: number): void {
    this.#output[this.#outputLength++] = byte;
    if (this.#outputLength === OUTPUT_CHUNK) {
      this.flush();
    } else if (!this.#flushing) {
      this.#flushing = true;
      this.#later(() => this.flush());
    }
  }

  #choke(): void {
    if (this.#choked) return;
    this.#choked = true;
    this.#chip.setTransmitterReady(false);
    this.#stuck.arm(this.#clock.now() + STUCK_AFTER);
  }

  #drained(): void {
    this.#choked = false;
    this.#stuck.cancel();
    this.#stopWaiting();
  }

  #stopWaiting(): void {
    this.#chip.setTransmitterReady(true);
    this.#publish();
  }

  #arrived(bytes: Uint8Array): void {
    const room = MAX_WAITING - this.#waiting.length;
    for (const byte of bytes.subarray(0, room)) this.#waiting.push(byte);
    this.#feed();
    this.#publish();
  }

  /** Moves what waits into the receiver, as far as it has room. */
  #feed(): void {
    const count = Math.min(this.#chip.room, this.#waiting.length);
    for (const byte of this.#waiting.splice(0, count)) this.#chip.receive(byte);
    this.#backend.accept(this.#waiting.length < HOLD_BACK_AT);
  }

  #timedOut(): void {
    this.#timeoutAt = undefined;
    this.#chip.characterTimeout();
  }

  /** "FIFO Interrupt Mode Operation": four character times without a byte in or out. */
  #runTimeout(run: boolean): void {
    const bits = 4 * this.#chip.bitsPerCharacter * this.#chip.divisor;
    const time = BigInt(Math.ceil((bits * 1e9) / BASE_BAUD));
    this.#armTimeout(run ? this.#clock.now() + time : undefined);
  }

  #armTimeout(at: bigint | undefined): void {
    this.#timeoutAt = at;
    if (at === undefined) this.#timeout.cancel();
    else this.#timeout.arm(at);
  }
}

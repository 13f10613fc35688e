// A 16550A with a cable: the chip, its time-outs, and the backend at the other end. What places its
// registers on a bus and its pin on a wire is the adapter's (ISA here, PCI in pci-uart/).
import type { Clock, Timer } from "../../native/types.js";
import type { SerialBackend } from "../serial/backend.js";
import { fromBase64, toBase64 } from "../state.js";
import { Uart16550 } from "./model.js";
import { BASE_BAUD, LENGTH, OFFSET, type PortState } from "./registers.js";

export interface PortOptions {
  readonly backend: SerialBackend;
  /** Runs `task` once when the batch of register accesses being served is through. */
  readonly later?: ((task: () => void) => void) | undefined;
}

export interface PortWires {
  /** The interrupt pin, at each change. */
  interrupt(level: boolean): void;
  /** What peek() says may have changed. */
  changed(): void;
}

/** Output is handed over early when a batch brings more. */
const OUTPUT_CHUNK = 4096;
/** Input kept for a guest that does not read; at the lower mark the backend is told to hold back. */
const MAX_WAITING = 64 * 1024;
const HOLD_BACK_AT = 4096;
/** A reader that takes nothing for so long no longer holds the guest back. Our choice. */
const STUCK_AFTER = 10_000_000_000n;

export class UartPort {
  readonly chip: Uart16550;
  readonly #wires: PortWires;
  readonly #clock: Clock;
  readonly #backend: SerialBackend;
  readonly #later: (task: () => void) => void;
  readonly #timeout: Timer;
  readonly #stuck: Timer;
  #level = false;
  #timeoutAt: bigint | undefined;
  #output = new Uint8Array(OUTPUT_CHUNK);
  #outputLength = 0;
  #flushing = false;
  /** The backend asked to hold back; given up on after STUCK_AFTER. */
  #choked = false;
  #waiting: number[] = [];
  #disposed = false;

  constructor(clock: Clock, options: PortOptions, wires: PortWires) {
    this.#clock = clock;
    this.#wires = wires;
    this.#backend = options.backend;
    this.#later = options.later ?? setImmediate;
    this.#timeout = clock.timer(() => this.#timedOut());
    this.#stuck = clock.timer(() => this.#stopWaiting());
    this.chip = new Uart16550({
      transmit: (byte) => this.#collect(byte),
      interrupt: (level) => this.#drive(level),
      timeout: (run) => this.#runTimeout(run),
    });
    this.#backend.onData((bytes) => this.#arrived(bytes));
    this.#backend.onDrain(() => this.#drained());
  }

  /** The pin's level. */
  get interrupting(): boolean {
    return this.#level;
  }

  read(offset: number): number {
    const value = this.chip.read(offset % LENGTH);
    this.#feed();
    this.#wires.changed();
    return value;
  }

  write(offset: number, value: number): void {
    const register = offset % LENGTH;
    this.chip.write(register, value);
    if (register === OFFSET.iirFcr || register === OFFSET.mcr) this.#feed();
    // The hot path: output changes nothing that is published.
    if (register !== OFFSET.data || this.chip.loopback) this.#wires.changed();
  }

  /** A break on the line, as Linux's magic SysRq wants it. */
  sendBreak(): void {
    this.chip.receiveBreak();
    this.#wires.changed();
  }

  flush(): void {
    this.#flushing = false;
    if (this.#outputLength === 0 || this.#disposed) return;
    const bytes = this.#output.slice(0, this.#outputLength);
    this.#outputLength = 0;
    if (!this.#backend.write(bytes)) this.#choke();
    this.chip.transmitted();
    this.#wires.changed();
  }

  reset(): void {
    this.flush();
    this.chip.reset();
    this.chip.setTransmitterReady(!this.#choked);
    this.#wires.changed();
    this.#feed();
  }

  save(): PortState {
    this.flush();
    return {
      chip: this.chip.save(),
      timeoutAt: this.#timeoutAt?.toString() ?? null,
      waiting: toBase64(Uint8Array.from(this.#waiting)),
    };
  }

  /** The state has been checked against PORT_STATE. */
  restore({ chip, timeoutAt, waiting }: PortState): void {
    this.flush();
    this.#waiting = [...fromBase64(waiting)];
    this.chip.restore(chip);
    this.chip.setTransmitterReady(!this.#choked);
    this.#armTimeout(timeoutAt === null ? undefined : BigInt(timeoutAt));
    this.#wires.changed();
  }

  dispose(): void {
    this.flush();
    this.#disposed = true;
    this.#timeout.cancel();
    this.#stuck.cancel();
    this.#backend.close();
  }

  #drive(level: boolean): void {
    if (level === this.#level) return;
    this.#level = level;
    this.#wires.interrupt(level);
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
    this.chip.setTransmitterReady(false);
    this.#stuck.arm(this.#clock.now() + STUCK_AFTER);
  }

  #drained(): void {
    this.#choked = false;
    this.#stuck.cancel();
    this.#stopWaiting();
  }

  #stopWaiting(): void {
    this.chip.setTransmitterReady(true);
    this.#wires.changed();
  }

  #arrived(bytes: Uint8Array): void {
    const room = MAX_WAITING - this.#waiting.length;
    for (const byte of bytes.subarray(0, room)) this.#waiting.push(byte);
    this.#feed();
    this.#wires.changed();
  }

  /** Moves what waits into the receiver, as far as it has room. */
  #feed(): void {
    const count = Math.min(this.chip.room, this.#waiting.length);
    for (const byte of this.#waiting.splice(0, count)) this.chip.receive(byte);
    this.#backend.accept(this.#waiting.length < HOLD_BACK_AT);
  }

  #timedOut(): void {
    this.#timeoutAt = undefined;
    this.chip.characterTimeout();
  }

  /** "FIFO Interrupt Mode Operation": four character times without a byte in or out. */
  #runTimeout(run: boolean): void {
    const bits = 4 * this.chip.bitsPerCharacter * this.chip.divisor;
    const time = BigInt(Math.ceil((bits * 1e9) / BASE_BAUD));
    this.#armTimeout(run ? this.#clock.now() + time : undefined);
  }

  #armTimeout(at: bigint | undefined): void {
    this.#timeoutAt = at;
    if (at === undefined) this.#timeout.cancel();
    else this.#timeout.arm(at);
  }
}

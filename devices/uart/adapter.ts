// COM1 and COM2: a 16550A on the I/O ports, an ISA interrupt and a serial backend.
//
// Which way each register goes. THR, IER, LCR and SCR are posted, so that console output costs the
// guest no wait. LSR is stable: no posted write changes what it says, since THRE and TEMT are set
// whenever the host keeps up and data-ready changes only by direct accesses and by the host. MCR
// and FCR are direct because they break that rule (loop-back, clearing the receiver), and in
// loop-back or with error bits in LSR, which a read clears, a second range that is direct
// throughout takes the first one's place.
import type { DeviceHost, Range, RegisterWays } from "../../native/types.js";
import { readBytes, writeBytes } from "../bits.js";
import type { Device, Flushes } from "../device.js";
import { type PortOptions, UartPort } from "./port.js";
import { LENGTH, OFFSET, PORT_STATE } from "./registers.js";

export const COM1 = { name: "com1", base: 0x3f8, irq: 4 } as const;
export const COM2 = { name: "com2", base: 0x2f8, irq: 3 } as const;

export interface UartOptions extends PortOptions {
  readonly name: string;
  readonly base: number;
  readonly irq: number;
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

export class Uart implements Device, Flushes {
  readonly name: string;
  readonly stateVersion = 1;
  readonly #port: UartPort;
  readonly #exact: Range;
  readonly #fast: Range;
  #fastOn = true;

  constructor(host: DeviceHost, options: UartOptions) {
    this.name = options.name;
    const line = host.interrupts.isa(options.irq);
    this.#port = new UartPort(host.clock, options, {
      interrupt: (level) => line.set(level),
      changed: () => this.#publish(),
    });
    [this.#exact, this.#fast] = this.#map(host, options);
    this.#publish();
  }

  /** A break on the line, as Linux's magic SysRq wants it. */
  sendBreak(): void {
    this.#port.sendBreak();
  }
  flush(): void {
    this.#port.flush();
  }
  reset(): void {
    this.#port.reset();
  }
  save(): unknown {
    return this.#port.save();
  }
  restore(state: unknown): void {
    this.#port.restore(PORT_STATE(state, this.name));
  }
  dispose(): void {
    this.#port.dispose();
    this.#exact.remove();
    this.#fast.remove();
  }

  #map(host: DeviceHost, { name, base }: UartOptions): [Range, Range] {
    const port = this.#port;
    const handler = {
      read: (offset: number, size: number) => readBytes(size, (lane) => port.read(offset + lane)),
      write: (offset: number, size: number, value: number) =>
        writeBytes(size, value, (lane, byte) => port.write(offset + lane, byte)),
    };
    const spec = { space: "pio", base, length: LENGTH } as const;
    const exact = host.bus.map({ ...spec, name: `${name}-exact` }, handler);
    exact.enable(false);
    return [exact, host.bus.map({ ...spec, name, ways: FAST_WAYS }, handler)];
  }

  #publish(): void {
    const { chip } = this.#port;
    const fast = !chip.loopback && !chip.hasLineErrors;
    for (const offset of PUBLISHED) this.#fast.shadow.setUint8(offset, chip.peek(offset));
    if (fast === this.#fastOn) return;
    this.#fastOn = fast;
    (fast ? this.#exact : this.#fast).enable(false);
    (fast ? this.#fast : this.#exact).enable(true);
  }
}

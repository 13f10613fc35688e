// COM1 and COM2: a 16550A on the I/O ports, an ISA interrupt and a serial backend. The chip is the
// core's, which answers the guest without JavaScript: a driver's interrupt reads IIR, LSR and MSR
// for each FIFO that it fills, and a wait for each of them would be most of what a byte costs.
import type { DeviceHost } from "../../native/types.js";
import type { Device, Flushes } from "../device.js";
import { type PortOptions, UartPort } from "./port.js";

export const COM1 = { name: "com1", base: 0x3f8, irq: 4 } as const;
export const COM2 = { name: "com2", base: 0x2f8, irq: 3 } as const;

export interface UartOptions extends PortOptions {
  readonly name: string;
  readonly base: number;
  readonly irq: number;
}

export class Uart implements Device, Flushes {
  readonly name: string;
  readonly stateVersion = 2;
  readonly #port: UartPort;

  constructor(host: Pick<DeviceHost, "clock" | "interrupts" | "serial">, options: UartOptions) {
    const { name, base, irq } = options;
    this.name = name;
    const line = host.interrupts.isa(irq);
    this.#port = new UartPort(host, options, { name, port: base, line });
  }

  /** A break on the line, as Linux's magic SysRq wants it. */
  sendBreak(): void {
    this.#port.chip.receiveBreak();
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
    this.#port.restore(state, this.name);
  }
  dispose(): void {
    this.#port.dispose();
  }
}

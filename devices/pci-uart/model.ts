// A 16550A on the PCI bus: eight I/O ports behind BAR 0 and an INTx pin. The identity is the
// original's (a Siig card's), which Linux's and FreeBSD's drivers know as one 16550 at BAR 0.
//
// The chip is the core's, met over JavaScript: its pin shows in this function's configuration space.
// Output is posted; all else is direct, so that nothing the guest reads can be out of date. It is a
// port for logs and tools: COM1 and COM2 answer the guest natively.
import type { DeviceHost } from "../../native/types.js";
import { readBytes, writeBytes } from "../bits.js";
import type { Device, Flushes } from "../device.js";
import { PciFunction } from "../pci/function.js";
import { record, type Shape } from "../state.js";
import { type PortOptions, UartPort } from "../uart/port.js";

const IDENTITY = { vendor: 0x131f, device: 0x2000 } as const;
/** PCI Code and ID Assignment 1.0, "Base Class 07h": a serial controller, 16550-compatible. */
const CLASS_SERIAL_16550 = 0x070002;

/** PC16550D data sheet, table II: eight registers, THR and RBR the first. */
const LENGTH = 8;
const WAYS = [{ at: 0, length: 1, read: "direct", write: "posted" }] as const;

const unchecked: Shape<unknown> = (value) => value;
const STATE = record({ function: unchecked, port: unchecked });

export interface PciUartOptions extends PortOptions {
  /** Unique in its machine: "uart2". */
  readonly name: string;
}

export class PciUart implements Device, Flushes {
  readonly name: string;
  readonly stateVersion = 2;
  /** For the bus, which must have it before the guest runs. */
  readonly pciFunction: PciFunction;
  readonly #port: UartPort;

  constructor(host: Pick<DeviceHost, "clock" | "serial">, options: PciUartOptions) {
    this.name = options.name;
    this.#port = new UartPort(host, options, undefined, () => this.#drive());
    this.pciFunction = new PciFunction({
      name: options.name,
      ...IDENTITY,
      classCode: CLASS_SERIAL_16550,
      intx: true,
      bars: [{ index: 0, kind: "io", size: LENGTH, ways: WAYS, handler: this.#handler() }],
    });
  }

  flush(): void {
    this.#port.flush();
  }
  reset(): void {
    this.#port.reset();
    this.pciFunction.reset();
    this.#drive();
  }
  save(): unknown {
    return { port: this.#port.save(), function: this.pciFunction.save() };
  }
  restore(state: unknown): void {
    const saved = STATE(state, this.name);
    const before = this.pciFunction.save();
    this.pciFunction.restore(saved.function);
    try {
      this.#port.restore(saved.port, this.name);
    } catch (error) {
      this.pciFunction.restore(before);
      throw error;
    } finally {
      this.#drive();
    }
  }
  dispose(): void {
    this.#port.dispose();
    this.pciFunction.dispose();
  }

  #handler() {
    const { chip } = this.#port;
    return {
      read: (offset: number, size: number) => {
        const value = readBytes(size, (lane) => chip.read(offset + lane));
        this.#drive();
        return value;
      },
      write: (offset: number, size: number, value: number) => {
        writeBytes(size, value, (lane, byte) => chip.write(offset + lane, byte));
        this.#drive();
      },
    };
  }

  #drive(): void {
    this.pciFunction.setIntx(this.#port.chip.interrupting);
  }
}

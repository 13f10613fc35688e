// A 16550A on the PCI bus: eight I/O ports behind BAR 0 and an INTx pin. The identity is the
// original's (a Siig card's), which Linux's and FreeBSD's drivers know as one 16550 at BAR 0.
//
// Output is posted; all else is direct, so that nothing the guest reads can be out of date. It is a
// port for logs and tools: COM1 and COM2 publish their registers, this one does not.
import type { DeviceHost } from "../../native/types.js";
import { readBytes, writeBytes } from "../bits.js";
import type { Device, Flushes } from "../device.js";
import { PciFunction } from "../pci/function.js";
import { record, type Shape } from "../state.js";
import { type PortOptions, UartPort } from "../uart/port.js";
import { LENGTH, OFFSET, PORT_STATE } from "../uart/registers.js";

const IDENTITY = { vendor: 0x131f, device: 0x2000 } as const;
/** PCI Code and ID Assignment 1.0, "Base Class 07h": a serial controller, 16550-compatible. */
const CLASS_SERIAL_16550 = 0x070002;

const WAYS = [{ at: OFFSET.data, length: 1, read: "direct", write: "posted" }] as const;

const unchecked: Shape<unknown> = (value) => value;
const STATE = record({ function: unchecked, port: PORT_STATE });

export interface PciUartOptions extends PortOptions {
  /** Unique in its machine: "uart2". */
  readonly name: string;
}

export class PciUart implements Device, Flushes {
  readonly name: string;
  readonly stateVersion = 1;
  /** For the bus, which must have it before the guest runs. */
  readonly pciFunction: PciFunction;
  readonly #port: UartPort;

  constructor(host: Pick<DeviceHost, "clock">, options: PciUartOptions) {
    this.name = options.name;
    const port = new UartPort(host.clock, options, {
      interrupt: (level) => this.pciFunction.setIntx(level),
      changed: () => {},
    });
    this.#port = port;
    const handler = {
      read: (offset: number, size: number) => readBytes(size, (lane) => port.read(offset + lane)),
      write: (offset: number, size: number, value: number) =>
        writeBytes(size, value, (lane, byte) => port.write(offset + lane, byte)),
    };
    this.pciFunction = new PciFunction({
      name: options.name,
      ...IDENTITY,
      classCode: CLASS_SERIAL_16550,
      intx: true,
      bars: [{ index: 0, kind: "io", size: LENGTH, ways: WAYS, handler }],
    });
  }

  flush(): void {
    this.#port.flush();
  }
  reset(): void {
    this.#port.reset();
    this.pciFunction.reset();
  }
  save(): unknown {
    return { port: this.#port.save(), function: this.pciFunction.save() };
  }
  restore(state: unknown): void {
    const saved = STATE(state, this.name);
    this.pciFunction.restore(saved.function);
    this.#port.restore(saved.port);
    this.pciFunction.setIntx(this.#port.interrupting);
  }
  dispose(): void {
    this.#port.dispose();
    this.pciFunction.dispose();
  }
}

// PM1 at 0x400 and the SMI command port, all direct: rare, and clearing a status bit must lower
// the SCI before the guest ends the interrupt. The PM timer at 0x408 is native.
import type { DeviceHost, Range } from "../../native/types.js";
import { readBytes, writeBytes } from "../bits.js";
import type { Device, PowerButton } from "../device.js";
import { AcpiPm } from "./model.js";
import {
  ACPI_PM_STATE,
  PM1_BASE,
  PM1_LENGTH,
  SCI_IRQ,
  SMI_COMMAND_LENGTH,
  SMI_COMMAND_PORT,
} from "./registers.js";

export interface AcpiPmCallbacks {
  /** The guest entered S5. */
  powerOff(): void;
  acpiEnabled?(on: boolean): void;
}

export class AcpiPmDevice implements Device, PowerButton {
  readonly name = "acpi-pm";
  readonly stateVersion = 1;
  readonly #host: DeviceHost;
  readonly #callbacks: AcpiPmCallbacks;
  readonly #chip: AcpiPm;
  readonly #ranges: readonly Range[];
  #announced = false;

  constructor(host: DeviceHost, callbacks: AcpiPmCallbacks) {
    this.#host = host;
    this.#callbacks = callbacks;
    const line = host.interrupts.isa(SCI_IRQ);
    const chip = new AcpiPm({
      sci: (level) => line.set(level),
      powerOff: () => callbacks.powerOff(),
    });
    this.#chip = chip;
    this.#ranges = [
      host.bus.map(
        { name: "acpi-pm1", space: "pio", base: PM1_BASE, length: PM1_LENGTH },
        {
          read: (offset, size) => chip.read(offset, size),
          write: (offset, size, value) => chip.write(offset, size, value),
        },
      ),
      host.bus.map(
        { name: "smi-command", space: "pio", base: SMI_COMMAND_PORT, length: SMI_COMMAND_LENGTH },
        {
          read: (offset, size) => readBytes(size, (lane) => chip.readSmi(offset + lane)),
          write: (offset, size, value) => {
            writeBytes(size, value, (lane, byte) => chip.writeSmi(offset + lane, byte));
            this.#announce();
          },
        },
      ),
    ];
    this.#setTrigger();
  }

  get acpiEnabled(): boolean {
    return this.#chip.acpiEnabled;
  }
  press(): boolean {
    return this.#chip.pressPowerButton();
  }

  reset(): void {
    this.#chip.reset();
    this.#setTrigger();
    this.#announce();
  }
  save(): unknown {
    return this.#chip.save();
  }
  restore(state: unknown): void {
    this.#chip.restore(ACPI_PM_STATE(state, this.name));
    this.#announce();
  }
  dispose(): void {
    for (const range of this.#ranges) range.remove();
  }

  /** The SCI is level-triggered also at the 8259: what firmware would program. */
  #setTrigger(): void {
    this.#host.interrupts.trigger(SCI_IRQ, true);
  }

  #announce(): void {
    if (this.acpiEnabled === this.#announced) return;
    this.#announced = this.acpiEnabled;
    this.#callbacks.acpiEnabled?.(this.#announced);
  }
}

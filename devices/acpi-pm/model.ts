// ACPI's fixed hardware: PM1 events and control, the port that turns ACPI on, the power button.
import { RegisterFile } from "../registers.js";
import {
  ACPI_DISABLE,
  ACPI_ENABLE,
  type AcpiPmState,
  PM1,
  PM1_CONTROL,
  PM1_STATUS,
  SLEEP_TYPE_S5,
  sleepType,
} from "./registers.js";

export interface AcpiPmPins {
  /** The system control interrupt, high-active at the chip. */
  sci(level: boolean): void;
  powerOff(): void;
}

export class AcpiPm {
  readonly #pins: AcpiPmPins;
  readonly #pm1: RegisterFile<keyof typeof PM1>;
  #smi = 0;
  #smiData = 0;

  constructor(pins: AcpiPmPins) {
    this.#pins = pins;
    this.#pm1 = new RegisterFile(PM1, {
      status: () => this.#update(),
      enable: () => this.#update(),
      control: (now) => this.#sleep(now),
    });
  }

  get acpiEnabled(): boolean {
    return (this.#pm1.get("control") & PM1_CONTROL.sciEnable) !== 0;
  }

  read(offset: number, size: number): number {
    return this.#pm1.read(offset, size);
  }
  write(offset: number, size: number, value: number): void {
    this.#pm1.write(offset, size, value);
  }

  /** Ports 0xB2 and 0xB3, command and data; only two commands do anything. */
  readSmi(offset: number): number {
    return offset === 0 ? this.#smi : this.#smiData;
  }
  writeSmi(offset: number, value: number): void {
    if (offset === 0) this.#command(value);
    else this.#smiData = value;
  }

  /** "Power Button": a guest without ACPI would never look at the bit. */
  pressPowerButton(): boolean {
    if (!this.acpiEnabled) return false;
    this.#pm1.set("status", this.#pm1.get("status") | PM1_STATUS.powerButton);
    this.#update();
    return true;
  }

  reset(): void {
    this.#pm1.reset();
    this.#smi = 0;
    this.#smiData = 0;
    this.#update();
  }

  save(): AcpiPmState {
    return {
      status: this.#pm1.get("status"),
      enable: this.#pm1.get("enable"),
      control: this.#pm1.get("control"),
      smi: this.#smi,
      smiData: this.#smiData,
    };
  }
  restore(state: AcpiPmState): void {
    for (const name of this.#pm1.names()) this.#pm1.set(name, state[name]);
    this.#smi = state.smi;
    this.#smiData = state.smiData;
    this.#update();
  }

  #command(value: number): void {
    this.#smi = value;
    const control = this.#pm1.get("control");
    if (value === ACPI_ENABLE) this.#pm1.set("control", control | PM1_CONTROL.sciEnable);
    if (value === ACPI_DISABLE) this.#pm1.set("control", control & ~PM1_CONTROL.sciEnable);
    this.#update();
  }

  /** S5 is the one sleeping state that the DSDT offers; other types are ignored. */
  #sleep(control: number): void {
    this.#pm1.set("control", control & ~PM1_CONTROL.sleepEnable);
    if (control & PM1_CONTROL.sleepEnable && sleepType(control) === SLEEP_TYPE_S5)
      this.#pins.powerOff();
  }

  /** WAK_STS and BM_STS raise no SCI: they have no enable bit. */
  #update(): void {
    const raised = this.#pm1.get("status") & this.#pm1.get("enable");
    this.#pins.sci(this.acpiEnabled && raised !== 0);
  }
}
